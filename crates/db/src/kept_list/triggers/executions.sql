-- Triggers of the write connection alone, in its temporary schema: the coordinator's tables and its connections know nothing of
-- them. They keep the list of this table in the transaction of each of this service's writes. Made when it is opened, and after a
-- migration.
CREATE TEMP TRIGGER IF NOT EXISTS am_execution_added AFTER INSERT ON agent_executions
BEGIN
    INSERT INTO am_execution_list (id, client_id, workflow_id, status, created_at, ended_at)
    VALUES (new.id, new.client_id, new.workflow_id, new.status, new.created_at, new.completed_at)
    ON CONFLICT (id) DO UPDATE SET client_id = excluded.client_id, workflow_id = excluded.workflow_id,
        status = excluded.status, created_at = excluded.created_at, ended_at = excluded.ended_at;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_execution_changed
AFTER UPDATE OF workflow_id, status, created_at, completed_at ON agent_executions
WHEN new.status <> old.status OR new.workflow_id <> old.workflow_id OR new.created_at <> old.created_at
    OR new.completed_at IS NOT old.completed_at
BEGIN
    UPDATE am_execution_list SET workflow_id = new.workflow_id, status = new.status, created_at = new.created_at,
        ended_at = new.completed_at
    WHERE id = new.id;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_execution_removed AFTER DELETE ON agent_executions
BEGIN
    DELETE FROM am_execution_list WHERE id = old.id;
END;
