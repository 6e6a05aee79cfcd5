-- Triggers of the write connection alone, in its temporary schema: the coordinator's tables and its connections know nothing of
-- them. They keep the list of this table in the transaction of each of this service's writes. Made when it is opened, and after a
-- migration.
CREATE TEMP TRIGGER IF NOT EXISTS am_workflow_added AFTER INSERT ON ai_agent_workflows
BEGIN
    INSERT INTO am_workflow_list (id, owner_id, is_public, tags, created_at)
    VALUES (new.id, new.owner_id, new.is_public, new.tags, new.created_at)
    ON CONFLICT (id) DO UPDATE SET owner_id = excluded.owner_id, is_public = excluded.is_public, tags = excluded.tags,
        created_at = excluded.created_at;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_workflow_changed
AFTER UPDATE OF is_public, tags, created_at ON ai_agent_workflows
WHEN new.is_public <> old.is_public OR new.tags <> old.tags OR new.created_at <> old.created_at
BEGIN
    UPDATE am_workflow_list SET is_public = new.is_public, tags = new.tags, created_at = new.created_at
    WHERE id = new.id;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_workflow_removed AFTER DELETE ON ai_agent_workflows
BEGIN
    DELETE FROM am_workflow_list WHERE id = old.id;
END;
