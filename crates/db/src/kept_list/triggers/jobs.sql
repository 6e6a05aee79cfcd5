-- Triggers of the write connection alone, in its temporary schema: the coordinator's tables and its connections know nothing of
-- them. They keep the list of this table in the transaction of each of this service's writes. Made when it is opened, and after a
-- migration.
-- A client that the coordinator knows by an id of its own gets its principal from the service, in the same transaction.
CREATE TEMP TRIGGER IF NOT EXISTS am_job_added AFTER INSERT ON job
BEGIN
    INSERT INTO am_job_list (id, client_id, state, service, requested_at, ended_at)
    VALUES (new.id, coalesce((SELECT a.client_id FROM am_jobs a WHERE a.id = new.id), new.client_id), CASE WHEN upper(new.state) = 'COMPLETED'
        AND lower(CASE WHEN json_valid(new.result) THEN new.result ->> 'status' END) IN ('failed', 'failure', 'error')
        THEN 'FAILED' WHEN upper(new.state) = 'CANCELLED' THEN 'CANCELED' ELSE upper(new.state) END,
        coalesce(CASE WHEN json_valid(new.payload) THEN new.payload ->> 'service_type' END, ''), new.requested_at,
        (SELECT a.ended_at FROM am_jobs a WHERE a.id = new.id))
    ON CONFLICT (id) DO UPDATE SET client_id = excluded.client_id, state = excluded.state, service = excluded.service,
        requested_at = excluded.requested_at, ended_at = excluded.ended_at;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_job_changed AFTER UPDATE OF state, result, requested_at ON job
BEGIN
    UPDATE am_job_list SET state = CASE WHEN upper(new.state) = 'COMPLETED'
        AND lower(CASE WHEN json_valid(new.result) THEN new.result ->> 'status' END) IN ('failed', 'failure', 'error')
        THEN 'FAILED' WHEN upper(new.state) = 'CANCELLED' THEN 'CANCELED' ELSE upper(new.state) END,
        requested_at = new.requested_at
    WHERE id = new.id;
END;
CREATE TEMP TRIGGER IF NOT EXISTS am_job_removed AFTER DELETE ON job
BEGIN
    DELETE FROM am_job_list WHERE id = old.id;
END;
