-- The ledger: accounts, and entries that move amounts between them. Amounts are whole numbers of the smallest unit, of which an
-- AIT has 10^8.
CREATE TABLE am_ledger_accounts (
    -- Derived from owner, asset and purpose.
    id TEXT NOT NULL PRIMARY KEY,
    -- A principal, agent:ID, guild:ID, portfolio:ID or system.
    owner TEXT NOT NULL,
    asset TEXT NOT NULL,
    purpose TEXT NOT NULL,
    -- Whether its balance may be below zero: 0 or 1.
    may_be_negative INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    -- The part of the balance that open holds keep.
    held INTEGER NOT NULL DEFAULT 0,
    -- Number of lines, and the time of the last one.
    lines INTEGER NOT NULL,
    posted_at TEXT NOT NULL,
    -- The last line, which a trigger adds to am_ledger_lines: its entry, the other account, whether it is a fee.
    last_entry TEXT NOT NULL,
    last_other TEXT NOT NULL,
    last_is_fee INTEGER NOT NULL,
    created_at TEXT NOT NULL
);
CREATE UNIQUE INDEX am_ledger_accounts_key ON am_ledger_accounts (owner, asset, purpose);
CREATE INDEX am_ledger_accounts_page ON am_ledger_accounts (created_at, id);
CREATE INDEX am_ledger_accounts_owner ON am_ledger_accounts (owner, created_at, id);

-- What happened. Rows are never changed and never deleted: a correction is an entry that names the one it reverses.
CREATE TABLE am_ledger_entries (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    -- What it is about, as execution and its id; none: nothing else.
    reference_kind TEXT,
    reference_id TEXT,
    -- Who spent it and for what.
    principal TEXT,
    agent_id TEXT,
    workflow_id TEXT,
    execution_id TEXT,
    note TEXT,
    -- The entry that this one takes back.
    reverses TEXT,
    -- A second entry under the same key is not posted.
    once_key TEXT,
    -- How much of it counts as spent, and how much of that on the agent alone.
    spent INTEGER NOT NULL,
    spent_on_agent INTEGER NOT NULL,
    created_at TEXT NOT NULL
);
CREATE UNIQUE INDEX am_ledger_entries_once ON am_ledger_entries (once_key) WHERE once_key IS NOT NULL;
CREATE UNIQUE INDEX am_ledger_entries_reverses ON am_ledger_entries (reverses) WHERE reverses IS NOT NULL;
CREATE INDEX am_ledger_entries_reference ON am_ledger_entries (reference_id, created_at, id) WHERE reference_id IS NOT NULL;

-- The lines of accounts, in their order, each with the balance after it. Each movement of an entry makes two: one of its amount
-- and one of the opposite.
CREATE TABLE am_ledger_lines (
    account_id TEXT NOT NULL,
    -- Never earlier than that of the line before.
    posted_at TEXT NOT NULL,
    -- From 1, without gaps.
    line_no INTEGER NOT NULL,
    entry_id TEXT NOT NULL,
    other_account TEXT NOT NULL,
    amount INTEGER NOT NULL,
    balance_after INTEGER NOT NULL,
    is_fee INTEGER NOT NULL,
    PRIMARY KEY (account_id, posted_at, line_no)
) WITHOUT ROWID;
CREATE INDEX am_ledger_lines_entry ON am_ledger_lines (entry_id);

-- A line is made by the change of its account's balance, so neither is without the other.
CREATE TRIGGER am_ledger_accounts_opened AFTER INSERT ON am_ledger_accounts
BEGIN
    SELECT RAISE(ABORT, 'ledger: balance below what it may be') WHERE new.balance < new.held AND NOT new.may_be_negative;
    INSERT INTO am_ledger_lines (account_id, posted_at, line_no, entry_id, other_account, amount, balance_after, is_fee)
    VALUES (new.id, new.posted_at, new.lines, new.last_entry, new.last_other, new.balance, new.balance, new.last_is_fee);
