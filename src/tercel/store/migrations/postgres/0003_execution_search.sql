-- What executions are searched by. Columns as in the first step; rows written before have NULL in the new ones.

-- The trigger that started it; the execution that did, by a Subflow or a Flow trigger; the execution that it repeats, by
-- a replay or another try; what it is run for, NULL for its own sake.
ALTER TABLE executions
    ADD COLUMN trigger_id TEXT COLLATE "C",
    ADD COLUMN caller_id TEXT COLLATE "C",
    ADD COLUMN parent_id TEXT COLLATE "C",
    ADD COLUMN kind TEXT COLLATE "C";

-- Both hold all that is searched by, so that a search reads no row of the table that it does not give.
DROP INDEX executions_by_flow;
CREATE INDEX executions_by_flow ON executions (namespace, flow_id, id DESC)
    INCLUDE (created_us, state, ended_us, revision, trigger_id, caller_id, parent_id, kind);
CREATE INDEX executions_by_date ON executions (created_us DESC, id DESC)
    INCLUDE (namespace, flow_id, state, ended_us, revision, trigger_id, caller_id, parent_id, kind);
CREATE INDEX executions_by_caller ON executions (caller_id) WHERE caller_id IS NOT NULL;
CREATE INDEX executions_by_parent ON executions (parent_id) WHERE parent_id IS NOT NULL;

-- The labels of executions, long ones cut; system.correlationId only where it is not the execution's own id.
CREATE TABLE execution_labels (
    execution_id TEXT COLLATE "C" NOT NULL,
    key          TEXT COLLATE "C" NOT NULL,
    value        TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (execution_id, key)
);

-- Rows with U+0000, which no text may hold here, are left out.
INSERT INTO execution_labels (execution_id, key, value)
    SELECT executions.id, substr(entry.key, 1, 150), substr(entry.value, 1, 400)
    FROM executions,
        json_each_text((CASE WHEN strpos(labels, '\u0000') > 0 THEN '{}' ELSE labels END)::json) AS entry
    WHERE NOT (entry.key = 'system.correlationId' AND entry.value = executions.id)
    ON CONFLICT (execution_id, key) DO NOTHING;

CREATE INDEX execution_labels_by_value ON execution_labels (key, value, execution_id);
