-- The share of an allocation that was used, once it was measured, for its agent's profile (0051_profile_feed.sql).
CREATE TRIGGER am_profile_feed_allocation AFTER UPDATE OF measured ON am_allocations
WHEN old.measured = 'null' AND new.measured <> 'null' AND new.measured ->> 'efficiency_score' IS NOT NULL
BEGIN
    INSERT INTO am_profile_feed (source, agent_id, efficiency, ended_at)
    SELECT 'allocation', l.agent_id, new.measured ->> 'efficiency_score', strftime('%Y-%m-%d %H:%M:%f000', 'now')
    FROM am_allocation_list l WHERE l.id = new.id;
END;
