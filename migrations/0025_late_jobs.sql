-- Jobs that a miner had when their steps stopped waiting for them. A row goes when its job has ended and its cost is booked.
CREATE TABLE am_late_jobs (
    -- job.id.
    job_id TEXT NOT NULL PRIMARY KEY,
    execution_id TEXT NOT NULL,
    -- When its step stopped waiting.
    left_at TEXT NOT NULL
) WITHOUT ROWID;

-- A client's open jobs are counted.
CREATE INDEX am_jobs_of_client ON am_jobs (client_id) WHERE ended_at IS NULL;
