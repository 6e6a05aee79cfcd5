-- Whose a run is, so that a claim can take the principals in turn, and so that one's open runs are counted without reading
-- everybody's.
ALTER TABLE am_runs ADD COLUMN client_id TEXT NOT NULL DEFAULT 'unknown';
UPDATE am_runs SET client_id = COALESCE((SELECT e.client_id FROM agent_executions e WHERE e.id = am_runs.execution_id), 'unknown');
CREATE INDEX am_runs_claimable ON am_runs (client_id, queued_at) WHERE state = 'ready' AND NOT paused;
CREATE INDEX am_runs_of_client ON am_runs (client_id, security_level) WHERE state <> 'ended';
