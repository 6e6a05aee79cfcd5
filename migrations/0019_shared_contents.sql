-- The content of a message to several, stored once for all of its copies. Each copy has the key to it, encrypted for its
-- recipient, in am_messages.content.
CREATE TABLE am_message_contents (
    id TEXT NOT NULL PRIMARY KEY,
    -- JSON: nonce and ciphertext, or the content itself where its copies are not encrypted.
    content TEXT NOT NULL,
    created_at TEXT NOT NULL
);
-- None: the copy has its content itself.
ALTER TABLE am_messages ADD COLUMN content_id TEXT;

-- Who was seen last, and who was not seen for so long that it is forgotten.
CREATE INDEX am_presence_seen ON am_presence (seen_at);

-- What is known of webhook endpoints, whose addresses and secrets stand in the configuration alone.
CREATE TABLE am_webhook_endpoints (
    -- A name of the configuration.
    name TEXT NOT NULL PRIMARY KEY,
    -- Number of the last delivery.
    last_seq INTEGER NOT NULL DEFAULT 0,
    -- Attempts that failed since one succeeded.
    failures INTEGER NOT NULL DEFAULT 0,
    -- The endpoint is not called before; none: it answers, or an operator wants a call.
    closed_until TEXT,
    -- When it answered 410, and the hash of the address that did; none: it did not.
    gone_at TEXT,
    gone_address TEXT
);
-- Number of a delivery among those of its endpoint, in the order of their events; none: not called yet.
ALTER TABLE am_webhook_deliveries ADD COLUMN seq INTEGER;
-- What the workers ask for, in the order of the events.
CREATE INDEX am_webhook_deliveries_order ON am_webhook_deliveries (endpoint, seq) WHERE state = 'PENDING';
