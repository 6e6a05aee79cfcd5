-- Models of meta-learning. The coordinator's meta_learning_models has a row for each; what it has no column for, and figures that are
-- not known yet, stand here.
CREATE TABLE am_meta_models (
    -- Of meta_learning_models.model_id.
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Counted from 1 for each owner and name.
    version INTEGER NOT NULL,
    meta_strategy TEXT NOT NULL,
    -- training, ready, failed, cancelled.
    status TEXT NOT NULL,
    -- JSON lists of texts.
    base_algorithms TEXT NOT NULL,
    adaptation_targets TEXT NOT NULL,
    -- JSON: the algorithm, its settings with all defaults, the family or the number of sent tasks, the seed.
    plan TEXT NOT NULL,
    -- The background task that trains it; null: it was adapted from another.
    task_id TEXT,
    -- The model that it was adapted from; null: it was trained.
    origin_id TEXT,
    -- Of am_meta_weights; null before its training has ended.
    sha256 TEXT,
    -- JSON: what it was measured by; null before.
    measures TEXT NOT NULL DEFAULT 'null',
    -- Seconds of the training.
    training_time REAL,
    -- Why the training failed.
    error TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    trained_at TEXT
);
CREATE UNIQUE INDEX am_meta_models_version ON am_meta_models (owner_id, name, version);
CREATE INDEX am_meta_models_owner ON am_meta_models (owner_id, created_at, id);
CREATE INDEX am_meta_models_name ON am_meta_models (owner_id, name, created_at, id);
CREATE INDEX am_meta_models_order ON am_meta_models (created_at, id);

-- Files of models, by their hash.
CREATE TABLE am_meta_weights (
    sha256 TEXT NOT NULL PRIMARY KEY,
    -- A safetensors file in base64.
    file TEXT NOT NULL
);

-- Names of versions that can be moved.
CREATE TABLE am_meta_aliases (
    owner_id TEXT NOT NULL,
    name TEXT NOT NULL,
    alias TEXT NOT NULL,
    model_id TEXT NOT NULL,
    moved_at TEXT NOT NULL,
    PRIMARY KEY (owner_id, name, alias)
) WITHOUT ROWID;
CREATE INDEX am_meta_aliases_model ON am_meta_aliases (model_id);
