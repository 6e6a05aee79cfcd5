-- When an execution ended, for lists by time; none: it has not. Filled by making the list of executions anew, in the background.
ALTER TABLE am_execution_list ADD COLUMN ended_at TEXT;
UPDATE am_list_progress SET place = 0, built_at = NULL WHERE list = 'executions';
DROP INDEX am_execution_list_page;
DROP INDEX am_execution_list_workflow;
-- With what lists filter by, so that a filter reads the index alone.
CREATE INDEX am_execution_list_page ON am_execution_list (client_id, created_at, id, ended_at, status);
CREATE INDEX am_execution_list_workflow ON am_execution_list (workflow_id, client_id, created_at, id, ended_at, status);
