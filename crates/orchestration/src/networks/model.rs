//! Types of networks of agents.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::ExecutionStatus;
use am_core::{
    ids::{NetworkId, PrincipalId, WorkflowId},
    money::Money,
    validation::{FieldPath, Violation, Violations, has_length},
};
use am_db::{codec::Timestamp, owner};

am_db::stored_enum! {
    /// Coordination strategy of a network's agents.
    #[schema(as = CoordinationStrategy)]
    pub enum CoordinationStrategy {
        /// The first agent coordinates: it runs before the others, which see its results.
        Centralized = "centralized" / "centralized",
        /// All agents run at once; their results are merged.
        Decentralized = "decentralized" / "decentralized",
        /// Agents run in stages: the first, those between, the last; or by the agents' `stage`.
        Hybrid = "hybrid" / "hybrid",
    }
}

am_db::stored_enum! {
    /// Objective by which a network is reordered.
    #[schema(as = NetworkObjective)]
    pub enum NetworkObjective {
        /// Mean seconds, shortest first.
        Speed = "speed" / "speed",
        /// Mean seconds times mean cost, lowest first.
        Efficiency = "efficiency" / "efficiency",
        /// Mean cost, lowest first.
        Cost = "cost" / "cost",
        /// Success rate, highest first.
        Quality = "quality" / "quality",
    }
}

/// A network of agents.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentNetwork {
    /// Id: `network_`, the time when it was made, and six hex digits.
    pub id: NetworkId,
    /// Principal that owns the network.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Name for people.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// Agents as sent: ids, or objects with an `id` (`agent_id`, `workflow_id`) and an optional `stage`.
    #[schema(value_type = Vec<NetworkAgent>)]
    pub agents: Vec<Value>,
    /// Coordination strategy of the agents.
    pub coordination_strategy: CoordinationStrategy,
    /// Status as stored; [`NetworkStatus::status`] is the current one.
    pub status: String,
    /// Time when it was made.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// An agent of a network, as clients send it and get it back.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
pub enum NetworkAgent {
    /// The id of a workflow.
    Id(WorkflowId),
    /// An object that holds the id of a workflow as `id`, `agent_id` or `workflow_id`, and perhaps a `stage`, a whole
    /// number; agents of lower stages run first.
    Object(std::collections::BTreeMap<String, Value>),
}

/// Return the id in a client's entry for an agent.
fn agent_id(agent: &Value) -> Option<&str> {
    let named = || ["id", "agent_id", "workflow_id"].iter().find_map(|name| agent.get(name));
    agent.as_str().or_else(|| named().and_then(Value::as_str)).filter(|id| !id.is_empty())
}

impl AgentNetwork {
    /// Return the agents' ids, in order.
    pub fn agent_ids(&self) -> Vec<WorkflowId> {
        self.agents.iter().filter_map(agent_id).map(WorkflowId::from).collect()
    }

    /// Return the agents by stage, as indices into [`AgentNetwork::agent_ids`].
    pub fn stages(&self) -> Vec<Vec<usize>> {
        let count = self.agents.len();
        let all: Vec<usize> = (0..count).collect();
        match self.coordination_strategy {
            CoordinationStrategy::Decentralized => vec![all],
            CoordinationStrategy::Centralized if count > 1 => vec![vec![0], all[1..].to_vec()],
            CoordinationStrategy::Centralized => vec![all],
            CoordinationStrategy::Hybrid => {
                let named: Vec<Option<i64>> =
                    self.agents.iter().map(|agent| agent.get("stage").and_then(Value::as_i64)).collect();
                if named.iter().any(Option::is_some) {
                    let mut stages = std::collections::BTreeMap::<i64, Vec<usize>>::new();
                    for (at, stage) in named.iter().enumerate() {
                        stages.entry(stage.unwrap_or(i64::MAX)).or_default().push(at);
                    }
                    stages.into_values().collect()
                } else if count > 2 {
                    vec![vec![0], all[1..count - 1].to_vec(), vec![count - 1]]
                } else {
                    all.into_iter().map(|at| vec![at]).collect()
                }
            }
        }
    }

    /// Reorder all agents but the first.
    pub(super) fn reorder(&mut self, objective: NetworkObjective, measured: &[AgentRunStats]) {
        let rank =
            |at: usize| measured.get(at).and_then(|measured| measured.rank_key(objective)).unwrap_or(f64::INFINITY);
        let mut places: Vec<usize> = (1..self.agents.len()).collect();
        places.sort_by(|a, b| rank(*a).total_cmp(&rank(*b)));
        let agents =
            self.agents.first().into_iter().chain(places.iter().map(|at| &self.agents[*at])).cloned().collect();
        self.agents = agents;
    }
}

/// Characters of a network's name.
const NAME_LENGTH: RangeInclusive<usize> = 1..=200;
/// Agents of a network.
const MAX_AGENTS: usize = 100;

/// Request for making a network.
#[derive(Clone, Debug)]
pub struct NetworkDraft {
    /// Name, 1 to 200 characters.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// Agents, at most 100.
    pub agents: Vec<Value>,
    /// Coordination strategy of the agents.
    pub strategy: CoordinationStrategy,
}

impl NetworkDraft {
    pub(super) fn check(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        violations.require(has_length(&self.name, &NAME_LENGTH), "name", "must have 1 to 200 characters");
        violations.require(self.agents.len() <= MAX_AGENTS, "agents", "at most 100");
        for (at, agent) in self.agents.iter().enumerate() {
            let path = FieldPath::from([at]).within(["agents"]);
            violations.require(agent_id(agent).is_some(), path, "must be an agent's id, or an object with one");
        }
        violations.finish()
    }
}

