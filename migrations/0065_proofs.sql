-- What was proved of executions.
CREATE TABLE am_proofs (
    id TEXT NOT NULL PRIMARY KEY,
    execution_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    status TEXT NOT NULL,
    -- What is shown of it, as JSON.
    document TEXT NOT NULL,
    -- What its background work is to do, as JSON, with the seed of the commitments' salts: it is never shown.
    plan TEXT NOT NULL DEFAULT 'null',
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_proofs_execution ON am_proofs (execution_id, created_at, id);

-- Zero-knowledge proofs, each with what is needed to verify it.
CREATE TABLE am_proof_parts (
    execution_id TEXT NOT NULL,
    proof_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    -- As JSON.
    export TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (execution_id, proof_id, number)
) WITHOUT ROWID;
