-- Who used an agent first that nobody has registered.
CREATE TABLE am_agent_claims (
    agent_id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    created_at TEXT NOT NULL
);

-- Hosts whose capacity is allocated. Amounts are thousandths of cores, GB, GPUs and Mbit/s.
CREATE TABLE am_capacity_hosts (
    id TEXT NOT NULL PRIMARY KEY,
    -- OPEN: takes new allocations; CLOSED.
    state TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    gpu INTEGER NOT NULL,
    gpu_memory INTEGER NOT NULL,
    storage INTEGER NOT NULL,
    network INTEGER NOT NULL,
    -- What allocations take of it, kept in the transaction of each change.
    cpu_used INTEGER NOT NULL DEFAULT 0 CHECK (cpu_used >= 0 AND cpu_used <= cpu),
    memory_used INTEGER NOT NULL DEFAULT 0 CHECK (memory_used >= 0 AND memory_used <= memory),
    gpu_used INTEGER NOT NULL DEFAULT 0 CHECK (gpu_used >= 0 AND gpu_used <= gpu),
    gpu_memory_used INTEGER NOT NULL DEFAULT 0 CHECK (gpu_memory_used >= 0 AND gpu_memory_used <= gpu_memory),
    storage_used INTEGER NOT NULL DEFAULT 0 CHECK (storage_used >= 0 AND storage_used <= storage),
    network_used INTEGER NOT NULL DEFAULT 0 CHECK (network_used >= 0 AND network_used <= network),
    allocations INTEGER NOT NULL DEFAULT 0 CHECK (allocations >= 0),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

-- What the coordinator's resource_allocations does not hold of an allocation that was made here.
CREATE TABLE am_allocations (
    id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    -- As JSON, as they were asked.
    task_requirements TEXT NOT NULL,
    task_rule TEXT NOT NULL,
    -- The configuration before the target's rule, as JSON.
    initial TEXT NOT NULL,
    execution_id TEXT,
    -- Null: no host was configured, and the allocation is advice.
    host_id TEXT,
    -- Why this host, as JSON.
    placement TEXT NOT NULL DEFAULT 'null',
    -- 1: its capacity is taken.
    held INTEGER NOT NULL,
    -- What it takes of the host, in thousandths, as a JSON list in the order of the host's columns.
    parts TEXT NOT NULL,
    -- When it expires; null: it can't any more.
    due_at TEXT,
    -- What was measured when it ended, as JSON; null before, and then read from the sandbox.
    measured TEXT NOT NULL DEFAULT 'null',
    created_at TEXT NOT NULL
);
CREATE INDEX am_allocations_due ON am_allocations (due_at) WHERE due_at IS NOT NULL;

-- The list of resource_allocations (0027_lists.sql says how lists are kept).
CREATE TABLE am_allocation_list (
    id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX am_allocation_list_page ON am_allocation_list (agent_id, created_at, id, status);
CREATE INDEX am_allocation_list_status ON am_allocation_list (agent_id, status, created_at, id);
CREATE INDEX am_allocation_list_open ON am_allocation_list (id) WHERE status IN ('pending', 'allocated', 'active');
