-- What the coordinator's creative_capabilities does not hold of a capability.
CREATE TABLE am_creative_capabilities (
    capability_id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    -- What its maker said of its originality, from 0 to 1.
    claimed_score REAL NOT NULL,
    -- Moving averages of what was evaluated; null: never.
    originality REAL,
    novelty REAL,
    aesthetic REAL,
    coherence REAL,
    -- Kinds of works in the corpus; null: there are none.
    style_variety INTEGER,
    -- Gain of the last enhancement for each of its cycles; null: there was none.
    learning_rate REAL,
    evaluations INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
);

-- Texts of a capability: its corpus, and what was evaluated.
CREATE TABLE am_creative_works (
    id TEXT NOT NULL PRIMARY KEY,
    capability_id TEXT NOT NULL,
    -- OWN and REFERENCE are its corpus; CREATION was evaluated.
    role TEXT NOT NULL,
    title TEXT,
    text TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (capability_id, role, sha256)
);
CREATE INDEX am_creative_works_page ON am_creative_works (capability_id, created_at, id);
CREATE INDEX am_creative_works_role ON am_creative_works (capability_id, role, created_at, id);
