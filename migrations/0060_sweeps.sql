-- Sweeps: trainings of one policy with settings of a space, each with several seeds.
CREATE TABLE am_sweeps (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    name TEXT,
    -- A JSON list of texts.
    tags TEXT NOT NULL,
    policy TEXT NOT NULL,
    -- running, completed, failed, cancelled.
    status TEXT NOT NULL,
    -- What it is to do, whole, as JSON: it does not change when defaults do.
    plan TEXT NOT NULL,
    -- The background task that does it.
    task_id TEXT NOT NULL,
    -- Trials that it makes at most, and those that have ended.
    trials INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0,
    -- The trial with the best score so far; none: none has one yet.
    best_trial INTEGER,
    -- Why it made fewer trials than it might have, or why it failed.
    ended_by TEXT,
    error TEXT,
    created_at TEXT NOT NULL,
    ended_at TEXT,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_sweeps_owner ON am_sweeps (owner_id, created_at, id);
CREATE INDEX am_sweeps_page ON am_sweeps (created_at, id);

-- Trials of sweeps: settings, and the training runs that measure them.
CREATE TABLE am_sweep_trials (
    sweep_id TEXT NOT NULL,
    -- Counted from 1.
    trial INTEGER NOT NULL,
    -- running, measured, failed, cancelled.
    state TEXT NOT NULL,
    -- Settings that are searched, by name, as JSON, and their place in the space.
    settings TEXT NOT NULL,
    point TEXT NOT NULL,
    -- The runs with their seeds and scores, as JSON.
    runs TEXT NOT NULL,
    -- Mean of the scores; none: not measured.
    score REAL,
    -- Why it was not measured.
    reason TEXT,
    created_at TEXT NOT NULL,
    ended_at TEXT,
    PRIMARY KEY (sweep_id, trial)
) WITHOUT ROWID;
