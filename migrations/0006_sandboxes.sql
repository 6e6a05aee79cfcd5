-- What was seen of the sandbox of an execution; its rules stand in the coordinator's agent_sandbox_configs.
CREATE TABLE am_sandboxes (
    execution_id TEXT NOT NULL PRIMARY KEY,
    -- created, used, cleaned.
    status TEXT NOT NULL,
    isolation TEXT NOT NULL,
    -- What of its level the host did not enforce, as a JSON list.
    unenforced TEXT NOT NULL DEFAULT '[]',
    -- 1: somebody made it before a command needed it, and its rules hold for every step.
    fixed INTEGER NOT NULL,
    runs INTEGER NOT NULL DEFAULT 0,
    -- What all runs took, as JSON: times and outputs added, peaks the highest.
    totals TEXT NOT NULL DEFAULT 'null',
    -- What they have tried, as a JSON list.
    attempts TEXT NOT NULL DEFAULT '[]',
    breaches INTEGER NOT NULL DEFAULT 0,
    last_ended TEXT,
    last_exit_code INTEGER,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_sandboxes_status ON am_sandboxes (status, updated_at);
