-- Executions that have ended with a step that requires a proof, until the proof is begun. A row is written in the transaction of the end,
-- and deleted in the transaction that queues the proof.
CREATE TABLE am_proof_orders (
    execution_id TEXT NOT NULL PRIMARY KEY,
    ordered_at TEXT NOT NULL
) WITHOUT ROWID;
