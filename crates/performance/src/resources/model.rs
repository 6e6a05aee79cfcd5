//! Allocations, hosts and the capacity, as they are asked for and answered.

use std::collections::BTreeMap;

use am_core::ids::{AgentId, ExecutionId, PrincipalId};
use am_db::codec::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::amounts::ResourceAmounts;

am_db::stored_enum! {
    /// What a configuration is optimised for.
    pub enum OptimizationTarget {
        /// More cores and memory; a GPU for inference and image generation.
        Speed = "SPEED" / "speed",
        /// Twice the memory; two GPUs with 8 GB each for training and inference.
        Accuracy = "ACCURACY" / "accuracy",
        /// No more than the type of task needs.
        Efficiency = "EFFICIENCY" / "efficiency",
        /// No GPU, half the cores, less memory.
        Cost = "COST" / "cost",
        /// Whole cores and GPUs, and room for more data and calls.
        Scalability = "SCALABILITY" / "scalability",
        /// Reserves for peaks, storage for a second copy, no shared GPU.
        Reliability = "RELIABILITY" / "reliability",
    }
}

/// Resources to allocate to an agent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ResourceAllocationRequest, example = json!({
    "agent_id": "summariser",
    "task_requirements": {"task_type": "inference", "model_size": "large", "workload_factor": 1.5},
    "optimization_target": "efficiency",
}))]
pub struct AllocationDraft {
    /// Name of the agent. One that another principal has registered is not found.
    pub agent_id: AgentId,
    /// What the task needs. Read are `task_type` (`inference`, `training`, `text_generation`, `image_generation`; any other counts as
    /// `general`), `model_size` (`large` or not) and `workload_factor` (above 0 to 1000, default 1); the rest is kept as it is.
    #[schema(value_type = Object)]
    pub task_requirements: Map<String, Value>,
    /// What the configuration is optimised for. Default `efficiency`.
    pub optimization_target: Option<OptimizationTarget>,
    /// Word for the task's priority, 1 to 50 characters. It is kept and decides nothing. Default `normal`.
    pub priority_level: Option<String>,
    /// Seconds after which the allocation expires, 1 to 2592000. Default 86400.
    pub ttl_seconds: Option<i64>,
    /// Execution that uses the resources, one of the caller's own: its sandbox is what utilisation is measured from. Default: none is
    /// known yet.
    pub execution_id: Option<ExecutionId>,
}

/// The start of an allocation's use.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = ResourceAllocationStart)]
pub struct AllocationStart {
    /// Execution that uses the resources, one of the caller's own. Default: the one that was named before, if any.
    pub execution_id: Option<ExecutionId>,
}

/// The end of an allocation's use.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = ResourceAllocationCompletion)]
pub struct AllocationCompletion {
    /// Whether the capacity stays taken until the allocation is released or expires. Default false: it is free at once.
    pub keep: Option<bool>,
}

/// Why a host was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ResourcePlacement)]
pub struct PlacementNote {
    /// Whether nothing else was on the host.
    pub opened_host: bool,
    /// Resource of which the allocation takes the largest share of the host.
    pub dominant_resource: String,
    /// That share, 0 to 1.
    pub dominant_share: f64,
    /// Distance between the shares that are free on the host and those that were asked for, by the scarcity of each resource: of the
    /// hosts that come into question the one with the least was chosen.
    pub distance: f64,
    /// Hosts on which it would have fitted.
    pub candidates: u64,
    /// Hosts that were open.
    pub open_hosts: u64,
    /// The same as a sentence.
    pub explanation: String,
}

/// Shares of an allocation that were used, 0 and above; a share over 1 took more than was allocated. Null: it was not measured, and
/// `reasons` of the allocation says why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceUtilisation {
    /// Processor seconds of the execution's commands, over the seconds that they ran times the cores.
    pub cpu_cores: Option<f64>,
    /// Peak memory of the execution's commands over the memory.
    pub memory_gb: Option<f64>,
    /// Use of the GPUs.
    pub gpu_count: Option<f64>,
    /// Use of the GPUs' memory.
    pub gpu_memory_gb: Option<f64>,
    /// Size of the workspace after the last command over the storage.
    pub storage_gb: Option<f64>,
    /// Use of the network.
    pub network_bandwidth: Option<f64>,
    /// Commands that were measured.
    pub commands: u64,
    /// Seconds that they ran together; null: there was none.
    pub seconds: Option<f64>,
}

