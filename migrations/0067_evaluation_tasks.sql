-- The background task that carries an evaluation on; null: it was begun before evaluations had one.
ALTER TABLE am_evaluations ADD COLUMN task_id TEXT;
-- Processes that began to start or to judge a case and did not say that they left it: too many, and it is given up.
ALTER TABLE am_evaluation_results ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
-- Of an agent that is evaluated: the type of its tasks, and the seconds that it has for each.
ALTER TABLE am_evaluations ADD COLUMN task_type TEXT;
ALTER TABLE am_evaluations ADD COLUMN timeout_seconds INTEGER;
-- The only agent that may get an assignment; null: any.
ALTER TABLE am_assignments ADD COLUMN only_agent TEXT;
