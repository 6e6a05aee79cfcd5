-- Names and tags of training runs.
ALTER TABLE am_training_runs ADD COLUMN name TEXT;
-- A JSON list of texts.
ALTER TABLE am_training_runs ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';

-- What training runs are found by: their tags, and the words of their names.
CREATE TABLE am_training_labels (
    -- Of am_training_runs.
    id TEXT NOT NULL,
    -- `tag:` and a tag, or `word:` and a word of the name in lower case.
    label TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    -- When the run was asked for.
    created_at TEXT NOT NULL,
    PRIMARY KEY (id, label)
) WITHOUT ROWID;
CREATE INDEX am_training_labels_owner ON am_training_labels (owner_id, label, created_at, id);
CREATE INDEX am_training_labels_all ON am_training_labels (label, created_at, id);
