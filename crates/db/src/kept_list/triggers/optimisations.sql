-- Triggers of the write connection alone, in its temporary schema: the coordinator's tables and its connections know nothing of
-- them. They keep the list of this table in the transaction of each of this service's writes. Made when it is opened, and after a
-- migration.
CREATE TEMP TRIGGER IF NOT EXISTS am_optimisation_added AFTER INSERT ON performance_optimizations
BEGIN
    INSERT INTO am_optimisation_list (id, agent_id, status, created_at)
    VALUES (new.id, new.agent_id, new.status, new.created_at)
    ON CONFLICT (id) DO UPDATE SET agent_id = excluded.agent_id, status = excluded.status, created_at = excluded.created_at;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_optimisation_changed AFTER UPDATE OF agent_id, status, created_at ON performance_optimizations
BEGIN
    UPDATE am_optimisation_list SET agent_id = new.agent_id, status = new.status, created_at = new.created_at WHERE id = new.id;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_optimisation_removed AFTER DELETE ON performance_optimizations
BEGIN
    DELETE FROM am_optimisation_list WHERE id = old.id;
END;
