-- Triggers of the write connection alone, in its temporary schema: the coordinator's tables and its connections know nothing of
-- them. They keep the list of this table in the transaction of each of this service's writes. Made when it is opened, and after a
-- migration.
CREATE TEMP TRIGGER IF NOT EXISTS am_trust_added AFTER INSERT ON agent_trust_scores
BEGIN
    INSERT INTO am_trust_list (id, entity_type, trust_score, created_at)
    VALUES (new.id, new.entity_type, new.trust_score, new.created_at)
    ON CONFLICT (id) DO UPDATE SET entity_type = excluded.entity_type, trust_score = excluded.trust_score,
        created_at = excluded.created_at;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_trust_changed AFTER UPDATE OF entity_type, trust_score, created_at ON agent_trust_scores
WHEN new.trust_score <> old.trust_score OR new.entity_type <> old.entity_type OR new.created_at <> old.created_at
BEGIN
    UPDATE am_trust_list SET entity_type = new.entity_type, trust_score = new.trust_score, created_at = new.created_at
    WHERE id = new.id;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_trust_removed AFTER DELETE ON agent_trust_scores
BEGIN
    DELETE FROM am_trust_list WHERE id = old.id;
END;
