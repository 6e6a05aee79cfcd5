-- Cosignatures of witnesses over signed heads. Name and key id together name a witness's key.
CREATE TABLE am_audit_cosignatures (
    witness TEXT NOT NULL,
    key_id TEXT NOT NULL,
    -- Entries below the head.
    size INTEGER NOT NULL,
    -- When the witness signed.
    cosigned_at TEXT NOT NULL,
    -- The signature line in the checkpoint, without its newline.
    line TEXT NOT NULL,
    PRIMARY KEY (witness, key_id, size)
) WITHOUT ROWID;
CREATE INDEX am_audit_cosignatures_head ON am_audit_cosignatures (size);
CREATE TRIGGER am_audit_cosignatures_kept BEFORE DELETE ON am_audit_cosignatures
BEGIN
    SELECT RAISE(ABORT, 'the audit log is only appended to');
END;
CREATE TRIGGER am_audit_cosignatures_unchanged BEFORE UPDATE ON am_audit_cosignatures
BEGIN
    SELECT RAISE(ABORT, 'the audit log is only appended to');
END;
