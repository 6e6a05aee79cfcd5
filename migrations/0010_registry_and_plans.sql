-- Agents that offer to do sub-tasks.
CREATE TABLE am_agents (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    agent_type TEXT NOT NULL,
    description TEXT NOT NULL,
    -- A JSON list.
    task_types TEXT NOT NULL,
    gpu_tier TEXT NOT NULL,
    max_concurrent_tasks INTEGER NOT NULL,
    -- What it says of itself, 0 to 1; 1 in performance_reported: it measured that itself.
    claimed_performance REAL NOT NULL,
    performance_reported INTEGER NOT NULL DEFAULT 0,
    claimed_reliability REAL NOT NULL,
    cost_per_hour REAL NOT NULL,
    endpoint_url TEXT,
    metadata TEXT NOT NULL DEFAULT 'null',
    status TEXT NOT NULL,
    -- Why it is offline: silent (no heartbeat), requested.
    offline_reason TEXT,
    reported_load REAL,
    last_seen TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_agents_created ON am_agents (created_at, id);
CREATE INDEX am_agents_live ON am_agents (status, last_seen);

-- What became of the sub-tasks that an agent was given, by their type. It outlives the agent's entry.
CREATE TABLE am_agent_work (
    agent_id TEXT NOT NULL,
    task_type TEXT NOT NULL,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    -- Released because it went silent, or did not answer an offer.
    lost INTEGER NOT NULL DEFAULT 0,
    -- Of those that were completed.
    seconds REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (agent_id, task_type)
) WITHOUT ROWID;

-- The number of the registry's last event.
CREATE TABLE am_registry (
    stream TEXT NOT NULL PRIMARY KEY,
    last_event INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO am_registry (stream, last_event) VALUES ('registry', 0);

-- A sub-task that a step waits for: whoever has it now, and how it ended.
CREATE TABLE am_assignments (
    id TEXT NOT NULL PRIMARY KEY,
    execution_id TEXT NOT NULL,
    step_key TEXT NOT NULL,
    -- The workflow or plan that the execution is a run of.
    workflow_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    task_type TEXT NOT NULL,
    gpu_tier TEXT,
    agent_type TEXT,
    priority INTEGER NOT NULL,
    request TEXT NOT NULL,
    max_price REAL,
    estimated_seconds REAL,
    max_retries INTEGER NOT NULL,
    -- WAITING, OFFERED, ACCEPTED; COMPLETED, FAILED, CANCELLED.
    state TEXT NOT NULL,
    -- Raised by each offer: a report under an older number is refused.
    attempt INTEGER NOT NULL DEFAULT 0,
    agent_id TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    progress REAL NOT NULL DEFAULT 0,
    result TEXT NOT NULL DEFAULT 'null',
    error TEXT,
    seconds REAL,
    cost REAL,
    deadline TEXT NOT NULL,
    placed_at TEXT NOT NULL,
    offered_at TEXT,
    accepted_at TEXT,
    ended_at TEXT
);
CREATE INDEX am_assignments_open ON am_assignments (state, priority, placed_at)
    WHERE state IN ('WAITING', 'OFFERED', 'ACCEPTED');
CREATE INDEX am_assignments_held ON am_assignments (agent_id, state) WHERE state IN ('OFFERED', 'ACCEPTED');
CREATE INDEX am_assignments_execution ON am_assignments (execution_id, placed_at);

-- Who had an assignment, and what came of it.
CREATE TABLE am_assignment_attempts (
    assignment_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    agent_id TEXT NOT NULL,
    score REAL NOT NULL,
    cost_per_hour REAL NOT NULL,
    offered_at TEXT NOT NULL,
    accepted_at TEXT,
    ended_at TEXT,
    -- COMPLETED, FAILED, LOST, CANCELLED, EXPIRED; none: it has it still.
    outcome TEXT,
    reason TEXT,
    -- SHA-256 of what the agent reported at the end: a repetition is known by it.
    digest TEXT,
    seconds REAL,
    cost REAL,
    -- How the agent was told, and what was wrong with the last try.
    told_by TEXT,
    told_at TEXT,
    tell_error TEXT,
    PRIMARY KEY (assignment_id, attempt)
) WITHOUT ROWID;

-- What agents are still to be told.
CREATE TABLE am_assignment_notices (
    id INTEGER NOT NULL PRIMARY KEY,
    assignment_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    agent_id TEXT NOT NULL,
    -- TASK, CANCEL.
    kind TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    due_at TEXT NOT NULL
);
CREATE INDEX am_assignment_notices_due ON am_assignment_notices (due_at);

-- A task with its sub-tasks, stages, planned assignments and estimates. Its execution is the one whose workflow it is.
CREATE TABLE am_plans (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    strategy TEXT NOT NULL,
    document TEXT NOT NULL,
    estimated_seconds REAL,
    estimated_cost REAL,
    -- It holds one of the places of plans that run at once, since then.
    held_since TEXT,
    cancelled_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_plans_owner ON am_plans (owner_id, created_at, id);
CREATE INDEX am_plans_held ON am_plans (held_since) WHERE held_since IS NOT NULL;
