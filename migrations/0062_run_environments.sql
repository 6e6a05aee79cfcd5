-- The environment of a run that is not built in: name@version of one that was sent as tables, or `bridge`, whose runs wait
-- until their bridge is connected to a process.
ALTER TABLE am_training_runs ADD COLUMN own_environment TEXT;
CREATE INDEX am_training_runs_environment ON am_training_runs (own_environment) WHERE own_environment IS NOT NULL;
