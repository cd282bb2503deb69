-- Slots of flows with a concurrency limit, timers of executions, tasks that follow an execution's end, triggers, and
-- key-value pairs. Columns as in the first step.

-- When its own timer fires; whether it has one of its flow's slots, which counts while it is open; whether it has ended
-- and tasks that follow its end still run; its variables, NULL until they change: then those of its start.
ALTER TABLE executions
    ADD COLUMN due_us BIGINT,
    ADD COLUMN slot INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN closing INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN variables BYTEA;

DROP INDEX executions_open;
CREATE INDEX executions_open ON executions (id, owner)
    WHERE (state NOT IN ('CANCELLED', 'FAILED', 'KILLED', 'RETRIED', 'SKIPPED', 'SUCCESS', 'WARNING') OR closing = 1);
CREATE INDEX executions_with_slot ON executions (namespace, flow_id)
    WHERE slot = 1
    AND (state NOT IN ('CANCELLED', 'FAILED', 'KILLED', 'RETRIED', 'SKIPPED', 'SUCCESS', 'WARNING') OR closing = 1);
CREATE INDEX executions_queued ON executions (namespace, flow_id, id) WHERE state = 'QUEUED' AND slot = 0;

-- Whoever counts the slots of a flow writes here first, so that nobody else counts them meanwhile.
CREATE TABLE slot_claims (
    namespace TEXT COLLATE "C" NOT NULL,
    flow_id   TEXT COLLATE "C" NOT NULL,
    claims    BIGINT NOT NULL,
    PRIMARY KEY (namespace, flow_id)
);

-- Processes that work in the database, and when each was last known to hold its lock; in SQLite, files of the home.
CREATE TABLE processes (
    owner   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seen_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE triggers (
    namespace    TEXT COLLATE "C" NOT NULL,
    flow_id      TEXT COLLATE "C" NOT NULL,
    trigger_id   TEXT COLLATE "C" NOT NULL,
    type         TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    next_us      BIGINT, -- NULL: time alone does nothing
    execution_id TEXT,
    disabled     INTEGER NOT NULL,
    detail       BYTEA   NOT NULL, -- what its kind keeps
    updated_us   BIGINT  NOT NULL,
    version      BIGINT  NOT NULL,
    PRIMARY KEY (namespace, flow_id, trigger_id)
);

CREATE INDEX triggers_due ON triggers (next_us) WHERE next_us IS NOT NULL AND disabled = 0;

CREATE TABLE trigger_windows (
    namespace  TEXT COLLATE "C" NOT NULL,
    flow_id    TEXT COLLATE "C" NOT NULL,
    trigger_id TEXT COLLATE "C" NOT NULL,
    window_id  TEXT COLLATE "C" NOT NULL,
    start_us   BIGINT NOT NULL,
    end_us     BIGINT NOT NULL,
    results    TEXT   NOT NULL, -- JSON
    PRIMARY KEY (namespace, flow_id, trigger_id, window_id)
);

CREATE TABLE key_values (
    namespace   TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    value       BYTEA  NOT NULL,
    created_us  BIGINT NOT NULL,
    updated_us  BIGINT NOT NULL,
    expires_us  BIGINT, -- NULL: never
    description TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    PRIMARY KEY (namespace, key)
);
