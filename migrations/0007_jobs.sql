-- Jobs that clients have put into the coordinator's queue by the routes of the services. The queue itself is the
-- coordinator's table; this one keeps what that has no column for: when a job was begun and ended, as far as it was noticed,
-- and that its end was told of.
CREATE TABLE am_jobs (
    -- job.id.
    id TEXT NOT NULL PRIMARY KEY,
    service TEXT NOT NULL,
    -- A principal.
    client_id TEXT NOT NULL,
    -- As noticed last, in the coordinator's words.
    state TEXT NOT NULL,
    -- UTC, unlike the coordinator's times of a job.
    submitted_at TEXT NOT NULL,
    running_at TEXT,
    -- Set once: whoever sets it tells of the end.
    ended_at TEXT
);
CREATE INDEX am_jobs_open ON am_jobs (id) WHERE ended_at IS NULL;
-- For estimates: the last that were completed, by service.
CREATE INDEX am_jobs_completed ON am_jobs (service, ended_at) WHERE state = 'COMPLETED';
