-- Flows, executions, task runs, logs and metrics. Columns ending in _us are microseconds since 1970, UTC;
-- blobs are msgpack unless said otherwise.

CREATE TABLE flows (
    namespace  TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    source     TEXT    NOT NULL,
    created_us INTEGER NOT NULL,
    deleted    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, id, revision)
) WITHOUT ROWID;

-- What changes while an execution runs. `owner` is the process that advances it.
CREATE TABLE executions (
    id         TEXT    NOT NULL PRIMARY KEY,
    namespace  TEXT    NOT NULL,
    flow_id    TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    owner      TEXT    NOT NULL,
    created_us INTEGER NOT NULL,
    ended_us   INTEGER,
    labels     TEXT    NOT NULL, -- JSON
    detail     BLOB    NOT NULL -- history, outputs, attempt number, message
) WITHOUT ROWID;

CREATE INDEX executions_by_flow ON executions (namespace, flow_id, id DESC);
CREATE INDEX executions_open ON executions (owner)
    WHERE state NOT IN ('RETRIED', 'KILLED', 'CANCELLED', 'SUCCESS', 'WARNING', 'FAILED', 'SKIPPED');

-- What an execution was started with: inputs, variables, trigger, parent, original. Apart from the row above,
-- so that a hop never writes it again.
CREATE TABLE execution_starts (
    execution_id TEXT NOT NULL PRIMARY KEY,
    body         BLOB NOT NULL
) WITHOUT ROWID;

-- Rows stay in the order of their creation: that is the order in which people see them.
CREATE TABLE task_runs (
    execution_id  TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    task_id       TEXT    NOT NULL,
    parent_id     TEXT,
    value         TEXT,
    iteration     INTEGER,
    state         TEXT    NOT NULL,
    fence         INTEGER NOT NULL,
    lost          INTEGER NOT NULL,
    due_us        INTEGER,
    worker        TEXT,
    detail        BLOB    NOT NULL, -- history, attempts, message
    outputs       BLOB    NOT NULL,
    plan          BLOB, -- what a flowable decided at its start
    PRIMARY KEY (execution_id, id)
);

CREATE TABLE log_chunks (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT    NOT NULL,
    task_run_id  TEXT, -- NULL where the chunk holds lines of several
    lines        INTEGER NOT NULL,
    level_mask   INTEGER NOT NULL, -- bit n is set where a line has the level of rank n
    first_us     INTEGER NOT NULL,
    last_us      INTEGER NOT NULL,
    encoding     TEXT    NOT NULL CHECK (encoding IN ('plain', 'zstd')),
    data         BLOB    NOT NULL -- JSON, one line an entry
);

CREATE INDEX log_chunks_by_execution ON log_chunks (execution_id, id);

CREATE TABLE metrics (
    id           INTEGER PRIMARY KEY,
    execution_id TEXT    NOT NULL,
    task_id      TEXT    NOT NULL,
    task_run_id  TEXT    NOT NULL,
    attempt      INTEGER NOT NULL,
    type         TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    value        REAL    NOT NULL,
    date_us      INTEGER NOT NULL,
    tags         TEXT    NOT NULL -- JSON
);

CREATE INDEX metrics_by_execution ON metrics (execution_id, id);
