-- What the coordinator's tables of portfolios have no column for. Amounts and prices are whole numbers of the eighth decimal place.
CREATE TABLE am_portfolio_strategies (
    -- Of portfolio_strategy.
    id INTEGER PRIMARY KEY,
    owner_id TEXT NOT NULL,
    -- A JSON object: the sector of each token.
    sectors TEXT NOT NULL,
    -- A JSON object: the lot of each token.
    lot_sizes TEXT NOT NULL,
    -- Percent of the whole that one rebalance sells at most; null: no limit.
    max_turnover REAL,
    created_at TEXT NOT NULL
);
CREATE INDEX am_portfolio_strategies_owner ON am_portfolio_strategies (owner_id, created_at, id);
CREATE INDEX am_portfolio_strategies_order ON am_portfolio_strategies (created_at, id);

CREATE TABLE am_portfolios (
    -- Of agent_portfolio.
    id INTEGER PRIMARY KEY,
    owner_id TEXT NOT NULL,
    -- In small letters.
    agent_address TEXT NOT NULL UNIQUE,
    -- The time-weighted worth of a unit, 1 at the first deposit, and the highest it has been.
    unit_value REAL NOT NULL,
    peak_unit REAL NOT NULL,
    -- What it was worth after the last record, with that record's flow.
    last_value INTEGER NOT NULL,
    -- Fees and slippage so far.
    costs INTEGER NOT NULL,
    review_due_at TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX am_portfolios_owner ON am_portfolios (owner_id, created_at, id);
CREATE INDEX am_portfolios_order ON am_portfolios (created_at, id);
CREATE INDEX am_portfolios_due ON am_portfolios (review_due_at);

CREATE TABLE am_portfolio_assets (
    portfolio_id INTEGER NOT NULL,
    token TEXT NOT NULL,
    -- Deposits and what was bought, less withdrawals and what was sold, each at its price then.
    net_invested INTEGER NOT NULL,
    -- What was paid for what is held now, at its average.
    cost INTEGER NOT NULL,
    PRIMARY KEY (portfolio_id, token)
) WITHOUT ROWID;

-- What a portfolio was worth, before a flow of money and at times between.
CREATE TABLE am_portfolio_values (
    id INTEGER PRIMARY KEY,
    portfolio_id INTEGER NOT NULL,
    -- deposit, withdrawal, snapshot.
    cause TEXT NOT NULL,
    value INTEGER NOT NULL,
    -- What came in after that (or went out, below 0).
    flow INTEGER NOT NULL,
    unit_value REAL NOT NULL,
    costs INTEGER NOT NULL,
    -- A JSON list: token, amount, price, value, net_invested, before the flow.
    holdings TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX am_portfolio_values_order ON am_portfolio_values (portfolio_id, created_at, id);

-- The last record of each day (UTC).
CREATE TABLE am_portfolio_days (
    portfolio_id INTEGER NOT NULL,
    day TEXT NOT NULL,
    unit_value REAL NOT NULL,
    value INTEGER NOT NULL,
    measured_at TEXT NOT NULL,
    PRIMARY KEY (portfolio_id, day)
) WITHOUT ROWID;

CREATE TABLE am_portfolio_flows (
    id INTEGER PRIMARY KEY,
    portfolio_id INTEGER NOT NULL,
    -- deposit or withdrawal.
    direction TEXT NOT NULL,
    token TEXT NOT NULL,
    amount INTEGER NOT NULL,
    price INTEGER NOT NULL,
    value INTEGER NOT NULL,
    entry_id TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX am_portfolio_flows_order ON am_portfolio_flows (portfolio_id, created_at, id);

CREATE TABLE am_portfolio_quotes (
    id TEXT PRIMARY KEY,
    portfolio_id INTEGER NOT NULL,
    -- The terms as JSON.
    terms TEXT NOT NULL,
    -- The trade that took it; null: none did.
    trade_id INTEGER,
    expires_at TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE INDEX am_portfolio_quotes_expiry ON am_portfolio_quotes (expires_at);

CREATE TABLE am_portfolio_trades (
    -- Of portfolio_trade.
    id INTEGER PRIMARY KEY,
    portfolio_id INTEGER NOT NULL,
    -- The terms as JSON.
    terms TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    quote_id TEXT,
    -- Of rebalance_history; null: it was asked for by itself.
    rebalance_id INTEGER,
    created_at TEXT NOT NULL
);

-- Alerts whose condition holds: one of each kind for each token.
CREATE TABLE am_portfolio_open_alerts (
    portfolio_id INTEGER NOT NULL,
    alert_type TEXT NOT NULL,
    -- Empty: of the whole.
    token TEXT NOT NULL,
    -- Of portfolio_alert.
    alert_id INTEGER NOT NULL,
    PRIMARY KEY (portfolio_id, alert_type, token)
) WITHOUT ROWID;
