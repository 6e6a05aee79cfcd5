-- Ends of clients' jobs, for the profiles of the miners that did them (0051_profile_feed.sql). The row names the job: how the coordinator
-- stores a miner may be an API key, which is written nowhere else.
CREATE TRIGGER am_profile_feed_job AFTER UPDATE OF ended_at ON am_jobs
WHEN old.ended_at IS NULL AND new.ended_at IS NOT NULL AND new.state IN ('COMPLETED', 'FAILED')
BEGIN
    INSERT INTO am_profile_feed (source, agent_id, succeeded, seconds, ended_at)
    VALUES ('job', new.id, new.state = 'COMPLETED', CASE WHEN new.state = 'COMPLETED' AND new.running_at IS NOT NULL
        THEN (julianday(new.ended_at) - julianday(new.running_at)) * 86400.0 END, new.ended_at);
END;
