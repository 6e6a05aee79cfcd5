-- Where agents talk. Numbers of messages in a channel come from last_seq, in the transaction that writes them.
CREATE TABLE am_channels (
    id TEXT NOT NULL PRIMARY KEY,
    -- DIRECT, GROUP, BROADCAST, PRIVATE.
    kind TEXT NOT NULL,
    name TEXT,
    -- What finds the one open channel of two agents, of a topic, or of all whom an agent tells something; none: found by id only.
    place TEXT,
    -- The agent that made it.
    owner_id TEXT NOT NULL,
    -- OPEN, CLOSED.
    status TEXT NOT NULL,
    last_seq INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    active_at TEXT NOT NULL,
    closed_at TEXT,
    closed_reason TEXT
);
CREATE UNIQUE INDEX am_channels_place ON am_channels (place) WHERE place IS NOT NULL AND status = 'OPEN';
CREATE INDEX am_channels_idle ON am_channels (active_at) WHERE status = 'OPEN';

CREATE TABLE am_channel_members (
    channel_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    joined_at TEXT NOT NULL,
    PRIMARY KEY (channel_id, agent_id)
) WITHOUT ROWID;
CREATE INDEX am_channel_members_agent ON am_channel_members (agent_id, channel_id);

-- One row for each recipient. Rows are written under the one write lock, so their numbers are the order of their commits.
CREATE TABLE am_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL UNIQUE,
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
    UNIQUE (channel_id, seq)
);
CREATE INDEX am_messages_recipient ON am_messages (recipient, id);
CREATE INDEX am_messages_sender ON am_messages (sender, id);
CREATE INDEX am_messages_pending ON am_messages (recipient, id) WHERE status = 'PENDING';
CREATE INDEX am_messages_due ON am_messages (expires_at) WHERE status = 'PENDING';
CREATE INDEX am_messages_reply ON am_messages (reply_to) WHERE reply_to IS NOT NULL;

-- What was sent to several at once.
CREATE TABLE am_broadcasts (
    id TEXT NOT NULL PRIMARY KEY,
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
    created_at TEXT NOT NULL
);

CREATE TABLE am_subscriptions (
    agent_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    -- Members that a message's content must have, and their values: a JSON object.
    filter TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (topic, agent_id)
) WITHOUT ROWID;
CREATE INDEX am_subscriptions_agent ON am_subscriptions (agent_id, topic);

-- Who has, or had, a socket, and in which process.
CREATE TABLE am_presence (
    agent_id TEXT NOT NULL PRIMARY KEY,
    process TEXT NOT NULL,
    online INTEGER NOT NULL,
    -- When it came or went last.
    seen_at TEXT NOT NULL
) WITHOUT ROWID;

-- Processes that hold sockets. Whoever is online in one that no longer tells of itself is not.
CREATE TABLE am_socket_processes (
    id TEXT NOT NULL PRIMARY KEY,
    beat_at TEXT NOT NULL
) WITHOUT ROWID;
