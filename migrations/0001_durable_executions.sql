-- The definition a run was started with, by the SHA-256 of its canonical JSON: a later edit of the workflow
-- does not change a run that is under way.
CREATE TABLE am_definitions (
    hash TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    created_at TEXT NOT NULL
);

-- What the engine must know of an execution beyond the coordinator's columns.
CREATE TABLE am_runs (
    execution_id TEXT NOT NULL PRIMARY KEY,
    definition_hash TEXT NOT NULL,
    inputs TEXT NOT NULL,
    verification_level TEXT NOT NULL,
    max_execution_time INTEGER NOT NULL,
    max_cost_budget REAL NOT NULL,
    -- ready: waits for a worker; driven: a worker holds it; ended: nothing is left to do.
    state TEXT NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    -- Raised by each change of hands; a write with an older one is refused.
    fence INTEGER NOT NULL DEFAULT 0,
    active_seconds REAL NOT NULL DEFAULT 0,
    reserved_cost REAL NOT NULL DEFAULT 0,
    last_event INTEGER NOT NULL DEFAULT 0,
    trace_id TEXT,
    queued_at TEXT NOT NULL
);
CREATE INDEX am_runs_open ON am_runs (state, queued_at) WHERE state <> 'ended';

-- Processes that drive executions. One that is gone is known by its lock file or its lease.
CREATE TABLE am_workers (
    id TEXT NOT NULL PRIMARY KEY,
    started_at TEXT NOT NULL,
    heartbeat_at TEXT NOT NULL,
    lease_until TEXT NOT NULL
);

-- Durable event streams: one row a commit, holding the events first_seq to last_seq as a JSON array.
CREATE TABLE am_events (
    stream TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    batch TEXT NOT NULL,
    PRIMARY KEY (stream, last_seq)
) WITHOUT ROWID;

-- Answers to requests that carried an Idempotency-Key, written with the effect they tell of.
CREATE TABLE am_idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    answer TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX am_idempotency_age ON am_idempotency (created_at);

-- Networks of agents.
CREATE TABLE am_networks (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    agents TEXT NOT NULL,
    coordination_strategy TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_networks_owner ON am_networks (owner_id);
