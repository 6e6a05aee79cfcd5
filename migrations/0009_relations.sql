-- Public keys of agents, which messages to them are sealed to.
CREATE TABLE am_agent_keys (
    agent_id TEXT NOT NULL,
    -- The first 32 hex digits of the key's SHA-256.
    key_id TEXT NOT NULL,
    -- X25519, RSA.
    kind TEXT NOT NULL,
    -- The key in base64: 32 bytes of X25519, or DER of RSA.
    public_key TEXT NOT NULL,
    -- Who registered it.
    owner_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    revoked_at TEXT,
    PRIMARY KEY (agent_id, key_id)
);

-- What the server itself seals messages with, one active key a channel, each wrapped by a master key of the configuration.
CREATE TABLE am_message_data_keys (
    id TEXT NOT NULL PRIMARY KEY,
    channel_id TEXT NOT NULL,
    -- The name of the master key that wraps it.
    master_id TEXT NOT NULL,
    -- Nonce, ciphertext and tag in base64.
    wrapped TEXT NOT NULL,
    created_at TEXT NOT NULL,
    -- From then on it opens and seals no more.
    retired_at TEXT
);
CREATE UNIQUE INDEX am_message_data_keys_active ON am_message_data_keys (channel_id) WHERE retired_at IS NULL;
CREATE INDEX am_message_data_keys_master ON am_message_data_keys (master_id, id);

-- Whom an agent knows.
CREATE TABLE am_agent_contacts (
    agent_id TEXT NOT NULL,
    contact_id TEXT NOT NULL,
    note TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (agent_id, contact_id)
);

-- Whom an agent does not want to hear of, and will not write to.
CREATE TABLE am_agent_blocks (
    agent_id TEXT NOT NULL,
    blocked_id TEXT NOT NULL,
    reason TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (agent_id, blocked_id)
);

-- Whether an agent may take part; of whom nothing stands here, nobody has spoken.
CREATE TABLE am_agent_authorizations (
    agent_id TEXT NOT NULL PRIMARY KEY,
    -- GRANTED, REVOKED.
    state TEXT NOT NULL,
    reason TEXT,
    -- Who said so.
    by_id TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

-- Forms of messages that an agent made for itself.
CREATE TABLE am_message_templates (
    id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    message_type TEXT NOT NULL,
    -- JSON with {{names}} in it.
    content TEXT NOT NULL,
    price REAL NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (agent_id, name)
);
