-- How often a run was claimed since a checkpoint of it came further than any before. One that ends its process each time is
-- given up.
ALTER TABLE am_training_runs ADD COLUMN claims INTEGER NOT NULL DEFAULT 0;
-- Most steps that a checkpoint of it has had.
ALTER TABLE am_training_runs ADD COLUMN reached INTEGER NOT NULL DEFAULT 0;
-- When it last began or went on; none: not yet. The owner who was served longest ago is next.
ALTER TABLE am_training_runs ADD COLUMN served_at TEXT;
-- How often it began anew, because its checkpoint could not be used, and why it last did.
ALTER TABLE am_training_runs ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE am_training_runs ADD COLUMN restart_reason TEXT;
-- What the gate before its aliases decided, as JSON; null: it has none, or has not been asked.
ALTER TABLE am_training_runs ADD COLUMN promotion TEXT NOT NULL DEFAULT 'null';
CREATE INDEX am_training_runs_served ON am_training_runs (owner_id, served_at);
CREATE INDEX am_training_runs_unended ON am_training_runs (owner_id) WHERE status IN ('queued', 'running', 'paused');

-- Weights have a quota per owner, and a file is deleted with the last version that has it.
CREATE INDEX am_policy_versions_owner ON am_policy_versions (owner_id, source, size_bytes);
CREATE INDEX am_policy_versions_file ON am_policy_versions (sha256);

-- Since when its aliases and its split are what they are; none: since before this was kept.
ALTER TABLE am_policies ADD COLUMN serving_since TEXT;

-- What became of calls, as their callers report it: one reward for each call.
CREATE TABLE am_act_outcomes (
    policy TEXT NOT NULL,
    call_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    reward REAL NOT NULL,
    called_at TEXT NOT NULL,
    reported_by TEXT NOT NULL,
    reported_at TEXT NOT NULL,
    PRIMARY KEY (policy, call_id)
) WITHOUT ROWID;
CREATE INDEX am_act_outcomes_called ON am_act_outcomes (called_at);
-- The same in sums, by version and by what was served when.
CREATE TABLE am_act_outcome_sums (
    policy TEXT NOT NULL,
    serving_since TEXT NOT NULL,
    version INTEGER NOT NULL,
    count INTEGER NOT NULL,
    mean REAL NOT NULL,
    -- Sum of the squared differences from the mean.
    squares REAL NOT NULL,
    PRIMARY KEY (policy, serving_since, version)
) WITHOUT ROWID;

-- Dispatch goes through each client's own waiting assignments of a type.
CREATE INDEX am_assignments_waiting ON am_assignments (client_id, task_type, priority, placed_at, id)
    WHERE state = 'WAITING';

-- Who an agent's id belonged to last. Another owner's registration of it is another incarnation, with a record of its own.
CREATE TABLE am_agent_incarnations (
    agent_id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    incarnation INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO am_agent_incarnations (agent_id, owner_id, incarnation) SELECT id, owner_id, 1 FROM am_agents;
-- Those without an agent: nobody is known to have been their owner.
INSERT INTO am_agent_incarnations (agent_id, owner_id, incarnation)
    SELECT DISTINCT agent_id, '', 1 FROM am_agent_work
    WHERE agent_id NOT IN (SELECT id FROM am_agents);
ALTER TABLE am_assignment_attempts ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 1;
