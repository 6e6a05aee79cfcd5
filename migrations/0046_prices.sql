-- Prices of tokens in AIT: one for each token and time. Prices and amounts are whole numbers of the eighth decimal place.
CREATE TABLE am_prices (
    token TEXT NOT NULL,
    priced_at TEXT NOT NULL,
    price INTEGER NOT NULL,
    -- Who said so: a principal, or the configured source.
    source TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (token, priced_at)
) WITHOUT ROWID;

-- The last price of each day (UTC, as 2026-05-12), so that a history of days is read without the prices between them.
CREATE TABLE am_price_days (
    token TEXT NOT NULL,
    day TEXT NOT NULL,
    price INTEGER NOT NULL,
    priced_at TEXT NOT NULL,
    PRIMARY KEY (token, day)
) WITHOUT ROWID;
