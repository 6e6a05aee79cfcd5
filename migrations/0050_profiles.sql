-- What the coordinator's agent_performance_profiles does not hold of an agent's profile, and what lists and ranks need of it.
CREATE TABLE am_profiles (
    -- An agent has one profile.
    agent_id TEXT NOT NULL PRIMARY KEY,
    -- Its row in the coordinator's table.
    id TEXT NOT NULL UNIQUE,
    -- A principal; empty: the coordinator made it, and nobody has registered the agent.
    owner_id TEXT NOT NULL,
    agent_type TEXT NOT NULL,
    -- As in the coordinator's row; null: no metric was reported.
    score REAL,
    -- Number of the score's bucket, which grows with the score; null as score.
    bucket INTEGER,
    -- Number of reports of metrics.
    reports INTEGER NOT NULL DEFAULT 0,
    -- What was measured of its work, as JSON: counts and exponentially weighted means.
    measured TEXT NOT NULL DEFAULT 'null',
    created_at TEXT NOT NULL
);
CREATE INDEX am_profiles_rank ON am_profiles (score, agent_id) WHERE score IS NOT NULL;
CREATE INDEX am_profiles_type_rank ON am_profiles (agent_type, score, agent_id) WHERE score IS NOT NULL;
CREATE INDEX am_profiles_bucket ON am_profiles (agent_type, bucket, score) WHERE bucket IS NOT NULL;
CREATE INDEX am_profiles_owner_rank ON am_profiles (owner_id, score, agent_id) WHERE score IS NOT NULL;
CREATE INDEX am_profiles_owner_type_rank ON am_profiles (owner_id, agent_type, score, agent_id) WHERE score IS NOT NULL;

-- How many profiles of a type ('*': of all types) have a score in a bucket, kept with each change: the position of one is a sum of
-- these and a count within its bucket.
CREATE TABLE am_profile_ranks (
    agent_type TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    profiles INTEGER NOT NULL,
    PRIMARY KEY (agent_type, bucket)
) WITHOUT ROWID;
CREATE TRIGGER am_profiles_ranked AFTER INSERT ON am_profiles WHEN new.bucket IS NOT NULL
BEGIN
    INSERT INTO am_profile_ranks (agent_type, bucket, profiles) VALUES ('*', new.bucket, 1), (new.agent_type, new.bucket, 1)
    ON CONFLICT (agent_type, bucket) DO UPDATE SET profiles = profiles + 1;
END;
CREATE TRIGGER am_profiles_moved AFTER UPDATE OF agent_type, bucket ON am_profiles
WHEN old.bucket IS NOT new.bucket OR old.agent_type <> new.agent_type
BEGIN
    UPDATE am_profile_ranks SET profiles = profiles - 1 WHERE agent_type IN ('*', old.agent_type) AND bucket = old.bucket;
    INSERT INTO am_profile_ranks (agent_type, bucket, profiles)
    SELECT t.agent_type, new.bucket, 1 FROM (SELECT '*' AS agent_type UNION ALL SELECT new.agent_type) AS t
    WHERE new.bucket IS NOT NULL
    ON CONFLICT (agent_type, bucket) DO UPDATE SET profiles = profiles + 1;
END;
CREATE TRIGGER am_profiles_unranked AFTER DELETE ON am_profiles WHEN old.bucket IS NOT NULL
BEGIN
    UPDATE am_profile_ranks SET profiles = profiles - 1 WHERE agent_type IN ('*', old.agent_type) AND bucket = old.bucket;
END;

-- The last value of each metric of each agent, with its hour (2026-12-01T09, UTC).
CREATE TABLE am_profile_metrics (
    agent_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    value REAL NOT NULL,
    hour TEXT NOT NULL,
    reported_at TEXT NOT NULL,
    PRIMARY KEY (agent_id, metric)
) WITHOUT ROWID;
CREATE INDEX am_profile_metrics_best ON am_profile_metrics (metric, hour, value, agent_id);
CREATE INDEX am_profile_metrics_values ON am_profile_metrics (metric, value, agent_id);
CREATE INDEX am_profile_metrics_owner_values ON am_profile_metrics (owner_id, metric, value, agent_id);
CREATE INDEX am_profile_metrics_owner ON am_profile_metrics (owner_id, metric, hour, value, agent_id);