/// Figures of an agent's own executions; null where it has none.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = NetworkMeasurement)]
pub struct AgentRunStats {
    /// Id of the agent.
    pub agent_id: WorkflowId,
    /// Number of executions that completed or failed.
    pub runs: i64,
    /// Mean seconds of the completed ones.
    pub mean_seconds: Option<f64>,
    /// Mean cost of the completed ones.
    pub mean_cost: Option<Money>,
    /// Share of completed ones, 0 to 1.
    pub success_rate: Option<f64>,
}

impl AgentRunStats {
    /// Return the sort key; lower is better.
    fn rank_key(&self, objective: NetworkObjective) -> Option<f64> {
        match objective {
            NetworkObjective::Speed => self.mean_seconds,
            NetworkObjective::Cost => self.mean_cost.map(Money::to_f64),
            NetworkObjective::Efficiency => Some(self.mean_seconds? * self.mean_cost?.to_f64()),
            NetworkObjective::Quality => self.success_rate.map(|rate| -rate),
        }
    }
}

/// Result of reordering a network.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = NetworkOptimization)]
pub struct NetworkOptimization {
    /// Id of the network.
    pub network_id: NetworkId,
    /// Objective of the order.
    pub objective: NetworkObjective,
    /// Whether the order has changed.
    pub changed: bool,
    /// Agents in the new order.
    pub agents: Vec<WorkflowId>,
    /// Agents in the old order.
    pub before: Vec<WorkflowId>,
    /// Figures that determined the order, in the old order of agents.
    pub measured: Vec<AgentRunStats>,
}

/// What a network does: the status of its newest execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkActivity {
    /// It was never executed.
    #[default]
    Idle,
    /// Its newest execution waits to begin.
    Pending,
    /// Its newest execution is in progress.
    Running,
    /// Its newest execution ended well.
    Completed,
    /// Its newest execution ended by an error.
    Failed,
    /// Its newest execution was cancelled on request.
    Cancelled,
}

impl From<Option<ExecutionStatus>> for NetworkActivity {
    fn from(newest: Option<ExecutionStatus>) -> Self {
        match newest {
            None => Self::Idle,
            Some(ExecutionStatus::Pending) => Self::Pending,
            Some(ExecutionStatus::Running) => Self::Running,
            Some(ExecutionStatus::Completed) => Self::Completed,
            Some(ExecutionStatus::Failed) => Self::Failed,
            Some(ExecutionStatus::Cancelled) => Self::Cancelled,
        }
    }
}

/// Status of a network, computed from its executions.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = NetworkStatistics)]
pub struct NetworkStatus {
    /// Status of the newest execution; `idle` without executions.
    pub status: NetworkActivity,
    /// Total number of executions.
    pub total_executions: i64,
    /// Executions waiting to begin.
    pub pending_executions: i64,
    /// Executions in progress.
    pub running_executions: i64,
    /// Executions that ended well.
    pub completed_executions: i64,
    /// Executions that ended by an error.
    pub failed_executions: i64,
    /// Executions cancelled on request.
    pub cancelled_executions: i64,
    /// Share of completed among completed and failed ones, 0 to 1.
    pub success_rate: Option<f64>,
    /// Mean seconds of the completed ones.
    pub average_execution_time: Option<f64>,
    /// Total cost of all executions.
    pub total_cost: Money,
    /// Time when the newest execution was requested.
    pub last_execution_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::json;

    fn sample_network(strategy: CoordinationStrategy, agents: Vec<Value>) -> AgentNetwork {
        let at = Timestamp(DateTime::from_timestamp(0, 0).unwrap());
        AgentNetwork {
            id: NetworkId::default(),
            owner_id: PrincipalId::default(),
            name: String::new(),
            description: String::new(),
            agents,
            coordination_strategy: strategy,
            status: String::new(),
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn stages_follow_the_strategy() {
        let four = || vec![json!("a"), json!({"id": "b"}), json!({"agent_id": "c"}), json!("d")];
        assert_eq!(sample_network(CoordinationStrategy::Centralized, four()).stages(), [vec![0], vec![1, 2, 3]]);
        assert_eq!(sample_network(CoordinationStrategy::Decentralized, four()).stages(), [vec![0, 1, 2, 3]]);
        assert_eq!(sample_network(CoordinationStrategy::Hybrid, four()).stages(), [vec![0], vec![1, 2], vec![3]]);
        let staged =
            vec![json!({"id": "a", "stage": 2}), json!({"id": "b", "stage": 1}), json!({"id": "c", "stage": 2})];
        assert_eq!(sample_network(CoordinationStrategy::Hybrid, staged).stages(), [vec![1], vec![0, 2]]);
        assert_eq!(sample_network(CoordinationStrategy::Hybrid, four()).agent_ids(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn the_order_follows_what_was_measured_and_the_first_stays() {
        let measure = |seconds: Option<f64>, rate| AgentRunStats {
            agent_id: WorkflowId::default(),
            runs: 1,
            mean_seconds: seconds,
            mean_cost: Some(Money::from_f64(1.0)),
            success_rate: Some(rate),
        };
        let measured = [measure(Some(9.0), 0.1), measure(None, 0.5), measure(Some(3.0), 0.6), measure(Some(1.0), 0.2)];
        let mut by_speed =
            sample_network(CoordinationStrategy::Centralized, vec![json!("a"), json!("b"), json!("c"), json!("d")]);
        let mut by_quality = by_speed.clone();
        by_speed.reorder(NetworkObjective::Speed, &measured);
        assert_eq!(by_speed.agent_ids(), ["a", "d", "c", "b"], "nothing is known of b");
        by_quality.reorder(NetworkObjective::Quality, &measured);
        assert_eq!(by_quality.agent_ids(), ["a", "c", "b", "d"]);
    }
}
