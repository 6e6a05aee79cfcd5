-- Changes of portfolios that are written to a contract on a chain, each stored in the transaction of its change.
CREATE TABLE am_settlements (
    id TEXT PRIMARY KEY,
    -- Place in the order in which they are sent.
    place INTEGER NOT NULL UNIQUE,
    owner_id TEXT NOT NULL,
    portfolio_id INTEGER NOT NULL,
    agent_address TEXT NOT NULL,
    -- create, opening, deposit, withdrawal, trade, rebalance.
    kind TEXT NOT NULL,
    -- Of am_portfolio_flows, portfolio_trade or rebalance_history; null: of the portfolio itself.
    subject_id INTEGER,
    -- What is written, as JSON.
    content TEXT NOT NULL,
    -- pending, signed, sent, unknown, confirmed, reverted, superseded, abandoned.
    status TEXT NOT NULL,
    -- Why it is in this state, where that needs words.
    reason TEXT,
    -- Transactions that were signed for it.
    attempts INTEGER NOT NULL,
    -- Of the last of these, or the one that was mined; null: none was signed.
    nonce INTEGER,
    transaction_hash TEXT,
    block INTEGER,
    -- 1: its transaction is to be replaced by one that pays more.
    reprice INTEGER NOT NULL DEFAULT 0,
    -- Since when it is to be sent.
    queued_at TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
-- In the words of the statements that need their order; by "status = ..." alone the index of the list would be taken, and sorted.
CREATE INDEX am_settlements_pending ON am_settlements (place) WHERE status || '' = 'pending';
CREATE INDEX am_settlements_flight ON am_settlements (place) WHERE status || '' IN ('signed', 'sent', 'unknown');
CREATE INDEX am_settlements_page ON am_settlements (created_at, id);
CREATE INDEX am_settlements_owner ON am_settlements (owner_id, created_at, id);
CREATE INDEX am_settlements_status ON am_settlements (status, created_at, id);
CREATE INDEX am_settlements_portfolio ON am_settlements (portfolio_id, created_at, id);

-- Transactions as they were signed, stored before they are sent: the same bytes are sent again, never others with another number.
CREATE TABLE am_settlement_transactions (
    -- In small letters, with 0x.
    hash TEXT PRIMARY KEY,
    settlement_id TEXT NOT NULL,
    -- Chain and sender, whose numbers (nonces) follow each other.
    account TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    -- The bytes, in hex.
    raw TEXT NOT NULL,
    -- Highest price of gas, in wei.
    max_fee INTEGER NOT NULL,
    -- 1: it is in the chain, for good.
    mined INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
);
CREATE INDEX am_settlement_transactions_of ON am_settlement_transactions (settlement_id);
CREATE INDEX am_settlement_transactions_account ON am_settlement_transactions (account, nonce);
CREATE INDEX am_settlement_transactions_mined ON am_settlement_transactions (account, nonce) WHERE mined = 1;

-- The chain that a contract was first seen on: another one with the same id is told apart by its first block.
CREATE TABLE am_settlement_chains (
    chain_id INTEGER NOT NULL,
    contract TEXT NOT NULL,
    -- Hash of the chain's first block.
    genesis TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (chain_id, contract)
) WITHOUT ROWID;

-- The settlement of each; null: it is settled in the ledger alone.
ALTER TABLE am_portfolios ADD COLUMN settlement_id TEXT;
ALTER TABLE am_portfolio_flows ADD COLUMN settlement_id TEXT;
ALTER TABLE am_portfolio_trades ADD COLUMN settlement_id TEXT;
CREATE INDEX am_portfolio_trades_settlement ON am_portfolio_trades (settlement_id) WHERE settlement_id IS NOT NULL;
