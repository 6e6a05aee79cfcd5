-- Archives: files that hold what was removed. One row each, written in the transaction of the audit entry that tells of it,
-- before anything of it is deleted.
CREATE TABLE am_archives (
    -- Name of the file below the archive directory.
    name TEXT NOT NULL PRIMARY KEY,
    -- Kind of what it holds.
    kind TEXT NOT NULL,
    -- retention: removed by age; request: somebody deleted it.
    cause TEXT NOT NULL,
    -- SHA-256 of the file, in hex.
    sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    -- How many things it holds, and how many of them were deleted so far, or stayed because they had changed meanwhile.
    things INTEGER NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0,
    kept INTEGER NOT NULL DEFAULT 0,
    -- Rows by table, a JSON object.
    row_counts TEXT NOT NULL,
    -- The audit entry that tells of it.
    audit_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    -- None: not all of it is deleted yet.
    done_at TEXT
);
CREATE INDEX am_archives_open ON am_archives (created_at, name) WHERE done_at IS NULL;
CREATE INDEX am_archives_page ON am_archives (created_at, name);

-- What ended or was made first.
CREATE INDEX am_runs_ended ON am_runs (queued_at, execution_id) WHERE state = 'ended';
CREATE INDEX am_runs_definition ON am_runs (definition_hash);
CREATE INDEX am_definitions_created ON am_definitions (created_at, hash);
CREATE INDEX am_assignments_ended ON am_assignments (ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX am_assignment_notices_of ON am_assignment_notices (assignment_id);
CREATE INDEX am_plans_created ON am_plans (created_at, id);
CREATE INDEX am_messages_created ON am_messages (created_at, id);
CREATE INDEX am_messages_content ON am_messages (content_id) WHERE content_id IS NOT NULL;
CREATE INDEX am_message_contents_created ON am_message_contents (created_at, id);
CREATE INDEX am_jobs_ended ON am_jobs (ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX am_training_runs_ended ON am_training_runs (ended_at, id) WHERE ended_at IS NOT NULL;
