-- Evaluation suites: named sets of cases. A version never changes.
CREATE TABLE am_suites (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    name TEXT NOT NULL,
    latest INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (owner_id, name)
);
CREATE INDEX am_suites_page ON am_suites (owner_id, created_at, id);
CREATE INDEX am_suites_all ON am_suites (created_at, id);

CREATE TABLE am_suite_versions (
    suite_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    description TEXT NOT NULL,
    -- The step whose output is checked; null: the only one, or all by key.
    output_step TEXT,
    cases INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (suite_id, version)
) WITHOUT ROWID;

CREATE TABLE am_suite_cases (
    suite_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- Number of the case, from 1.
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    input TEXT NOT NULL,
    -- How the output is checked, as JSON.
    rule TEXT NOT NULL,
    weight REAL NOT NULL,
    -- Of input and rule: cases of two versions with the same are the same case.
    sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (suite_id, version, created_at, id)
) WITHOUT ROWID;

CREATE TABLE am_evaluations (
    id TEXT NOT NULL PRIMARY KEY,
    suite_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    owner_id TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    -- The workflow, or the policy's version.
    target_id TEXT NOT NULL,
    -- The workflow, or the policy's name.
    target_name TEXT NOT NULL,
    -- The agent whose work it evaluates; null: none was named.
    agent_id TEXT,
    -- What is run for each case; null: it is not made yet.
    workflow_id TEXT,
    parallel INTEGER NOT NULL,
    state TEXT NOT NULL,
    cases INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    passed INTEGER NOT NULL DEFAULT 0,
    score REAL,
    low REAL,
    high REAL,
    -- How the interval was computed.
    method TEXT,
    reason TEXT,
    created_at TEXT NOT NULL,
    ended_at TEXT
);
CREATE INDEX am_evaluations_page ON am_evaluations (suite_id, created_at, id);
CREATE INDEX am_evaluations_target ON am_evaluations (suite_id, target_kind, target_name, created_at, id);
CREATE INDEX am_evaluations_open ON am_evaluations (id) WHERE state IN ('RUNNING', 'CANCELLING');

CREATE TABLE am_evaluation_results (
    evaluation_id TEXT NOT NULL,
    -- Number of the case.
    id INTEGER NOT NULL,
    state TEXT NOT NULL,
    execution_id TEXT,
    -- From 0 to 1; null: it has not ended.
    score REAL,
    reason TEXT,
    seconds REAL,
    cost INTEGER,
    created_at TEXT NOT NULL,
    PRIMARY KEY (evaluation_id, id)
) WITHOUT ROWID;
CREATE INDEX am_evaluation_results_page ON am_evaluation_results (evaluation_id, created_at, id);
CREATE INDEX am_evaluation_results_open ON am_evaluation_results (evaluation_id, id) WHERE state IN ('WAITING', 'RUNNING');

-- What a version must have shown before an alias of a policy may point to it.
CREATE TABLE am_alias_gates (
    id TEXT NOT NULL PRIMARY KEY,
    suite_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    alias TEXT NOT NULL,
    rule TEXT NOT NULL,
    -- Lower bound of the score that is asked for, or how much worse than the alias's version it may be.
    bound REAL NOT NULL,
    owner_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (policy, alias, suite_id, rule)
);
CREATE INDEX am_alias_gates_page ON am_alias_gates (suite_id, created_at, id);

-- What the coordinator's agent_capabilities does not hold of a capability.
CREATE TABLE am_capabilities (
    capability_id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    -- What its maker said, from 0 to 10.
    claimed_level REAL NOT NULL,
    -- Weights of the trials and of what was reached in them, as they were at evidence_at; they halve in 180 days.
    trials REAL NOT NULL DEFAULT 0,
    reached REAL NOT NULL DEFAULT 0,
    evidence INTEGER NOT NULL DEFAULT 0,
    evidence_at TEXT,
    created_at TEXT NOT NULL
);

-- What shows a capability. Nothing shows two.
CREATE TABLE am_capability_evidence (
    id TEXT NOT NULL PRIMARY KEY,
    capability_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    reference TEXT NOT NULL,
    trials REAL NOT NULL,
    reached REAL NOT NULL,
    -- When it was shown.
    shown_at TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (kind, reference)
);
CREATE INDEX am_capability_evidence_page ON am_capability_evidence (capability_id, created_at, id);
