-- How often a run was claimed since it last came on: saved something, or had nothing left to compute. A run that ends its
-- process each time is given up.
ALTER TABLE am_runs ADD COLUMN claims INTEGER NOT NULL DEFAULT 0;
