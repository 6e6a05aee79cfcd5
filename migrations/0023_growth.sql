-- Indexes in the order of the lists that they serve, so that a page reads its own rows only.
CREATE INDEX am_networks_page ON am_networks (owner_id, created_at, id);
DROP INDEX am_networks_owner;
CREATE INDEX am_policies_page ON am_policies (created_at, name);
CREATE INDEX am_policy_versions_page ON am_policy_versions (name, created_at, id);
CREATE INDEX am_policy_aliases_moved ON am_policy_aliases (alias, updated_at);
CREATE INDEX am_training_runs_page ON am_training_runs (created_at, id);
CREATE INDEX am_agent_keys_page ON am_agent_keys (agent_id, created_at, key_id);
CREATE INDEX am_agent_contacts_page ON am_agent_contacts (agent_id, created_at, contact_id);
CREATE INDEX am_agent_blocks_page ON am_agent_blocks (agent_id, created_at, blocked_id);
CREATE INDEX am_message_templates_page ON am_message_templates (agent_id, created_at, id);
CREATE INDEX am_assignments_page ON am_assignments (execution_id, placed_at, id);
DROP INDEX am_assignments_execution;
CREATE INDEX am_plans_strategy ON am_plans (strategy, created_at);

-- Who is there, by process and by when they were seen.
CREATE INDEX am_presence_page ON am_presence (seen_at DESC, agent_id);
DROP INDEX am_presence_seen;
CREATE INDEX am_presence_online ON am_presence (seen_at DESC, agent_id) WHERE online;
CREATE INDEX am_presence_process ON am_presence (process) WHERE online;

-- The fastest agent of a type.
CREATE INDEX am_agent_work_fastest ON am_agent_work (task_type, (seconds / completed)) WHERE completed > 0;

-- What all agents together have completed, by type, kept with each change of am_agent_work.
CREATE TABLE am_agent_work_sums (
    task_type TEXT NOT NULL PRIMARY KEY,
    completed INTEGER NOT NULL,
    seconds REAL NOT NULL
) WITHOUT ROWID;
INSERT INTO am_agent_work_sums (task_type, completed, seconds)
    SELECT task_type, sum(completed), sum(seconds) FROM am_agent_work GROUP BY task_type;
CREATE TRIGGER am_agent_work_added AFTER INSERT ON am_agent_work
BEGIN
    INSERT INTO am_agent_work_sums (task_type, completed, seconds) VALUES (new.task_type, new.completed, new.seconds)
    ON CONFLICT (task_type) DO UPDATE SET completed = completed + excluded.completed, seconds = seconds + excluded.seconds;
END;
CREATE TRIGGER am_agent_work_changed AFTER UPDATE ON am_agent_work
BEGIN
    UPDATE am_agent_work_sums SET completed = completed + new.completed - old.completed, seconds = seconds + new.seconds - old.seconds
    WHERE task_type = new.task_type;
END;
CREATE TRIGGER am_agent_work_removed AFTER DELETE ON am_agent_work
BEGIN
    UPDATE am_agent_work_sums SET completed = completed - old.completed, seconds = seconds - old.seconds
    WHERE task_type = old.task_type;
END;

-- The delivery that was tried least, to find out whether an endpoint works again.
CREATE INDEX am_webhook_deliveries_tries ON am_webhook_deliveries (endpoint, attempts, seq) WHERE state = 'PENDING';

-- Number of deliveries, kept with each change of am_webhook_deliveries.
CREATE TABLE am_webhook_counts (
    endpoint TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    PRIMARY KEY (endpoint, kind, state)
) WITHOUT ROWID;
INSERT INTO am_webhook_counts (endpoint, kind, state, deliveries)
    SELECT endpoint, kind, state, count(*) FROM am_webhook_deliveries GROUP BY endpoint, kind, state;
CREATE TRIGGER am_webhook_deliveries_added AFTER INSERT ON am_webhook_deliveries
BEGIN
    INSERT INTO am_webhook_counts (endpoint, kind, state, deliveries) VALUES (new.endpoint, new.kind, new.state, 1)
    ON CONFLICT (endpoint, kind, state) DO UPDATE SET deliveries = deliveries + 1;
END;
CREATE TRIGGER am_webhook_deliveries_changed AFTER UPDATE OF state ON am_webhook_deliveries WHEN new.state <> old.state
BEGIN
    UPDATE am_webhook_counts SET deliveries = deliveries - 1
    WHERE endpoint = old.endpoint AND kind = old.kind AND state = old.state;
    INSERT INTO am_webhook_counts (endpoint, kind, state, deliveries) VALUES (new.endpoint, new.kind, new.state, 1)
    ON CONFLICT (endpoint, kind, state) DO UPDATE SET deliveries = deliveries + 1;
END;
CREATE TRIGGER am_webhook_deliveries_removed AFTER DELETE ON am_webhook_deliveries
BEGIN
    UPDATE am_webhook_counts SET deliveries = deliveries - 1
    WHERE endpoint = old.endpoint AND kind = old.kind AND state = old.state;
END;
