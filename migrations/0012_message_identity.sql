-- A message's id is its sender's: two agents may use the same. SQLite drops no constraint, so both tables are made again.
ALTER TABLE am_messages RENAME TO am_messages_old;
ALTER TABLE am_broadcasts RENAME TO am_broadcasts_old;

-- One row for each recipient. Rows are written under the one write lock, so their numbers are the order of their commits.
CREATE TABLE am_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- As its sender named it; of a copy and of an imported message, as this service did.
    message_id TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    -- Rises in a channel; a recipient may not see every number.
    seq INTEGER NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    -- What it is one copy of, where several got it.
    broadcast_id TEXT,
    topic TEXT,
    reply_to TEXT,
    -- TEXT, DATA, ...: what decides its price.
    kind TEXT NOT NULL,
    priority TEXT NOT NULL,
    -- AES256, RSA, HYBRID, HPKE, NONE; and who can open it.
    encryption TEXT NOT NULL,
    scope TEXT NOT NULL,
    key_id TEXT,
    -- As it is sealed.
    content TEXT NOT NULL,
    -- Of the content as it was sent, as JSON.
    bytes INTEGER NOT NULL,
    price REAL NOT NULL,
    payment_status TEXT NOT NULL,
    -- PENDING, DELIVERED, READ, EXPIRED, FAILED.
    status TEXT NOT NULL,
    failure TEXT,
    -- 1: the recipient had a socket when it was written, and was given it.
    pushed INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    delivered_at TEXT,
    read_at TEXT,
    -- Salt, a colon, and the salted hash of recipient, content and options; none: the service chose the id.
    draft_hash TEXT,
    -- Of an imported message: the export that it came with, who imported it, and its id there.
    imported_from TEXT,
    imported_by TEXT,
    imported_id TEXT,
    UNIQUE (channel_id, seq)
);
INSERT INTO am_messages (id, message_id, channel_id, seq, sender, recipient, broadcast_id, topic, reply_to, kind, priority,
    encryption, scope, key_id, content, bytes, price, payment_status, status, failure, pushed, created_at, expires_at,
    delivered_at, read_at)
SELECT id, message_id, channel_id, seq, sender, recipient, broadcast_id, topic, reply_to, kind, priority,
    encryption, scope, key_id, content, bytes, price, payment_status, status, failure, pushed, created_at, expires_at,
    delivered_at, read_at FROM am_messages_old ORDER BY id;
DROP TABLE am_messages_old;
CREATE INDEX am_messages_recipient ON am_messages (recipient, id);
CREATE INDEX am_messages_sender ON am_messages (sender, id);
CREATE INDEX am_messages_pending ON am_messages (recipient, id) WHERE status = 'PENDING';
CREATE INDEX am_messages_due ON am_messages (expires_at) WHERE status = 'PENDING';
CREATE INDEX am_messages_reply ON am_messages (reply_to) WHERE reply_to IS NOT NULL;
CREATE INDEX am_messages_message ON am_messages (message_id, recipient);
-- Ids that clients choose and ids of copies do not meet.
CREATE UNIQUE INDEX am_messages_own ON am_messages (sender, message_id) WHERE broadcast_id IS NULL;
CREATE UNIQUE INDEX am_messages_copy ON am_messages (sender, message_id) WHERE broadcast_id IS NOT NULL;
CREATE UNIQUE INDEX am_messages_imported ON am_messages (imported_id, sender, recipient) WHERE imported_id IS NOT NULL;

-- What was sent to several at once.
CREATE TABLE am_broadcasts (
    id TEXT NOT NULL,
    sender TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    topic TEXT,
    recipients INTEGER NOT NULL,
    pushed INTEGER NOT NULL,
    -- The last copy's number in the channel; 0: there is none.
    seq INTEGER NOT NULL,
    -- 1: every copy is stored as ciphertext.
    encrypted INTEGER NOT NULL,
    -- Of all copies.
    price REAL NOT NULL,
    -- Who was left out, and why: a JSON list.
    refused TEXT NOT NULL,
    created_at TEXT NOT NULL,
    -- As in am_messages.
    draft_hash TEXT,
    PRIMARY KEY (id, sender)
);
INSERT INTO am_broadcasts (id, sender, channel_id, topic, recipients, pushed, seq, encrypted, price, refused, created_at)
SELECT id, sender, channel_id, topic, recipients, pushed, seq, encrypted, price, refused, created_at FROM am_broadcasts_old;
DROP TABLE am_broadcasts_old;
