-- Bounds of security policies that the coordinator's table has no columns for: JSON, an object without the bounds that
-- are not set.
CREATE TABLE am_policy_bounds (
    policy_id VARCHAR NOT NULL PRIMARY KEY,
    bounds TEXT NOT NULL
);
