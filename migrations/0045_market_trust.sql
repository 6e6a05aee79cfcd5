-- Evidence of trust between a paying client and an agent that it rated, decayed to as_of.
CREATE TABLE am_market_trust_pairs (
    rater TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    paid REAL NOT NULL,
    satisfaction REAL NOT NULL,
    as_of TEXT NOT NULL,
    -- Grows with each change of any pair.
    revision INTEGER NOT NULL,
    PRIMARY KEY (rater, agent_id)
);
CREATE INDEX am_market_trust_pairs_revision ON am_market_trust_pairs (revision);

-- Scores as last computed, each with what it is made of as JSON.
CREATE TABLE am_market_trust_scores (
    agent_id TEXT NOT NULL PRIMARY KEY,
    score REAL NOT NULL,
    place INTEGER NOT NULL,
    times_average REAL NOT NULL,
    explanation TEXT NOT NULL,
    computed_at TEXT NOT NULL
);
CREATE INDEX am_market_trust_scores_place ON am_market_trust_scores (place, agent_id);

-- One row: how the scores were computed last.
CREATE TABLE am_market_trust_run (
    id INTEGER NOT NULL PRIMARY KEY,
    seeding TEXT NOT NULL,
    rounds INTEGER NOT NULL,
    residual REAL NOT NULL,
    agents INTEGER NOT NULL,
    -- Revision of the pairs that they were computed from.
    revision INTEGER NOT NULL,
    computed_at TEXT NOT NULL
);

-- Numbers that grow, by name.
CREATE TABLE am_market_counters (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO am_market_counters (name, value) VALUES ('purchases', 0), ('trust_pairs', 0), ('paying_clients', 0);

-- Services that a client has paid for, once each, in order; counted: in the pairs below.
CREATE TABLE am_market_purchases (
    client TEXT NOT NULL,
    service_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    counted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (client, service_id)
);
CREATE INDEX am_market_purchases_client ON am_market_purchases (client, seq);
CREATE INDEX am_market_purchases_open ON am_market_purchases (seq) WHERE counted = 0;

-- How many clients paid for both services.
CREATE TABLE am_market_copaid (
    service_id TEXT NOT NULL,
    other_id TEXT NOT NULL,
    clients INTEGER NOT NULL,
    PRIMARY KEY (service_id, other_id)
) WITHOUT ROWID;
CREATE INDEX am_market_copaid_clients ON am_market_copaid (service_id, clients, other_id);

-- How many clients paid for a service.
CREATE TABLE am_market_popularity (
    service_id TEXT NOT NULL PRIMARY KEY,
    clients INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX am_market_popularity_clients ON am_market_popularity (clients, service_id);
