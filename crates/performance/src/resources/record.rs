//! An allocation and a host as they are stored, and as clients see them.

use am_core::ids::{AgentId, ExecutionId, PrincipalId};
use am_db::codec::Timestamp;
use serde_json::{Map, Value};

use super::{
    amounts::{RESOURCE_NAMES, ResourceAmounts, ResourceParts, ResourceRoom, to_thousandths, to_units},
    model::{AllocationDocument, HostDocument, HostState, OptimizationTarget, PlacementNote},
    state::{AllocationLife, AllocationState},
    usage::{MeasuredUsage, UsageReport},
};

/// Word for an allocation whose capacity a host has.
pub(super) const ADMITTED: &str = "admitted";
/// Word for allocations where no host is configured.
pub(super) const NOT_CONFIGURED: &str = "not configured";

/// A row of the coordinator's table, with what this service knows beside it.
#[derive(Clone, Debug)]
pub(super) struct AllocationRecord {
    /// Primary key of the coordinator's row.
    pub id: String,
    pub allocation_id: String,
    pub agent_id: AgentId,
    pub cpu_cores: f64,
    pub memory_gb: f64,
    pub gpu_count: f64,
    pub gpu_memory_gb: f64,
    pub storage_gb: f64,
    pub network_bandwidth: f64,
    pub optimization_target: OptimizationTarget,
    pub priority_level: String,
    pub status: String,
    pub allocated_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// `None`: the coordinator made it, and all that follows is empty.
    pub owner_id: Option<PrincipalId>,
    pub task_requirements: Map<String, Value>,
    pub task_rule: Option<String>,
    pub initial: Option<ResourceAmounts>,
    pub execution_id: Option<ExecutionId>,
    pub host_id: Option<String>,
    pub placement: Option<PlacementNote>,
    pub held: Option<i64>,
    /// What it takes of its host, in thousandths.
    pub parts: ResourceParts,
    pub due_at: Option<Timestamp>,
    /// The optimisation whose amounts it has.
    pub tuned_by: Option<String>,
    /// What was measured until it ended; `None`: it goes on.
    pub measured: Option<UsageReport>,
    /// What the execution's sandbox has measured so far; `None`: it has none.
    pub sandbox: Option<MeasuredUsage>,
    pub commands: Option<i64>,
}

impl AllocationRecord {
    pub(super) fn amounts(&self) -> ResourceAmounts {
        ResourceAmounts {
            cpu_cores: self.cpu_cores,
            memory_gb: self.memory_gb,
            gpu_count: self.gpu_count,
            gpu_memory_gb: self.gpu_memory_gb,
            storage_gb: self.storage_gb,
            network_bandwidth: self.network_bandwidth,
        }
    }

    /// Where it is in its life; `None`: another service made it or changed its state.
    pub(super) fn life(&self) -> Option<AllocationLife> {
        let state = AllocationState::from_word(&self.status)?;
        Some(AllocationLife { state, holds: self.held? != 0 })
    }

    /// What was used of it: what was stored at its end, else what the sandbox says now.
    pub(super) fn usage(&self) -> UsageReport {
        if let Some(measured) = &self.measured {
            return measured.clone();
        }
        match (&self.owner_id, &self.execution_id, &self.sandbox) {
            (None, ..) => UsageReport::unmeasured("another service made this allocation"),
            (_, None, _) => UsageReport::unmeasured("no execution was named whose sandbox could be measured"),
            (_, _, None) => UsageReport::unmeasured("the execution has run no command in a sandbox"),
            (.., Some(usage)) => {
                let commands = self.commands.unwrap_or(0).unsigned_abs();
                UsageReport::measured(&self.amounts(), usage, commands)
            }
        }
    }

