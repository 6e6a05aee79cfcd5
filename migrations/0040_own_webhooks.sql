-- Webhook endpoints that callers made over the API. Their secrets are derived from a key outside the database.
CREATE TABLE am_webhook_hooks (
    -- Never used again, so that a process knows of changes by the highest one and their number.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    owner_id TEXT NOT NULL,
    url TEXT NOT NULL,
    -- A JSON list of kinds; none: all that the owner may receive.
    events TEXT NOT NULL,
    -- Whether it receives everybody's events.
    receives_all INTEGER NOT NULL,
    timeout_seconds REAL NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX am_webhook_hooks_owner ON am_webhook_hooks (owner_id);
