-- Slots of flows with a concurrency limit, timers of executions, tasks that follow an execution's end, triggers, and
-- key-value pairs. Columns as in the first step.

-- When its own timer fires; whether it has one of its flow's slots, which counts while it is open; whether it has ended
-- and tasks that follow its end still run; its variables, NULL until they change: then those of its start.
ALTER TABLE executions ADD COLUMN due_us INTEGER;
ALTER TABLE executions ADD COLUMN slot INTEGER NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN closing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN variables BLOB;

DROP INDEX executions_open;
CREATE INDEX executions_open ON executions (id, owner)
    WHERE (state NOT IN ('CANCELLED', 'FAILED', 'KILLED', 'RETRIED', 'SKIPPED', 'SUCCESS', 'WARNING') OR closing = 1);
CREATE INDEX executions_with_slot ON executions (namespace, flow_id)
    WHERE slot = 1
    AND (state NOT IN ('CANCELLED', 'FAILED', 'KILLED', 'RETRIED', 'SKIPPED', 'SUCCESS', 'WARNING') OR closing = 1);
CREATE INDEX executions_queued ON executions (namespace, flow_id, id) WHERE state = 'QUEUED' AND slot = 0;

-- Whoever counts the slots of a flow writes here first, so that nobody else counts them meanwhile.
CREATE TABLE slot_claims (
    namespace TEXT    NOT NULL,
    flow_id   TEXT    NOT NULL,
    claims    INTEGER NOT NULL,
    PRIMARY KEY (namespace, flow_id)
) WITHOUT ROWID;

CREATE TABLE triggers (
    namespace    TEXT    NOT NULL,
    flow_id      TEXT    NOT NULL,
    trigger_id   TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    next_us      INTEGER, -- NULL: time alone does nothing
    execution_id TEXT,
    disabled     INTEGER NOT NULL,
    detail       BLOB    NOT NULL, -- what its kind keeps
    updated_us   INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    PRIMARY KEY (namespace, flow_id, trigger_id)
) WITHOUT ROWID;

CREATE INDEX triggers_due ON triggers (next_us) WHERE next_us IS NOT NULL AND disabled = 0;

CREATE TABLE trigger_windows (
    namespace  TEXT    NOT NULL,
    flow_id    TEXT    NOT NULL,
    trigger_id TEXT    NOT NULL,
    window_id  TEXT    NOT NULL,
    start_us   INTEGER NOT NULL,
    end_us     INTEGER NOT NULL,
    results    TEXT    NOT NULL, -- JSON
    PRIMARY KEY (namespace, flow_id, trigger_id, window_id)
) WITHOUT ROWID;

CREATE TABLE key_values (
    namespace   TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    value       BLOB    NOT NULL,
    created_us  INTEGER NOT NULL,
    updated_us  INTEGER NOT NULL,
    expires_us  INTEGER, -- NULL: never
    description TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    PRIMARY KEY (namespace, key)
);
