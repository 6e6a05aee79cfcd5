-- Environments that callers sent as tables. A version never changes.
CREATE TABLE am_own_environments (
    -- Its name.
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    latest INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_own_environments_page ON am_own_environments (created_at, id);
CREATE INDEX am_own_environments_owner ON am_own_environments (owner_id);

CREATE TABLE am_own_environment_versions (
    -- The environment's name and the version's number, name@version.
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- Of the tables without their description.
    sha256 TEXT NOT NULL,
    states INTEGER NOT NULL,
    transitions INTEGER NOT NULL,
    discount REAL NOT NULL,
    -- What trainings see, as JSON.
    description TEXT NOT NULL,
    -- The best returns, as JSON.
    solution TEXT NOT NULL,
    -- The tables as they were sent, as JSON.
    tables TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (name, version)
);
CREATE INDEX am_own_environment_versions_page ON am_own_environment_versions (name, created_at, id);
CREATE TRIGGER am_own_environment_versions_immutable BEFORE UPDATE ON am_own_environment_versions
BEGIN
    SELECT RAISE(ABORT, 'a version of an environment is never changed');
END;

-- What keeps an environment from being deleted.
CREATE INDEX am_policy_versions_environment ON am_policy_versions (environment) WHERE environment IS NOT NULL;
