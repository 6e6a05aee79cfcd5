-- The code of an entry of this service's own: an HMAC over its id and its leaf, by a key that is not in the database; null
-- for others' entries and for those older than this column.
ALTER TABLE am_audit_entries ADD COLUMN mac TEXT;

-- An entry that nobody but the service can have made keeps its leaf. One that only claims to be the service's own is given to
-- the coordinator, before a head covers it.
DROP TRIGGER am_audit_entries_unchanged;
CREATE TRIGGER am_audit_entries_unchanged BEFORE UPDATE ON am_audit_entries
WHEN new.seq <> old.seq OR new.audit_id <> old.audit_id OR old.source = 'coordinator' OR new.source <> 'coordinator'
    OR old.seq <= (SELECT coalesce(max(size), 0) FROM am_audit_heads)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is only appended to');
END;

-- The keys that signed heads of the log.
CREATE TABLE am_audit_keys (
    -- Size of the first head that it signs.
    first_size INTEGER NOT NULL PRIMARY KEY,
    -- In hex, and as verifiers of signed notes take it.
    public_key TEXT NOT NULL,
    verifier_key TEXT NOT NULL,
    -- first, rotated, replaced.
    change TEXT NOT NULL,
    -- The entry that tells of the change.
    audit_id TEXT,
    begun_at TEXT NOT NULL
);
