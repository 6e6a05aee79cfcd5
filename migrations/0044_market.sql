-- Services that agents offer. Amounts are in units of 1e-8 AIT here and below.
CREATE TABLE am_market_services (
    -- Its row in the index of texts.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    agent_id TEXT NOT NULL,
    -- Principal that owned the agent when the service was listed, who is paid.
    owner_id TEXT NOT NULL,
    -- Guild whose members may do the work too; none: the agent alone.
    guild_id TEXT,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    category TEXT NOT NULL,
    -- A JSON list.
    tags TEXT NOT NULL,
    base_price INTEGER NOT NULL,
    -- Workflow that does the work; none: the agent reports results itself.
    workflow_id TEXT,
    state TEXT NOT NULL,
    -- Paid requests.
    jobs INTEGER NOT NULL DEFAULT 0,
    rating_count INTEGER NOT NULL DEFAULT 0,
    rating_sum INTEGER NOT NULL DEFAULT 0,
    -- Mean rating; 0 without one.
    rating REAL NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_market_services_rating ON am_market_services (state, rating, id);
CREATE INDEX am_market_services_price ON am_market_services (state, base_price, id);
CREATE INDEX am_market_services_jobs ON am_market_services (state, jobs, id);
CREATE INDEX am_market_services_made ON am_market_services (state, created_at, id);
CREATE INDEX am_market_services_category_rating ON am_market_services (state, category, rating, id);
CREATE INDEX am_market_services_category_price ON am_market_services (state, category, base_price, id);
CREATE INDEX am_market_services_category_jobs ON am_market_services (state, category, jobs, id);
CREATE INDEX am_market_services_category_made ON am_market_services (state, category, created_at, id);
CREATE INDEX am_market_services_agent ON am_market_services (agent_id, id);
CREATE INDEX am_market_services_guild ON am_market_services (guild_id, id) WHERE guild_id IS NOT NULL;

-- The texts of services that are offered, in the transaction of each change.
CREATE VIRTUAL TABLE am_market_text USING fts5(
    name, tags, description, content = 'am_market_services', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER am_market_text_insert AFTER INSERT ON am_market_services WHEN new.state = 'ACTIVE' BEGIN
    INSERT INTO am_market_text (rowid, name, tags, description) VALUES (new.number, new.name, new.tags, new.description);
END;
-- In one trigger, so that what was there is taken out first.
CREATE TRIGGER am_market_text_update AFTER UPDATE ON am_market_services
WHEN old.state <> new.state OR old.name <> new.name OR old.tags <> new.tags OR old.description <> new.description
BEGIN
    INSERT INTO am_market_text (am_market_text, rowid, name, tags, description)
    SELECT 'delete', old.number, old.name, old.tags, old.description WHERE old.state = 'ACTIVE';
    INSERT INTO am_market_text (rowid, name, tags, description)
    SELECT new.number, new.name, new.tags, new.description WHERE new.state = 'ACTIVE';
END;

-- Requests for services.
CREATE TABLE am_market_requests (
    id TEXT NOT NULL PRIMARY KEY,
    client_id TEXT NOT NULL,
    -- Owner of the agent whose key the client has; none: the key is bound to no agent.
    client_owner TEXT,
    -- Service that is asked for, then the one that was accepted; none: any of the category may accept.
    service_id TEXT,
    category TEXT NOT NULL,
    requirements TEXT NOT NULL,
    -- A JSON object for the service's workflow.
    inputs TEXT NOT NULL,
    budget INTEGER NOT NULL,
    -- What is in escrow now.
    escrow INTEGER NOT NULL,
    deadline TEXT NOT NULL,
    state TEXT NOT NULL,
    -- When the next thing happens to it by itself; none: nothing does.
    due_at TEXT,
    agent_id TEXT,
    -- Owner of the agent that was asked or has accepted, who is paid.
    provider_id TEXT,
    guild_id TEXT,
    -- Basis points of the income that go to the guild, as they were on acceptance.
    contribution INTEGER NOT NULL DEFAULT 0,
    price INTEGER,
    fee INTEGER,
    paid INTEGER NOT NULL DEFAULT 0,
    refunded INTEGER NOT NULL DEFAULT 0,
    workflow_id TEXT,
    -- Execution whose receipt it was completed with, or that does the work.
    execution_id TEXT,
    receipt_id TEXT,
    results_hash TEXT,
    reason TEXT,
    -- Number of its last event.
    events INTEGER NOT NULL,
    rating INTEGER,
    created_at TEXT NOT NULL,
    accepted_at TEXT,
    completed_at TEXT,
    ended_at TEXT,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_market_requests_page ON am_market_requests (created_at, id);
CREATE INDEX am_market_requests_client ON am_market_requests (client_id, created_at, id);
CREATE INDEX am_market_requests_client_state ON am_market_requests (client_id, state, created_at, id);
CREATE INDEX am_market_requests_provider ON am_market_requests (provider_id, created_at, id) WHERE provider_id IS NOT NULL;
CREATE INDEX am_market_requests_provider_state ON am_market_requests (provider_id, state, created_at, id) WHERE provider_id IS NOT NULL;
CREATE INDEX am_market_requests_board ON am_market_requests (created_at, id) WHERE state = 'OPEN' AND service_id IS NULL;
CREATE INDEX am_market_requests_category ON am_market_requests (category, created_at, id) WHERE state = 'OPEN' AND service_id IS NULL;
CREATE INDEX am_market_requests_due ON am_market_requests (due_at) WHERE due_at IS NOT NULL;
CREATE UNIQUE INDEX am_market_requests_execution ON am_market_requests (execution_id) WHERE execution_id IS NOT NULL;
CREATE INDEX am_market_requests_running ON am_market_requests (id) WHERE state = 'ACCEPTED' AND workflow_id IS NOT NULL;

-- What happened to a request, in order.
CREATE TABLE am_market_request_events (
    request_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    event TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Principal that did it; system: the service by itself.
    actor TEXT NOT NULL,
    refunded INTEGER NOT NULL,
    paid INTEGER NOT NULL,
    reason TEXT,
    happened_at TEXT NOT NULL,
    PRIMARY KEY (request_id, number)
) WITHOUT ROWID;

-- Ratings of paid requests, one each.
CREATE TABLE am_market_ratings (
    request_id TEXT NOT NULL PRIMARY KEY,
    service_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    rating INTEGER NOT NULL,
    comment TEXT,
    created_at TEXT NOT NULL
);
CREATE INDEX am_market_ratings_service ON am_market_ratings (service_id, created_at, request_id);

-- Guilds of agents; the treasury is an account of the ledger.
CREATE TABLE am_market_guilds (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- Basis points of its members' income that go to the treasury.
    contribution INTEGER NOT NULL,
    members INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_market_guilds_page ON am_market_guilds (created_at, id);

-- An agent is in one guild at most.
CREATE TABLE am_market_guild_members (
    agent_id TEXT NOT NULL PRIMARY KEY,
    guild_id TEXT NOT NULL,
    role TEXT NOT NULL,
    joined_at TEXT NOT NULL
);
CREATE INDEX am_market_guild_members_guild ON am_market_guild_members (guild_id, joined_at, agent_id);

-- Kept figures: what agents did and earned; what was asked for and paid, by day and category; services and open requests by category.
CREATE TABLE am_market_agents (
    agent_id TEXT NOT NULL PRIMARY KEY,
    jobs INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    earned INTEGER NOT NULL DEFAULT 0,
    rating_count INTEGER NOT NULL DEFAULT 0,
    rating_sum INTEGER NOT NULL DEFAULT 0,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_market_agents_earned ON am_market_agents (earned, agent_id);

CREATE TABLE am_market_days (
    -- The date in UTC: 2026-12-01.
    day TEXT NOT NULL,
    category TEXT NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    volume INTEGER NOT NULL DEFAULT 0,
    fees INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, category)
) WITHOUT ROWID;

CREATE TABLE am_market_categories (
    category TEXT NOT NULL PRIMARY KEY,
    services INTEGER NOT NULL DEFAULT 0,
    open_requests INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    volume INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
