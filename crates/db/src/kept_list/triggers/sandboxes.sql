-- Triggers of the write connection alone, in its temporary schema: the coordinator's tables and its connections know nothing of
-- them. They keep the list of this table in the transaction of each of this service's writes. Made when it is opened, and after a
-- migration.
CREATE TEMP TRIGGER IF NOT EXISTS am_sandbox_added AFTER INSERT ON agent_sandbox_configs
BEGIN
    INSERT INTO am_sandbox_list (id, is_active) VALUES (new.id, new.is_active)
    ON CONFLICT (id) DO UPDATE SET is_active = excluded.is_active;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_sandbox_changed AFTER UPDATE OF is_active ON agent_sandbox_configs
WHEN new.is_active <> old.is_active
BEGIN
    UPDATE am_sandbox_list SET is_active = new.is_active WHERE id = new.id;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_sandbox_removed AFTER DELETE ON agent_sandbox_configs
BEGIN
    DELETE FROM am_sandbox_list WHERE id = old.id;
END;