/// An allocation of resources to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ResourceAllocation)]
pub struct AllocationDocument {
    /// Id of the allocation: `alloc_` and hexadecimal digits.
    pub allocation_id: String,
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Principal that made it; null: the coordinator did.
    #[schema(value_type = Option<String>)]
    pub owner_id: Option<PrincipalId>,
    /// Number of processor cores.
    pub cpu_cores: f64,
    /// Memory in GB (2^30 bytes).
    pub memory_gb: f64,
    /// GPUs; a fraction is a share of one.
    pub gpu_count: f64,
    /// Memory of all GPUs together in GB.
    pub gpu_memory_gb: f64,
    /// Storage in GB.
    pub storage_gb: f64,
    /// Network bandwidth in Mbit/s.
    pub network_bandwidth: f64,
    /// What the configuration was optimised for.
    pub optimization_target: OptimizationTarget,
    /// Word for the task's priority.
    pub priority_level: String,
    /// `allocated`, `active`, `completed`, `released` or `expired`; the coordinator has other words too.
    pub status: String,
    /// When it was made; null: the coordinator's row does not say.
    pub allocated_at: Option<Timestamp>,
    /// When its use began; null: it has not.
    pub started_at: Option<Timestamp>,
    /// When its use ended; null: it has not.
    pub completed_at: Option<Timestamp>,
    /// When it expires; null: it has ended, or the coordinator made it.
    pub expires_at: Option<Timestamp>,
    /// What the task needs, as it was asked.
    #[schema(value_type = Object)]
    pub task_requirements: Map<String, Value>,
    /// Row of the table of initial allocations; null: the coordinator made it.
    pub task_rule: Option<String>,
    /// The row times the workload factor, before the target's rule; null: the coordinator made it.
    pub initial: Option<ResourceAmounts>,
    /// What the configuration costs, in cost units: 10 a core, 2 a GB of memory, 100 a GPU, 0.1 a GB of storage.
    pub cost: f64,
    /// Cost of the initial configuration less that of this one, below 0 where this one costs more; null: the coordinator made it.
    pub cost_savings: Option<f64>,
    /// Id of the optimisation whose amounts it has in place of the table's; null: it has the table's.
    pub tuned_by: Option<String>,
    /// `admitted`: a host has the capacity, which is taken. `not configured`: no host is configured, and this is advice only.
    /// `unknown`: the coordinator made it.
    pub admission: String,
    /// Host whose capacity it takes or took; null: none.
    pub host_id: Option<String>,
    /// Whether the capacity is taken now.
    pub holds_capacity: bool,
    /// Why this host; null: there is none.
    pub placement: Option<PlacementNote>,
    /// Execution that uses the resources; null: none was named.
    pub execution_id: Option<ExecutionId>,
    /// What of it was used.
    pub utilisation: ResourceUtilisation,
    /// Mean of the measured shares, each 1 at most; null: nothing was measured.
    pub efficiency_score: Option<f64>,
    /// Share of the cost of the measured resources that was used, 0 to 1; null: nothing that costs was measured.
    pub cost_efficiency: Option<f64>,
    /// Why a figure is null: a sentence for each such member.
    pub reasons: BTreeMap<String, String>,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// Primary key of the row, which lists are ordered by.
    #[serde(skip)]
    pub(super) row_id: String,
}

impl AllocationDocument {
    /// Its place in lists.
    pub fn list_place(&self) -> (Timestamp, &str) {
        (self.created_at, &self.row_id)
    }
}

am_db::stored_enum! {
    /// Whether a host takes allocations.
    pub enum HostState {
        /// It takes new ones.
        Open = "OPEN" / "open",
        /// It keeps those that it has and takes no more.
        Closed = "CLOSED" / "closed",
    }
}

/// What a host has.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ResourceHostDraft)]
pub struct HostDraft {
    /// Amounts of its resources, each with at most three decimal places.
    #[serde(flatten)]
    pub capacity: ResourceAmounts,
    /// Whether it takes new allocations. Default `open`.
    pub state: Option<HostState>,
}

/// A host whose capacity is allocated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ResourceHost)]
pub struct HostDocument {
    /// Name of the host.
    pub host_id: String,
    /// Whether it takes new allocations.
    pub state: HostState,
    /// What it has.
    pub capacity: ResourceAmounts,
    /// What allocations take of it.
    pub allocated: ResourceAmounts,
    /// What is left.
    pub free: ResourceAmounts,
    /// Number of allocations that take capacity of it.
    pub allocations: i64,
    /// When it was configured first.
    pub created_at: Timestamp,
    /// When it was changed last, by an admin.
    pub updated_at: Timestamp,
}

/// A resource of all hosts together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceCapacity {
    /// Name of the resource, as in allocations.
    pub resource: String,
    /// Sum of what the hosts have.
    pub capacity: f64,
    /// Sum of what is allocated.
    pub allocated: f64,
    /// Allocated over capacity, 0 to 1; null: no host has any.
    pub share: Option<f64>,
    /// Largest amount that one open host has free; null: no host is open.
    pub largest_free: Option<f64>,
}

/// The capacity of all hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ResourceCapacityReport)]
pub struct CapacityReport {
    /// `capacity`: allocations are admitted against it. `not configured`: there is no host, and allocations are advice only.
    pub admission: String,
    /// Number of hosts.
    pub hosts: u64,
    /// Hosts that take new allocations.
    pub open_hosts: u64,
    /// Hosts of which something is allocated.
    pub hosts_in_use: u64,
    /// Allocations that take capacity.
    pub allocations: i64,
    /// Each resource, in the order of an allocation's members.
    pub resources: Vec<ResourceCapacity>,
}
