-- What the coordinator's agent_deployment_configs does not hold of a deployment that was made here.
CREATE TABLE am_deployments (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    -- Name of the deployment, as the coordinator's row has it.
    deployment_name TEXT NOT NULL,
    -- Where it is deployed; null: nowhere yet.
    environment TEXT,
    -- Revision that serves; 0: none.
    revision INTEGER NOT NULL DEFAULT 0,
    -- Number of the newest revision; 0: none.
    last_revision INTEGER NOT NULL DEFAULT 0,
    -- Instances that are wanted.
    desired INTEGER NOT NULL DEFAULT 0,
    -- The rollout under way, as JSON; null: none.
    rollout TEXT NOT NULL DEFAULT 'null',
    -- Limits of its figures, as JSON; null: the defaults.
    thresholds TEXT NOT NULL DEFAULT 'null',
    -- Ports of its instances, both included.
    port_low INTEGER NOT NULL,
    port_high INTEGER NOT NULL,
    -- 1: it has instances, or wants some.
    live INTEGER NOT NULL DEFAULT 0,
    -- Why the last rollout was undone; null: it was not.
    error TEXT,
    -- Number of the last entry of its changes.
    last_change INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX am_deployments_owner ON am_deployments (owner_id, created_at, id);
CREATE UNIQUE INDEX am_deployments_name ON am_deployments (owner_id, deployment_name);
CREATE INDEX am_deployments_live ON am_deployments (id) WHERE live = 1;

-- A workflow and a configuration as they were deployed.
CREATE TABLE am_deployment_revisions (
    deployment_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    -- CANDIDATE: being rolled out; ACTIVE: serves; SUPERSEDED: served before; UNDONE: its rollout was.
    state TEXT NOT NULL,
    -- The workflow's row, as JSON.
    workflow TEXT NOT NULL,
    -- What tells two snapshots apart.
    workflow_etag TEXT NOT NULL,
    -- What instances are started with, as JSON.
    config TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at TEXT NOT NULL,
    -- When it first served; null: it has not.
    promoted_at TEXT,
    -- When it served no longer, or was undone; null: it has not.
    ended_at TEXT,
    PRIMARY KEY (deployment_id, number)
) WITHOUT ROWID;

-- What the coordinator's agent_deployment_instances does not hold of an instance. Rows are used again.
CREATE TABLE am_deployment_instances (
    id TEXT NOT NULL PRIMARY KEY,
    deployment_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    -- Its number within the deployment, which ends its name.
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    port INTEGER NOT NULL,
    -- SERVING: wanted; DRAINING: gets no more calls; GONE: no process.
    state TEXT NOT NULL,
    -- SHA-256 of its token, in hex.
    token_hash TEXT NOT NULL,
    -- Its process; null: none is known.
    pid INTEGER,
    restarts INTEGER NOT NULL DEFAULT 0,
    -- Seconds between checks that found it healthy, and that did not.
    up_seconds REAL NOT NULL DEFAULT 0,
    down_seconds REAL NOT NULL DEFAULT 0,
    -- Why it is as it is.
    reason TEXT NOT NULL,
    -- When calls to it were stopped; null: they are not.
    draining_at TEXT,
    created_at TEXT NOT NULL
);
CREATE UNIQUE INDEX am_deployment_instances_number ON am_deployment_instances (deployment_id, number);
CREATE INDEX am_deployment_instances_owner ON am_deployment_instances (owner_id, created_at, id);
CREATE INDEX am_deployment_instances_live ON am_deployment_instances (deployment_id, number) WHERE state <> 'GONE';
CREATE UNIQUE INDEX am_deployment_instances_port ON am_deployment_instances (port) WHERE state <> 'GONE';

-- What changed of a deployment and why; the newest 500 are kept.
CREATE TABLE am_deployment_changes (
    deployment_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    revision INTEGER,
    reason TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (deployment_id, seq)
) WITHOUT ROWID;

-- What was measured, in three grains (docs/DEPLOYMENTS.md); each keeps its newest.
CREATE TABLE am_deployment_samples (
    deployment_id TEXT NOT NULL,
    -- Seconds of a sample: 10, 60 or 600.
    grain INTEGER NOT NULL,
    -- Beginning of the sample, in seconds since 1970.
    at INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    response_seconds REAL NOT NULL,
    slowest_seconds REAL NOT NULL,
    cpu_seconds REAL NOT NULL,
    memory_bytes REAL NOT NULL,
    healthy INTEGER NOT NULL,
    instances INTEGER NOT NULL,
    looks INTEGER NOT NULL,
    PRIMARY KEY (deployment_id, grain, at)
) WITHOUT ROWID;

-- Alerts of deployments.
CREATE TABLE am_deployment_alerts (
    id TEXT NOT NULL PRIMARY KEY,
    deployment_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    -- OPEN, ACKNOWLEDGED, RESOLVED.
    state TEXT NOT NULL,
    -- The figure that raised it, or the highest since.
    value REAL NOT NULL,
    message TEXT NOT NULL,
    acknowledged_by TEXT,
    acknowledged_at TEXT,
    resolved_at TEXT,
    -- Until when nobody is told of it, nor of the next one of the same rule; null: all are told.
    silenced_until TEXT,
    created_at TEXT NOT NULL
);
CREATE UNIQUE INDEX am_deployment_alerts_raised ON am_deployment_alerts (deployment_id, rule) WHERE state <> 'RESOLVED';
CREATE INDEX am_deployment_alerts_owner ON am_deployment_alerts (owner_id, created_at, id);
CREATE INDEX am_deployment_alerts_rule ON am_deployment_alerts (deployment_id, rule, silenced_until);
