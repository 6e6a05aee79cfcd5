-- Lists of the coordinator's tables, which have no index in the order of lists: one row for each of theirs, with what lists
-- filter and order by, as it is stored there, but with a principal where the coordinator has an owner's key. Written in the transaction of each own write, by triggers that the service's
-- write connection has for itself; rows that others write are followed (crates/db/src/kept_list/).
CREATE TABLE am_execution_list (
    id TEXT NOT NULL PRIMARY KEY,
    client_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX am_execution_list_page ON am_execution_list (client_id, created_at, id);
CREATE INDEX am_execution_list_status ON am_execution_list (client_id, status, created_at, id);
CREATE INDEX am_execution_list_workflow ON am_execution_list (workflow_id, client_id, created_at, id);
CREATE INDEX am_execution_list_open ON am_execution_list (id) WHERE status IN ('PENDING', 'RUNNING');

CREATE TABLE am_workflow_list (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    is_public INTEGER NOT NULL,
    tags TEXT NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX am_workflow_list_page ON am_workflow_list (is_public, created_at, id);
CREATE INDEX am_workflow_list_owner ON am_workflow_list (owner_id, is_public, created_at, id);

-- Number of rows of a list, by owner and kind (a status; public or not), kept with each change. Owner '*': all of them.
CREATE TABLE am_list_counts (
    list TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    entries INTEGER NOT NULL,
    PRIMARY KEY (list, owner_id, kind)
) WITHOUT ROWID;
CREATE TRIGGER am_execution_list_counted AFTER INSERT ON am_execution_list
BEGIN
    INSERT INTO am_list_counts (list, owner_id, kind, entries) VALUES ('executions', new.client_id, new.status, 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_execution_list_recounted AFTER UPDATE OF client_id, status ON am_execution_list
WHEN new.client_id <> old.client_id OR new.status <> old.status
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list = 'executions' AND owner_id = old.client_id AND kind = old.status;
    INSERT INTO am_list_counts (list, owner_id, kind, entries) VALUES ('executions', new.client_id, new.status, 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_execution_list_uncounted AFTER DELETE ON am_execution_list
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list = 'executions' AND owner_id = old.client_id AND kind = old.status;
END;
CREATE TRIGGER am_workflow_list_counted AFTER INSERT ON am_workflow_list
BEGIN
    INSERT INTO am_list_counts (list, owner_id, kind, entries)
    VALUES ('workflows', new.owner_id, CAST(new.is_public AS TEXT), 1), ('workflows', '*', CAST(new.is_public AS TEXT), 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_workflow_list_recounted AFTER UPDATE OF owner_id, is_public ON am_workflow_list
WHEN new.owner_id <> old.owner_id OR new.is_public <> old.is_public
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list = 'workflows' AND owner_id IN (old.owner_id, '*') AND kind = CAST(old.is_public AS TEXT);
    INSERT INTO am_list_counts (list, owner_id, kind, entries)
    VALUES ('workflows', new.owner_id, CAST(new.is_public AS TEXT), 1), ('workflows', '*', CAST(new.is_public AS TEXT), 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_workflow_list_uncounted AFTER DELETE ON am_workflow_list
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list = 'workflows' AND owner_id IN (old.owner_id, '*') AND kind = CAST(old.is_public AS TEXT);
END;

-- How far each list is made.
CREATE TABLE am_list_progress (
    list TEXT NOT NULL PRIMARY KEY,
    -- The rowid up to which rows of the coordinator's table are in it.
    place INTEGER NOT NULL,
    -- Since when it is complete; none: it is not, and nobody reads it.
    built_at TEXT
);
