//! What a network is, and how it stands.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Fault;
use am_db::{codec::Timestamp, owner};

am_db::stored_enum! {
    /// How the agents of a network work together.
    pub enum Strategy {
        /// The first coordinates: it runs before the others, which see what it gave.
        Centralized = "centralized" / "centralized",
        /// All at once, then a merge.
        Decentralized = "decentralized" / "decentralized",
        /// In stages: the first, those between, the last; or as the agents' `stage` says.
        Hybrid = "hybrid" / "hybrid",
    }
}

am_db::stored_enum! {
    /// What a network is put in order by.
    pub enum Objective {
        /// Mean seconds, the quickest first.
        Speed = "speed" / "speed",
        /// Mean seconds times mean cost.
        Efficiency = "efficiency" / "efficiency",
        /// Mean cost, the cheapest first.
        Cost = "cost" / "cost",
        /// Share of runs that ended well, the highest first.
        Quality = "quality" / "quality",
    }
}

/// A network of agents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    /// `network_`, the moment it was made, six hex digits.
    pub id: String,
    /// A principal.
    #[serde(serialize_with = "owner::shown")]
    pub owner_id: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// As they were sent: ids, or objects with an `id` (`agent_id`, `workflow_id`) and perhaps a `stage`.
    pub agents: Vec<Value>,
    /// How they work together.
    pub coordination_strategy: Strategy,
    /// As stored; see [`Standing::status`] for how it stands.
    pub status: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// The id in what a client sent for an agent.
fn agent_id(agent: &Value) -> Option<&str> {
    let named = || ["id", "agent_id", "workflow_id"].iter().find_map(|name| agent.get(name));
    agent.as_str().or_else(|| named().and_then(Value::as_str)).filter(|id| !id.is_empty())
}

impl Network {
    /// The agents' ids, in order.
    pub fn agent_ids(&self) -> Vec<String> {
        self.agents.iter().filter_map(agent_id).map(str::to_owned).collect()
    }

