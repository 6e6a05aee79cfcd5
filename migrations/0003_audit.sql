-- The Merkle log over agent_audit_logs (RFC 6962): one leaf an entry, in the order of their commits. What of an entry a
-- page is chosen by stands here too, so that it can be looked up without reading the entries themselves.
CREATE TABLE am_audit_entries (
    -- Place in the log, from 1, without gaps: leaf seq - 1 of the tree.
    seq INTEGER NOT NULL PRIMARY KEY,
    audit_id TEXT NOT NULL UNIQUE,
    -- SHA-256 over all columns of the entry and its source, in hex.
    leaf_hash TEXT NOT NULL,
    -- service: written with the change it tells of; coordinator: written by the coordinator, sealed when seen.
    source TEXT NOT NULL,
    event_type TEXT NOT NULL,
    security_level TEXT NOT NULL,
    risk_score INTEGER NOT NULL,
    requires_investigation INTEGER NOT NULL
);
CREATE INDEX am_audit_entries_risk ON am_audit_entries (risk_score, seq);
CREATE INDEX am_audit_entries_investigate ON am_audit_entries (seq) WHERE requires_investigation;
CREATE TRIGGER am_audit_entries_kept BEFORE DELETE ON am_audit_entries
BEGIN
    SELECT RAISE(ABORT, 'the audit log is only appended to');
END;
CREATE TRIGGER am_audit_entries_unchanged BEFORE UPDATE ON am_audit_entries
BEGIN
    SELECT RAISE(ABORT, 'the audit log is only appended to');
END;

-- How many entries of each kind there are, kept in the transaction that appends them.
CREATE TABLE am_audit_counts (
    event_type TEXT NOT NULL,
    security_level TEXT NOT NULL,
    risk_score INTEGER NOT NULL,
    requires_investigation INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    PRIMARY KEY (event_type, security_level, risk_score, requires_investigation)
) WITHOUT ROWID;
CREATE TRIGGER am_audit_entries_counted AFTER INSERT ON am_audit_entries
BEGIN
    INSERT INTO am_audit_counts (event_type, security_level, risk_score, requires_investigation, entries)
    VALUES (new.event_type, new.security_level, new.risk_score, new.requires_investigation, 1)
    ON CONFLICT DO UPDATE SET entries = entries + 1;
END;

-- Hashes of complete subtrees of 256, 65536, ... leaves, so that a proof reads a few hundred hashes at most.
CREATE TABLE am_audit_tiles (
    -- 1: 256 leaves, 2: 65536, ...
    level INTEGER NOT NULL,
    -- Its place among those of its level, from 0.
    place INTEGER NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (level, place)
) WITHOUT ROWID;

-- Signed tree heads.
CREATE TABLE am_audit_heads (
    -- Entries below it.
    size INTEGER NOT NULL PRIMARY KEY,
    root TEXT NOT NULL,
    -- The C2SP checkpoint, whole.
    checkpoint TEXT NOT NULL,
    made_at TEXT NOT NULL
);

-- How sensitive a run is, for the entries of its own.
ALTER TABLE am_runs ADD COLUMN security_level TEXT NOT NULL DEFAULT 'INTERNAL';

-- How far those who read the log in order have come.
CREATE TABLE am_audit_cursors (
    reader TEXT NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL
);
