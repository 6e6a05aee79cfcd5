-- Long work that outlives its request and its process.
CREATE TABLE am_background_tasks (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    -- What it is about: an agent, or a model.
    subject TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    -- What it is to do, whole, as JSON: it does not change when defaults do.
    parameters TEXT NOT NULL,
    seed INTEGER NOT NULL,
    status TEXT NOT NULL,
    -- What was asked of a task that a process drives: pause, cancel; none: nothing.
    wish TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    -- Latest figures, and the result, as JSON.
    note TEXT NOT NULL DEFAULT 'null',
    seconds REAL NOT NULL DEFAULT 0,
    result TEXT NOT NULL DEFAULT 'null',
    error TEXT,
    -- Claims since its last new checkpoint.
    claims INTEGER NOT NULL DEFAULT 0,
    last_event INTEGER NOT NULL DEFAULT 0,
    served_at TEXT,
    created_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_background_tasks_open ON am_background_tasks (status, created_at) WHERE status IN ('queued', 'running');
CREATE INDEX am_background_tasks_unended ON am_background_tasks (owner_id) WHERE status IN ('queued', 'running', 'paused');
CREATE INDEX am_background_tasks_served ON am_background_tasks (owner_id, served_at);
CREATE INDEX am_background_tasks_owner ON am_background_tasks (owner_id, created_at, id);
CREATE INDEX am_background_tasks_page ON am_background_tasks (created_at, id);
CREATE INDEX am_background_tasks_kind ON am_background_tasks (kind, created_at, id);
CREATE INDEX am_background_tasks_subject ON am_background_tasks (subject, created_at, id);

-- From where an open task goes on when its process is gone.
CREATE TABLE am_background_checkpoints (
    task_id TEXT NOT NULL PRIMARY KEY,
    content TEXT NOT NULL
);

-- What the coordinator's performance_optimizations does not hold of an optimisation that was made here.
CREATE TABLE am_optimisations (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    -- What is tuned: policy, workflow.
    tuned TEXT NOT NULL,
    -- Name of what is tuned: a policy, or a workflow's id.
    target TEXT NOT NULL,
    -- The budget, and the outcome, as JSON.
    budget TEXT NOT NULL,
    outcome TEXT NOT NULL DEFAULT 'null',
    error TEXT,
    -- What an applied change replaced, as JSON; null: it is not applied.
    replaced TEXT NOT NULL DEFAULT 'null',
    applied_at TEXT,
    rolled_back_at TEXT
);

-- Settings that trainings of a policy begin with, by the policy and its algorithm and environment.
CREATE TABLE am_tuned_settings (
    policy TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    environment TEXT NOT NULL,
    settings TEXT NOT NULL,
    optimization_id TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (policy, algorithm, environment)
) WITHOUT ROWID;

-- The list of performance_optimizations (0027_lists.sql says how lists are kept).
CREATE TABLE am_optimisation_list (
    id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX am_optimisation_list_page ON am_optimisation_list (agent_id, created_at, id, status);
CREATE INDEX am_optimisation_list_status ON am_optimisation_list (agent_id, status, created_at, id);
CREATE INDEX am_optimisation_list_open ON am_optimisation_list (id) WHERE status IN ('pending', 'running');