    /// What clients see of it.
    pub(super) fn into_document(self) -> AllocationDocument {
        let (amounts, usage) = (self.amounts(), self.usage());
        let mut reasons = usage.reasons;
        if self.owner_id.is_none() {
            for name in ["initial", "cost_savings", "task_rule"] {
                reasons.insert(name.to_owned(), "another service made this allocation".to_owned());
            }
        }
        let admission = match (&self.owner_id, &self.host_id) {
            (None, _) => "unknown",
            (_, None) => NOT_CONFIGURED,
            (_, Some(_)) => ADMITTED,
        };
        let cost = amounts.cost();
        AllocationDocument {
            allocation_id: self.allocation_id,
            agent_id: self.agent_id,
            owner_id: self.owner_id,
            cpu_cores: amounts.cpu_cores,
            memory_gb: amounts.memory_gb,
            gpu_count: amounts.gpu_count,
            gpu_memory_gb: amounts.gpu_memory_gb,
            storage_gb: amounts.storage_gb,
            network_bandwidth: amounts.network_bandwidth,
            optimization_target: self.optimization_target,
            priority_level: self.priority_level,
            status: self.status,
            allocated_at: self.allocated_at,
            started_at: self.started_at,
            completed_at: self.completed_at,
            expires_at: self.due_at,
            task_requirements: self.task_requirements,
            task_rule: self.task_rule,
            cost,
            cost_savings: self.initial.map(|initial| to_thousandths(initial.cost() - cost)),
            initial: self.initial,
            tuned_by: self.tuned_by,
            admission: admission.to_owned(),
            host_id: self.host_id,
            holds_capacity: self.held == Some(1),
            placement: self.placement,
            execution_id: self.execution_id,
            utilisation: usage.utilisation,
            efficiency_score: usage.efficiency_score,
            cost_efficiency: usage.cost_efficiency,
            reasons,
            created_at: self.created_at,
            updated_at: self.updated_at,
            row_id: self.id,
        }
    }
}

/// A host as it is stored.
#[derive(Clone, Debug)]
pub(super) struct HostRecord {
    pub id: String,
    pub state: HostState,
    pub capacity: [i64; 6],
    pub used: [i64; 6],
    pub allocations: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl HostRecord {
    /// Its room in thousandths.
    pub(super) fn room(&self) -> ResourceRoom {
        ResourceRoom { capacity: self.capacity.map(i64::unsigned_abs), used: self.used.map(i64::unsigned_abs) }
    }

    pub(super) fn into_document(self) -> HostDocument {
        let room = self.room();
        HostDocument {
            host_id: self.id,
            state: self.state,
            capacity: ResourceAmounts::from_parts(&room.capacity),
            allocated: ResourceAmounts::from_parts(&room.used),
            free: ResourceAmounts::from_parts(&room.free()),
            allocations: self.allocations,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// What hosts lack for a demand, as a sentence: each resource of each of the first of them.
pub(super) fn describe_lack(hosts: &[HostRecord], demand: &ResourceParts, most: usize) -> String {
    let of_host = |host: &HostRecord| {
        let room = host.room();
        let lacks = room.shortfalls(demand).into_iter().map(|lack| {
            let at = lack.resource;
            let [missing, whole, free] = [lack.missing, room.capacity[at], lack.free].map(to_units);
            format!("{missing} {} (of {whole} it has {free} free)", RESOURCE_NAMES[at])
        });
        format!("{} lacks {}", host.id, lacks.collect::<Vec<_>>().join(" and "))
    };
    let mut parts: Vec<String> = hosts.iter().take(most).map(of_host).collect();
    if hosts.len() > most {
        parts.push(format!("other hosts that lack something: {}", hosts.len() - most));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_is_told_of_each_host() {
        let now = Timestamp(chrono::DateTime::UNIX_EPOCH);
        let host = |id: &str, cores: i64, used: i64| HostRecord {
            id: id.to_owned(),
            state: HostState::Open,
            capacity: [cores, 8000, 0, 0, 100_000, 100_000],
            used: [used, 0, 0, 0, 0, 0],
            allocations: 1,
            created_at: now,
            updated_at: now,
        };
        let hosts = [host("one", 8000, 6500), host("two", 16_000, 0), host("three", 1000, 0)];
        let told = describe_lack(&hosts, &[2000, 4000, 1050, 0, 1000, 1000], 2);
        assert_eq!(
            told,
            "one lacks 0.5 cpu_cores (of 8 it has 1.5 free) and 1.05 gpu_count (of 0 it has 0 free); \
             two lacks 1.05 gpu_count (of 0 it has 0 free); other hosts that lack something: 1"
        );
        let shown = hosts[0].clone().into_document();
        assert_eq!((shown.free.cpu_cores, shown.capacity.memory_gb, shown.allocated.cpu_cores), (1.5, 8.0, 6.5));
    }
}
