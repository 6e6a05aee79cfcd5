-- API keys that are made while the service runs. No secret stands here, only what one is recognised by.
CREATE TABLE am_api_keys (
    -- Eight hex digits: the part of a key that it is looked up by.
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- ADMIN, CLIENT, MINER.
    role TEXT NOT NULL,
    -- Whom the key stands for; drawn when it was made, and kept when its secret changes.
    principal TEXT NOT NULL UNIQUE,
    -- 16 bytes, and SHA-256(salt || secret), both in hex.
    salt TEXT NOT NULL,
    hash TEXT NOT NULL,
    -- The same of the secret before, and until when that is still good.
    previous_salt TEXT,
    previous_hash TEXT,
    previous_until TEXT,
    created_at TEXT NOT NULL,
    -- None: it does not expire.
    expires_at TEXT,
    rotated_at TEXT,
    revoked_at TEXT,
    -- Rises with each change of any key, so that other processes can tell that there is something new.
    revision INTEGER NOT NULL
);
CREATE INDEX am_api_keys_revision ON am_api_keys (revision);