    /// The agents by stage, as places in [`Network::agent_ids`].
    pub fn stages(&self) -> Vec<Vec<usize>> {
        let count = self.agents.len();
        let all: Vec<usize> = (0..count).collect();
        match self.coordination_strategy {
            Strategy::Decentralized => vec![all],
            Strategy::Centralized if count > 1 => vec![vec![0], all[1..].to_vec()],
            Strategy::Centralized => vec![all],
            Strategy::Hybrid => {
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

    /// Put all but the first in order.
    pub(super) fn reorder(&mut self, objective: Objective, measured: &[Measured]) {
        let rank = |at: usize| measured.get(at).and_then(|measured| measured.rank(objective)).unwrap_or(f64::INFINITY);
        let mut places: Vec<usize> = (1..self.agents.len()).collect();
        places.sort_by(|a, b| rank(*a).total_cmp(&rank(*b)));
        let agents =
            self.agents.first().into_iter().chain(places.iter().map(|at| &self.agents[*at])).cloned().collect();
        self.agents = agents;
    }
}

/// What clients send to make a network.
#[derive(Clone, Debug)]
pub struct Draft {
    /// 1 to 200 characters.
    pub name: String,
    /// For people.
    pub description: String,
    /// At most 100.
    pub agents: Vec<Value>,
    /// How they work together.
    pub strategy: Strategy,
}

impl Draft {
    pub(super) fn check(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        if !(1..=200).contains(&self.name.chars().count()) {
            faults.push(Fault::new(["name"], "must have 1 to 200 characters"));
        }
        if self.agents.len() > 100 {
            faults.push(Fault::new(["agents"], "at most 100"));
        }
        for (at, agent) in self.agents.iter().enumerate() {
            if agent_id(agent).is_none() {
                faults.push(Fault::new(["agents"], "must be an agent's id, or an object with one").item(at));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// What was measured of an agent's own runs; none where it has none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The agent.
    pub agent_id: String,
    /// Runs that ended well or badly.
    pub runs: i64,
    /// Mean seconds of those that ended well.
    pub mean_seconds: Option<f64>,
    /// Their mean cost.
    pub mean_cost: Option<f64>,
    /// Share that ended well, 0 to 1.
    pub success_rate: Option<f64>,
}

impl Measured {
    /// Lower is better.
    fn rank(&self, objective: Objective) -> Option<f64> {
        match objective {
            Objective::Speed => self.mean_seconds,
            Objective::Cost => self.mean_cost,
            Objective::Efficiency => Some(self.mean_seconds? * self.mean_cost?),
            Objective::Quality => self.success_rate.map(|rate| -rate),
        }
    }
}

/// What an optimisation did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Optimized {
    /// The network.
    pub network_id: String,
    /// What it was put in order by.
    pub objective: Objective,
    /// Is the order another now?
    pub changed: bool,
    /// The agents, in their new order.
    pub agents: Vec<String>,
    /// In their old one.
    pub before: Vec<String>,
    /// What decided, in the old order.
    pub measured: Vec<Measured>,
}

/// How a network stands, from its executions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Standing {
    /// running, waiting, completed, failed, cancelled: the newest execution's; idle where there is none.
    pub status: String,
    /// Executions in all.
    pub total_executions: i64,
    /// Not begun.
    pub pending_executions: i64,
    /// Under way.
    pub running_executions: i64,
    /// Ended well.
    pub completed_executions: i64,
    /// Ended badly.
    pub failed_executions: i64,
    /// Stopped on request.
    pub cancelled_executions: i64,
    /// Share of those that ended well or badly, 0 to 1.
    pub success_rate: Option<f64>,
    /// Mean seconds of those that ended well.
    pub average_execution_time: Option<f64>,
    /// Cost of all.
    pub total_cost: f64,
    /// When the newest was asked for.
    pub last_execution_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::json;

    fn network(strategy: Strategy, agents: Vec<Value>) -> Network {
        let at = Timestamp(DateTime::from_timestamp(0, 0).unwrap());
        let (id, owner_id, name, description, status) = Default::default();
        Network {
            id,
            owner_id,
            name,
            description,
            agents,
            coordination_strategy: strategy,
            status,
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn stages_follow_the_strategy() {
        let four = || vec![json!("a"), json!({"id": "b"}), json!({"agent_id": "c"}), json!("d")];
        assert_eq!(network(Strategy::Centralized, four()).stages(), [vec![0], vec![1, 2, 3]]);
        assert_eq!(network(Strategy::Decentralized, four()).stages(), [vec![0, 1, 2, 3]]);
        assert_eq!(network(Strategy::Hybrid, four()).stages(), [vec![0], vec![1, 2], vec![3]]);
        let staged =
            vec![json!({"id": "a", "stage": 2}), json!({"id": "b", "stage": 1}), json!({"id": "c", "stage": 2})];
        assert_eq!(network(Strategy::Hybrid, staged).stages(), [vec![1], vec![0, 2]]);
        assert_eq!(network(Strategy::Hybrid, four()).agent_ids(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn the_order_follows_what_was_measured_and_the_first_stays() {
        let measure = |seconds: Option<f64>, rate| Measured {
            agent_id: String::new(),
            runs: 1,
            mean_seconds: seconds,
            mean_cost: Some(1.0),
            success_rate: Some(rate),
        };
        let measured = [measure(Some(9.0), 0.1), measure(None, 0.5), measure(Some(3.0), 0.6), measure(Some(1.0), 0.2)];
        let mut by_speed = network(Strategy::Centralized, vec![json!("a"), json!("b"), json!("c"), json!("d")]);
        let mut by_quality = by_speed.clone();
        by_speed.reorder(Objective::Speed, &measured);
        assert_eq!(by_speed.agent_ids(), ["a", "d", "c", "b"], "nothing is known of b");
        by_quality.reorder(Objective::Quality, &measured);
        assert_eq!(by_quality.agent_ids(), ["a", "c", "b", "d"]);
    }
}
