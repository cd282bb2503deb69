-- Flows, executions, task runs, logs and metrics, as in SQLite. Columns ending in _us are microseconds since 1970, UTC;
-- BYTEA is msgpack unless said otherwise. Texts are ordered by their characters' numbers: ids grow that way.

CREATE TABLE flows (
    namespace  TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    revision   INTEGER NOT NULL,
    source     TEXT    NOT NULL,
    created_us BIGINT  NOT NULL,
    deleted    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, id, revision)
);

-- What changes while an execution runs. owner is the process that advances it.
CREATE TABLE executions (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    namespace  TEXT COLLATE "C" NOT NULL,
    flow_id    TEXT COLLATE "C" NOT NULL,
    revision   INTEGER NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    version    BIGINT  NOT NULL,
    owner      TEXT COLLATE "C" NOT NULL,
    created_us BIGINT  NOT NULL,
    ended_us   BIGINT,
    labels     TEXT    NOT NULL, -- JSON
    detail     BYTEA   NOT NULL -- history, outputs, attempt number, message
) WITH (fillfactor = 80);

CREATE INDEX executions_by_flow ON executions (namespace, flow_id, id DESC);
CREATE INDEX executions_open ON executions (owner)
    WHERE state NOT IN ('RETRIED', 'KILLED', 'CANCELLED', 'SUCCESS', 'WARNING', 'FAILED', 'SKIPPED');

-- What an execution was started with: inputs, variables, trigger, parent, original. Apart from the row above,
-- so that a hop never writes it again.
CREATE TABLE execution_starts (
    execution_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    body         BYTEA NOT NULL
);

-- rowid: rows stay in the order of their creation; that is the order in which people see them.
CREATE TABLE task_runs (
    rowid         BIGINT GENERATED ALWAYS AS IDENTITY,
    execution_id  TEXT COLLATE "C" NOT NULL,
    id            TEXT COLLATE "C" NOT NULL,
    task_id       TEXT    NOT NULL,
    parent_id     TEXT,
    value         TEXT,
    iteration     BIGINT,
    state         TEXT    NOT NULL,
    fence         BIGINT  NOT NULL,
    lost          BIGINT  NOT NULL,
    due_us        BIGINT,
    worker        TEXT,
    detail        BYTEA   NOT NULL, -- history, attempts, message
    outputs       BYTEA   NOT NULL,
    plan          BYTEA, -- what a flowable decided at its start
    PRIMARY KEY (execution_id, id)
) WITH (fillfactor = 80);

CREATE TABLE log_chunks (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id TEXT COLLATE "C" NOT NULL,
    task_run_id  TEXT COLLATE "C", -- NULL where the chunk holds lines of several
    lines        BIGINT  NOT NULL,
    level_mask   INTEGER NOT NULL, -- bit n is set where a line has the level of rank n
    first_us     BIGINT  NOT NULL,
    last_us      BIGINT  NOT NULL,
    encoding     TEXT    NOT NULL CHECK (encoding IN ('plain', 'zstd')),
    data         BYTEA   NOT NULL -- JSON, one line an entry
);

CREATE INDEX log_chunks_by_execution ON log_chunks (execution_id, id);

CREATE TABLE metrics (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id TEXT COLLATE "C" NOT NULL,
    task_id      TEXT    NOT NULL,
    task_run_id  TEXT COLLATE "C" NOT NULL,
    attempt      BIGINT  NOT NULL,
    type         TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    value        DOUBLE PRECISION NOT NULL,
    date_us      BIGINT  NOT NULL,
    tags         TEXT    NOT NULL -- JSON
);

CREATE INDEX metrics_by_execution ON metrics (execution_id, id);
