-- The background task that carries an evaluation on; null: it was begun before evaluations had one.
ALTER TABLE am_evaluations ADD COLUMN task_id TEXT;
-- Processes that began to start or to judge a case and did not say that they left it: too many, and it is given up.
ALTER TABLE am_evaluation_results ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