-- Sums of those by owner ('*': all), metric, hour and level: 3 from 80, 2 from 60, 1 from 40, 0 below.
CREATE TABLE am_profile_sums (
    owner_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    hour TEXT NOT NULL,
    level INTEGER NOT NULL,
    agents INTEGER NOT NULL,
    total REAL NOT NULL,
    PRIMARY KEY (owner_id, metric, hour, level)
) WITHOUT ROWID;
CREATE TRIGGER am_profile_metrics_added AFTER INSERT ON am_profile_metrics
BEGIN
    INSERT INTO am_profile_sums (owner_id, metric, hour, level, agents, total)
    SELECT o.owner_id, new.metric, new.hour, (new.value >= 40) + (new.value >= 60) + (new.value >= 80), 1, new.value
    FROM (SELECT '*' AS owner_id UNION ALL SELECT new.owner_id) AS o WHERE true
    ON CONFLICT (owner_id, metric, hour, level) DO UPDATE SET agents = agents + 1, total = total + excluded.total;
END;
CREATE TRIGGER am_profile_metrics_changed AFTER UPDATE ON am_profile_metrics
BEGIN
    UPDATE am_profile_sums SET agents = agents - 1, total = CASE WHEN agents = 1 THEN 0.0 ELSE total - old.value END
    WHERE owner_id IN ('*', old.owner_id) AND metric = old.metric AND hour = old.hour
        AND level = (old.value >= 40) + (old.value >= 60) + (old.value >= 80);
    INSERT INTO am_profile_sums (owner_id, metric, hour, level, agents, total)
    SELECT o.owner_id, new.metric, new.hour, (new.value >= 40) + (new.value >= 60) + (new.value >= 80), 1, new.value
    FROM (SELECT '*' AS owner_id UNION ALL SELECT new.owner_id) AS o WHERE true
    ON CONFLICT (owner_id, metric, hour, level) DO UPDATE SET agents = agents + 1, total = total + excluded.total;
END;
CREATE TRIGGER am_profile_metrics_removed AFTER DELETE ON am_profile_metrics
BEGIN
    UPDATE am_profile_sums SET agents = agents - 1, total = CASE WHEN agents = 1 THEN 0.0 ELSE total - old.value END
    WHERE owner_id IN ('*', old.owner_id) AND metric = old.metric AND hour = old.hour
        AND level = (old.value >= 40) + (old.value >= 60) + (old.value >= 80);
END;

-- Sums of nobody are none.
CREATE TRIGGER am_profile_sums_empty AFTER UPDATE OF agents ON am_profile_sums WHEN new.agents = 0
BEGIN
    DELETE FROM am_profile_sums WHERE owner_id = new.owner_id AND metric = new.metric AND hour = new.hour AND level = new.level;
END;
CREATE TRIGGER am_profile_ranks_empty AFTER UPDATE OF profiles ON am_profile_ranks WHEN new.profiles = 0
BEGIN
    DELETE FROM am_profile_ranks WHERE agent_type = new.agent_type AND bucket = new.bucket;
END;

-- Values as they came, kept for a day; each is counted in the buckets below once it is behind the place in am_profile_work.
CREATE TABLE am_profile_points (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    value REAL NOT NULL,
    happened_at TEXT NOT NULL
);
CREATE INDEX am_profile_points_series ON am_profile_points (agent_id, metric, happened_at, number, value);
CREATE INDEX am_profile_points_new ON am_profile_points (agent_id, metric, number);
CREATE INDEX am_profile_points_age ON am_profile_points (happened_at);

-- Values by minute, hour and day.
CREATE TABLE am_profile_buckets (
    agent_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    -- M, H, D.
    resolution TEXT NOT NULL,
    -- When it begins.
    begins_at TEXT NOT NULL,
    count INTEGER NOT NULL,
    sum REAL NOT NULL,
    min REAL NOT NULL,
    max REAL NOT NULL,
    -- The sketch of the values, as JSON.
    sketch TEXT NOT NULL,
    PRIMARY KEY (agent_id, metric, resolution, begins_at)
) WITHOUT ROWID;
CREATE INDEX am_profile_buckets_age ON am_profile_buckets (resolution, begins_at);

-- Changes of a metric's mean that were told.
CREATE TABLE am_profile_changes (
    agent_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    -- The hour from which the new mean holds.
    changed_at TEXT NOT NULL,
    before REAL NOT NULL,
    after REAL NOT NULL,
    found_at TEXT NOT NULL,
    PRIMARY KEY (agent_id, metric, changed_at)
) WITHOUT ROWID;

-- Places of the worker by name.
CREATE TABLE am_profile_work (
    name TEXT NOT NULL PRIMARY KEY,
    place INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO am_profile_work (name, place) VALUES ('points', 0), ('coordinator', 0);
