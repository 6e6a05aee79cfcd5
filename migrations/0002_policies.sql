-- Policies: a name with immutable versions, and aliases that point at them.
CREATE TABLE am_policies (
    name TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    last_version INTEGER NOT NULL,
    -- Shares of the calls for a second version, as JSON; null: none.
    split TEXT NOT NULL DEFAULT 'null',
    -- Rises with each change of any policy, so that other processes can tell what is new to them.
    revision INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_policies_revision ON am_policies (revision);

-- The weights are a file below the data directory, named by its hash.
CREATE TABLE am_policy_versions (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    owner_id TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    form TEXT NOT NULL,
    action_names TEXT NOT NULL,
    state_names TEXT NOT NULL,
    environment TEXT,
    -- builtin, uploaded, trained, copied, learned.
    source TEXT NOT NULL,
    seed INTEGER,
    libtorch TEXT NOT NULL,
    training TEXT NOT NULL,
    scores TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE UNIQUE INDEX am_policy_versions_name ON am_policy_versions (name, version);
CREATE INDEX am_policy_versions_created ON am_policy_versions (created_at, id);
CREATE TRIGGER am_policy_versions_immutable BEFORE UPDATE ON am_policy_versions
BEGIN
    SELECT RAISE(ABORT, 'a version of a policy is never changed');
END;

CREATE TABLE am_policy_aliases (
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (name, alias)
) WITHOUT ROWID;

-- Where an alias pointed before each move, so that it can be rolled back.
CREATE TABLE am_policy_alias_moves (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    -- None: it did not stand before.
    from_version INTEGER,
    -- None: it was taken away.
    to_version INTEGER,
    rollback INTEGER NOT NULL DEFAULT 0,
    moved_by TEXT NOT NULL,
    moved_at TEXT NOT NULL
);
CREATE INDEX am_policy_alias_moves_alias ON am_policy_alias_moves (name, alias, seq);

-- Training runs.
CREATE TABLE am_training_runs (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    -- What it is to do, whole: it does not change when defaults do.
    work TEXT NOT NULL,
    status TEXT NOT NULL,
    -- What the caller asked of a run that a process drives: pause, cancel; none: nothing.
    wish TEXT,
    steps INTEGER NOT NULL,
    steps_done INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    -- Reward curve, losses, episodes.
    record TEXT NOT NULL DEFAULT 'null',
    -- The last checkpoint: its file, hash and steps.
    checkpoint TEXT NOT NULL DEFAULT 'null',
    -- What came of it.
    version INTEGER,
    scores TEXT NOT NULL DEFAULT 'null',
    ended_by TEXT,
    error TEXT,
    last_event INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_training_runs_open ON am_training_runs (status, created_at) WHERE status IN ('queued', 'running');
CREATE INDEX am_training_runs_owner ON am_training_runs (owner_id, created_at, id);
CREATE INDEX am_training_runs_policy ON am_training_runs (policy, created_at);

-- What a run that learns from feedback learns from.
CREATE TABLE am_training_feedback (
    run_id TEXT NOT NULL PRIMARY KEY,
    feedback TEXT NOT NULL
);

-- Agents that learn, each with a policy of its own.
CREATE TABLE am_learning (
    agent_id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    mode TEXT NOT NULL,
    learning_rate REAL NOT NULL,
    feedback_source TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
