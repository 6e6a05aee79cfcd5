-- What strategies signal by, and what the coordinator's table of their signals has no column for.
-- A JSON list of rules; null: none.
ALTER TABLE am_portfolio_strategies ADD COLUMN signal_rules TEXT;

CREATE TABLE am_strategy_signals (
    -- Of strategy_signal.
    id INTEGER PRIMARY KEY,
    portfolio_id INTEGER NOT NULL,
    -- drift, momentum, reversion.
    rule TEXT NOT NULL,
    -- What was found, and from where on it signals: points, percent or standard deviations.
    measured REAL NOT NULL,
    threshold REAL NOT NULL,
    -- 0 to 1.
    strength REAL NOT NULL,
    -- Points by which a rebalance that follows it moves the token's target, below 0 down.
    tilt REAL NOT NULL,
    -- Of rebalance_history; null: none followed it.
    rebalance_id INTEGER,
    created_at TEXT NOT NULL
);
CREATE INDEX am_strategy_signals_portfolio ON am_strategy_signals (portfolio_id, id);

-- The last signal of each rule for each token, until its time is over.
CREATE TABLE am_open_signals (
    portfolio_id INTEGER NOT NULL,
    rule TEXT NOT NULL,
    token TEXT NOT NULL,
    -- buy, sell.
    side TEXT NOT NULL,
    -- Of strategy_signal.
    signal_id INTEGER NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (portfolio_id, rule, token)
) WITHOUT ROWID;
