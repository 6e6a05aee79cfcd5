-- What somebody asked to be done with many executions at once, and how far it is.
CREATE TABLE am_bulk_operations (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    action TEXT NOT NULL,
    -- Whether a retry goes by the workflow's definition of now.
    redefines INTEGER NOT NULL,
    filter TEXT NOT NULL,
    status TEXT NOT NULL,
    total INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    -- Whether more matched than one operation takes.
    has_more INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    ended_at TEXT
);
CREATE INDEX am_bulk_operations_page ON am_bulk_operations (owner_id, created_at, id);
CREATE INDEX am_bulk_operations_open ON am_bulk_operations (owner_id, created_at) WHERE status = 'RUNNING';
CREATE INDEX am_bulk_operations_ended ON am_bulk_operations (ended_at) WHERE ended_at IS NOT NULL;

-- The executions of each, in their order. Whoever sets the outcome of one changes the execution in the same transaction.
CREATE TABLE am_bulk_items (
    operation_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    execution_id TEXT NOT NULL,
    -- None: to be done.
    outcome TEXT,
    reason TEXT,
    PRIMARY KEY (operation_id, place)
) WITHOUT ROWID;
CREATE INDEX am_bulk_items_open ON am_bulk_items (operation_id, place) WHERE outcome IS NULL;
CREATE INDEX am_bulk_items_faults ON am_bulk_items (operation_id, place) WHERE outcome IN ('SKIPPED', 'FAILED');
