-- What a transaction of a settlement offers the block's maker, in wei; null: it was signed before this was kept, and offers as much as in
-- all at most.
ALTER TABLE am_settlement_transactions ADD COLUMN priority_fee INTEGER;

-- Transactions that move nothing, to the sender itself, with a number that nobody's transaction has any more: later ones wait for it.
CREATE TABLE am_settlement_fillers (
    -- In small letters, with 0x.
    hash TEXT PRIMARY KEY,
    -- Chain and sender.
    account TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    -- The bytes, in hex.
    raw TEXT NOT NULL,
    -- Highest price of gas, and the part for the block's maker, in wei.
    max_fee INTEGER NOT NULL,
    priority_fee INTEGER NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX am_settlement_fillers_account ON am_settlement_fillers (account, nonce);

-- Settlements of which nothing more comes.
CREATE INDEX am_settlements_ended ON am_settlements (updated_at, id) WHERE status IN ('confirmed', 'abandoned');