END;
CREATE TRIGGER am_ledger_accounts_posted AFTER UPDATE OF lines ON am_ledger_accounts
BEGIN
    INSERT INTO am_ledger_lines (account_id, posted_at, line_no, entry_id, other_account, amount, balance_after, is_fee)
    VALUES (new.id, new.posted_at, new.lines, new.last_entry, new.last_other, new.balance - old.balance, new.balance, new.last_is_fee);
END;
-- The last guard. A sum beyond 64 bits would become a float.
CREATE TRIGGER am_ledger_accounts_guard AFTER UPDATE ON am_ledger_accounts
WHEN (new.balance < new.held AND NOT new.may_be_negative) OR new.held < 0
    OR typeof(new.balance) <> 'integer' OR typeof(new.held) <> 'integer'
BEGIN
    SELECT RAISE(ABORT, 'ledger: balance below what it may be');
END;
CREATE TRIGGER am_ledger_accounts_kept BEFORE DELETE ON am_ledger_accounts
BEGIN
    SELECT RAISE(ABORT, 'ledger: accounts are not deleted');
END;
CREATE TRIGGER am_ledger_entries_fixed BEFORE UPDATE ON am_ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'ledger: entries are not changed');
END;
CREATE TRIGGER am_ledger_entries_kept BEFORE DELETE ON am_ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'ledger: entries are not deleted');
END;
CREATE TRIGGER am_ledger_lines_fixed BEFORE UPDATE ON am_ledger_lines
BEGIN
    SELECT RAISE(ABORT, 'ledger: lines are not changed');
END;
CREATE TRIGGER am_ledger_lines_kept BEFORE DELETE ON am_ledger_lines
BEGIN
    SELECT RAISE(ABORT, 'ledger: lines are not deleted');
END;

-- Parts of balances that are kept for something, until they are captured, released, or their time is over.
CREATE TABLE am_ledger_holds (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    captured INTEGER NOT NULL,
    released INTEGER NOT NULL,
    state TEXT NOT NULL,
    reference_kind TEXT NOT NULL,
    reference_id TEXT NOT NULL,
    principal TEXT,
    agent_id TEXT,
    workflow_id TEXT,
    execution_id TEXT,
    once_key TEXT,
    created_at TEXT NOT NULL,
    -- None: it has no end of its own.
    expires_at TEXT,
    -- None: it is open.
    ended_at TEXT
);
CREATE UNIQUE INDEX am_ledger_holds_once ON am_ledger_holds (once_key) WHERE once_key IS NOT NULL;
CREATE INDEX am_ledger_holds_page ON am_ledger_holds (account_id, created_at, id);
CREATE INDEX am_ledger_holds_due ON am_ledger_holds (expires_at, id) WHERE state = 'OPEN' AND expires_at IS NOT NULL;
CREATE INDEX am_ledger_holds_open ON am_ledger_holds (account_id, id) WHERE state = 'OPEN';
CREATE TRIGGER am_ledger_holds_made AFTER INSERT ON am_ledger_holds
BEGIN
    UPDATE am_ledger_accounts SET held = held + new.amount WHERE id = new.account_id;
END;
CREATE TRIGGER am_ledger_holds_changed AFTER UPDATE ON am_ledger_holds
BEGIN
    UPDATE am_ledger_accounts SET held = held - (new.captured - old.captured) - (new.released - old.released)
    WHERE id = new.account_id;
END;

-- What was spent, in sums by the hour: they grow with hours and not with lines.
CREATE TABLE am_ledger_spending (
    -- all, principal, agent or workflow.
    dimension TEXT NOT NULL,
    -- Who spent it; empty for all.
    principal TEXT NOT NULL,
    -- The agent or the workflow; empty for all and principal.
    subject TEXT NOT NULL,
    asset TEXT NOT NULL,
    -- 2026-12-01T09: the hour in UTC.
    hour TEXT NOT NULL,
    amount INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    PRIMARY KEY (dimension, principal, subject, asset, hour)
) WITHOUT ROWID;
