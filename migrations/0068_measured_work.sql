-- Ends of clients' jobs, for the profiles of the miners that did them (0051_profile_feed.sql). The row names the job: how the coordinator
-- stores a miner may be an API key, which is written nowhere else.
CREATE TRIGGER am_profile_feed_job AFTER UPDATE OF ended_at ON am_jobs
WHEN old.ended_at IS NULL AND new.ended_at IS NOT NULL AND new.state IN ('COMPLETED', 'FAILED')
BEGIN
    INSERT INTO am_profile_feed (source, agent_id, succeeded, seconds, ended_at)
    VALUES ('job', new.id, new.state = 'COMPLETED', CASE WHEN new.state = 'COMPLETED' AND new.running_at IS NOT NULL
        THEN (julianday(new.ended_at) - julianday(new.running_at)) * 86400.0 END, new.ended_at);
END;
-- Of jobs that no client submitted here, as those of steps, which are listed with the order: their end, when it is seen.
CREATE TRIGGER am_profile_feed_listed_job AFTER UPDATE OF state ON am_job_list
WHEN old.state IN ('QUEUED', 'RUNNING') AND new.state IN ('COMPLETED', 'FAILED')
    AND NOT EXISTS (SELECT 1 FROM am_jobs j WHERE j.id = new.id)
BEGIN
    INSERT INTO am_profile_feed (source, agent_id, succeeded, ended_at)
    VALUES ('job', new.id, new.state = 'COMPLETED', strftime('%Y-%m-%d %H:%M:%f000', 'now'));
END;

-- Configurations that an agent's allocations for a task begin with, once an optimisation was applied.
CREATE TABLE am_tuned_allocations (
    agent_id TEXT NOT NULL,
    -- Row of the table of allocations, size of the model, workload factor and target.
    task TEXT NOT NULL,
    cpu_cores REAL NOT NULL,
    memory_gb REAL NOT NULL,
    storage_gb REAL NOT NULL,
    optimization_id TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (agent_id, task)
) WITHOUT ROWID;
-- The optimisation whose configuration an allocation has; null: it has the table's.
ALTER TABLE am_allocations ADD COLUMN tuned_by TEXT;

-- What ended or was made first, for its removal.
CREATE INDEX am_background_tasks_ended ON am_background_tasks (ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX am_sweeps_ended ON am_sweeps (ended_at, id) WHERE ended_at IS NOT NULL;
ALTER TABLE am_optimisations ADD COLUMN ended_at TEXT;
UPDATE am_optimisations SET ended_at = (SELECT p.completed_at FROM performance_optimizations p WHERE p.id = am_optimisations.id);
CREATE INDEX am_optimisations_ended ON am_optimisations (ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX am_meta_models_weights ON am_meta_models (sha256) WHERE sha256 IS NOT NULL;
