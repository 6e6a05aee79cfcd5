-- Calls that are owed to webhook endpoints: one row for each event and endpoint, written with the event.
CREATE TABLE am_webhook_deliveries (
    -- The webhook-id of every attempt.
    id TEXT NOT NULL PRIMARY KEY,
    -- A name of the configuration; addresses and secrets stand there alone.
    endpoint TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- What the event is known by at its source, so that it is never owed twice.
    source TEXT,
    -- The body as it is sent and signed.
    body TEXT NOT NULL,
    -- PENDING, DELIVERED, DEAD.
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- While an attempt is under way: when it counts as lost.
    next_attempt_at TEXT NOT NULL,
    -- Of the attempt that is under way; only who holds it may say what came of it.
    lease TEXT,
    last_status INTEGER,
    last_error TEXT,
    created_at TEXT NOT NULL,
    delivered_at TEXT
);
CREATE UNIQUE INDEX am_webhook_deliveries_source ON am_webhook_deliveries (endpoint, source) WHERE source IS NOT NULL;
-- What the workers ask for.
CREATE INDEX am_webhook_deliveries_due ON am_webhook_deliveries (endpoint, next_attempt_at) WHERE state = 'PENDING';
-- What lists and counts ask for.
CREATE INDEX am_webhook_deliveries_created ON am_webhook_deliveries (created_at, id);
CREATE INDEX am_webhook_deliveries_state ON am_webhook_deliveries (state, endpoint, created_at, id);
