-- Budgets: limits of what a principal spends, in all, on an agent or on a workflow.
CREATE TABLE am_ledger_budgets (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    -- The agent or the workflow; empty for all that the principal spends.
    subject TEXT NOT NULL,
    -- Whose spending it limits.
    principal TEXT NOT NULL,
    limit_units INTEGER NOT NULL,
    period TEXT NOT NULL,
    on_exceed TEXT NOT NULL,
    -- Sum of its rows in am_ledger_reservations, kept by triggers.
    reserved INTEGER NOT NULL DEFAULT 0,
    -- Of a budget without a period: what was spent before this hour, so that the hours before need not be summed again.
    spent_before INTEGER NOT NULL DEFAULT 0,
    summed_to TEXT NOT NULL DEFAULT '',
    -- The begin of the period in which it was last told that more was asked for than is left; none: never.
    told_at TEXT,
    -- Rises with every change of any budget, so that processes find what others changed.
    revision INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    -- None: it is in force.
    deleted_at TEXT
);
CREATE INDEX am_ledger_budgets_page ON am_ledger_budgets (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX am_ledger_budgets_owner ON am_ledger_budgets (owner_id, created_at, id) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX am_ledger_budgets_name ON am_ledger_budgets (owner_id, name) WHERE deleted_at IS NULL;
CREATE INDEX am_ledger_budgets_revision ON am_ledger_budgets (revision);

-- What open executions may still spend of each budget that binds them.
CREATE TABLE am_ledger_reservations (
    execution_id TEXT NOT NULL,
    budget_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (execution_id, budget_id)
) WITHOUT ROWID;
CREATE INDEX am_ledger_reservations_budget ON am_ledger_reservations (budget_id, execution_id);
CREATE TRIGGER am_ledger_reservations_made AFTER INSERT ON am_ledger_reservations
BEGIN
    UPDATE am_ledger_budgets SET reserved = reserved + new.amount WHERE id = new.budget_id;
END;
CREATE TRIGGER am_ledger_reservations_changed AFTER UPDATE ON am_ledger_reservations
BEGIN
    UPDATE am_ledger_budgets SET reserved = reserved + new.amount - old.amount WHERE id = new.budget_id;
END;
CREATE TRIGGER am_ledger_reservations_removed AFTER DELETE ON am_ledger_reservations
BEGIN
    UPDATE am_ledger_budgets SET reserved = reserved - old.amount WHERE id = old.budget_id;
END;

-- Executions that wait until a budget has room for them, in their order.
CREATE TABLE am_ledger_waits (
    execution_id TEXT NOT NULL PRIMARY KEY,
    budget_id TEXT NOT NULL,
    principal TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    -- What it may cost; none: what is left of the budgets is what it may cost.
    amount INTEGER,
    since_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX am_ledger_waits_order ON am_ledger_waits (since_at, execution_id);
CREATE INDEX am_ledger_waits_budget ON am_ledger_waits (budget_id, since_at);
