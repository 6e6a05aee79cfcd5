//! Choice of an agent for a sub-task, by the contract's score.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::model::{GpuTier, RegisteredAgentRecord, TaskType};
use am_core::{ids::AgentId, money::Money};

/// Price per hour up to which the price does not lower the score.
const CHEAP_HOURLY_COST: Money = Money::from_f64(0.05);

/// Requirements of a sub-task on its agent.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRequirements {
    /// The only agent that may do it; `None`: any.
    pub only_agent: Option<AgentId>,
    /// Type of the task.
    pub task_type: TaskType,
    /// Minimum GPU tier; `None`: any.
    pub gpu_tier: Option<GpuTier>,
    /// Required type of agent; `None`: any.
    pub agent_type: Option<String>,
    /// Maximum price; `None`: no limit.
    pub max_price: Option<Money>,
    /// Estimated duration in seconds; `None` when unknown.
    pub estimated_seconds: Option<f64>,
}

impl TaskRequirements {
    /// Return the reason why `agent` cannot do the sub-task; `None`: it can.
    pub fn incompatibility(&self, agent: &RegisteredAgentRecord) -> Option<String> {
        if let Some(only) = self.only_agent.as_ref().filter(|only| **only != agent.id) {
            return Some(format!("only the agent {only:?} may do it"));
        }
        if !agent.task_types.contains(&self.task_type) {
            return Some(format!("no agent does {}", self.task_type));
        }
        if let Some(kind) = self.agent_type.as_deref().filter(|kind| *kind != agent.agent_type) {
            return Some(format!("no agent that does {} is of type {kind:?}", self.task_type));
        }
        if let Some(tier) = self.gpu_tier.filter(|tier| agent.gpu_tier < *tier) {
            return Some(format!("no agent that does {} has a {tier} or better", self.task_type));
        }
        if let Some(limit) = self.max_price.filter(|limit| self.price(agent).is_some_and(|price| price > *limit)) {
            return Some(format!("every agent that does {} would cost more than {limit}", self.task_type));
        }
        None
    }

    /// Return the estimated price of `agent`, where the duration is known.
    pub fn price(&self, agent: &RegisteredAgentRecord) -> Option<Money> {
        self.seconds(agent).map(|seconds| agent.cost(seconds))
    }

    /// Return the estimated seconds: the sub-task's own estimate, or this agent's mean so far.
    pub fn seconds(&self, agent: &RegisteredAgentRecord) -> Option<f64> {
        self.estimated_seconds.or_else(|| agent.work.get(&self.task_type)?.mean())
    }
}

/// Score of an agent, 0 to 1: 0.4 performance + 0.3 min(1, 0.05 / price per hour) + 0.2 reliability + 0.1 (1 − load).
pub fn agent_score(performance: f64, cost_per_hour: Money, reliability: f64, load: f64) -> f64 {
    let cheap = CHEAP_HOURLY_COST.to_f64() / cost_per_hour.max(CHEAP_HOURLY_COST).to_f64();
    0.4 * performance + 0.3 * cheap + 0.2 * reliability + 0.1 * (1.0 - load)
}

/// Return the score of `agent` with its measured figures.
pub fn score_agent(agent: &RegisteredAgentRecord, fastest: &BTreeMap<TaskType, f64>) -> f64 {
    agent_score(agent.performance(fastest).0, agent.cost_per_hour, agent.reliability().0, agent.load())
}

/// Return the best of `agents` for a sub-task, with its score: online, able and with capacity. Agents that held it
/// before (`tried`) come after the others; among equals the first by name.
///
/// # Errors
/// The reason why there is none.
pub fn best_agent<'a>(
    need: &TaskRequirements,
    agents: &'a [RegisteredAgentRecord],
    fastest: &BTreeMap<TaskType, f64>,
    tried: &BTreeSet<AgentId>,
) -> Result<(&'a RegisteredAgentRecord, f64), String> {
    if agents.is_empty() {
        return Err("no agent is registered".into());
    }
    // The reason of the last agent to be excluded says the most.
    let able: Vec<&RegisteredAgentRecord> =
        agents.iter().filter(|agent| need.incompatibility(agent).is_none()).collect();
    if able.is_empty() {
        let named = |agent: &&RegisteredAgentRecord| need.only_agent.as_ref().is_none_or(|only| *only == agent.id);
        let why = agents
            .iter()
            .filter(|agent| agent.task_types.contains(&need.task_type))
            .filter(named)
            .find_map(|a| need.incompatibility(a));
        let why = why.or_else(|| {
            let only = need.only_agent.as_ref()?;
            Some(format!(
                "only the agent {only:?} may do it, which does not do {} or is not registered",
                need.task_type
            ))
        });
        return Err(why.unwrap_or_else(|| format!("no agent does {}", need.task_type)));
    }
    let online: Vec<&RegisteredAgentRecord> = able.into_iter().filter(|agent| agent.is_online()).collect();
    if online.is_empty() {
        return Err(format!("every agent that could do {} is offline", need.task_type));
    }
    let scored = online.iter().filter(|agent| agent.has_capacity()).map(|agent| (*agent, score_agent(agent, fastest)));
    let found = scored.max_by(|(a, a_score), (b, b_score)| {
        let fresh = |agent: &RegisteredAgentRecord| !tried.contains(&agent.id);
        let order = fresh(a).cmp(&fresh(b)).then(a_score.total_cmp(b_score));
        order.then_with(|| Reverse(&a.id).cmp(&Reverse(&b.id)))
    });
    found.ok_or_else(|| format!("every agent that could do {} is busy", need.task_type))
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agents::{
        draft::AgentDraft,
        model::{AgentStatus, MeasureSource, TaskStats},
    };
    use am_db::codec::{JsonText, Timestamp};

    pub fn sample_agent(id: &str, performance: f64, cost_per_hour: f64) -> RegisteredAgentRecord {
        let draft = AgentDraft {
            agent_id: id.into(),
            agent_type: "worker".into(),
            description: String::new(),
            task_types: vec![TaskType::TextProcessing, TaskType::DataAnalysis],
            gpu_tier: GpuTier::MidRangeGpu,
            max_concurrent_tasks: 2,
            performance,
            reliability: 0.9,
            cost_per_hour: Money::from_f64(cost_per_hour),
            endpoint_url: None,
            metadata: JsonText::none(),
            profile: None,
        };
        draft.into_agent("key_0".into(), Timestamp::from_stored("2026-05-12 14:00:00.000000").unwrap())
    }

    pub fn need() -> TaskRequirements {
        TaskRequirements {
            only_agent: None,
            task_type: TaskType::TextProcessing,
            gpu_tier: None,
            agent_type: None,
            max_price: None,
            estimated_seconds: None,
        }
    }

    fn chosen(need: &TaskRequirements, agents: &[RegisteredAgentRecord], tried: &[&str]) -> Result<AgentId, String> {
        let tried = tried.iter().copied().map(AgentId::from).collect();
        best_agent(need, agents, &BTreeMap::new(), &tried).map(|(agent, _)| agent.id.clone())
    }

    #[test]
    fn the_score_is_the_contracts() {
        assert!((agent_score(1.0, Money::from_f64(0.05), 1.0, 0.0) - 1.0).abs() < 1e-12);
        assert!((agent_score(0.5, Money::from_f64(0.1), 0.8, 0.5) - (0.2 + 0.15 + 0.16 + 0.05)).abs() < 1e-12);
        assert!((agent_score(0.0, Money::ZERO, 0.0, 1.0) - 0.3).abs() < 1e-12, "nothing is cheaper than free");
    }

    #[test]
    fn the_best_that_is_free_gets_it_and_who_had_it_comes_last() {
        let mut agents = [sample_agent("b", 0.9, 0.05), sample_agent("a", 0.9, 0.05), sample_agent("slow", 0.2, 0.05)];
        assert_eq!(chosen(&need(), &agents, &[]).unwrap(), "a", "of equals the first by name");
        assert_eq!(chosen(&need(), &agents, &["a"]).unwrap(), "b");
        assert_eq!(chosen(&need(), &agents, &["a", "b"]).unwrap(), "slow");
        assert_eq!(chosen(&need(), &agents, &["a", "b", "slow"]).unwrap(), "a");
        agents[1].open = 2;
        assert_eq!(chosen(&need(), &agents, &[]).unwrap(), "b", "a has no room");
        agents[0].status = AgentStatus::Offline;
        assert_eq!(chosen(&need(), &agents, &[]).unwrap(), "slow");
        agents[2].open = 2;
        assert!(chosen(&need(), &agents, &[]).unwrap_err().contains("busy"));
    }

    #[test]
    fn why_there_is_none_is_said() {
        let agents = [sample_agent("a", 0.9, 3.6)];
        let with = |change: fn(&mut TaskRequirements)| {
            let mut need = need();
            change(&mut need);
            chosen(&need, &agents, &[]).unwrap_err()
        };
        assert_eq!(chosen(&need(), &[], &[]).unwrap_err(), "no agent is registered");
        assert_eq!(with(|need| need.task_type = TaskType::IoBound), "no agent does io_bound");
        assert!(with(|need| need.gpu_tier = Some(GpuTier::PremiumGpu)).contains("premium_gpu"));
        assert!(with(|need| need.agent_type = Some("x".into())).contains("\"x\""));
        assert!(with(|need| need.only_agent = Some("b".into())).contains("only the agent \"b\""));
        let mut need = need();
        need.only_agent = Some("a".into());
        assert_eq!(chosen(&need, &agents, &["a"]).unwrap(), "a", "also where it had it before");
        let dear = with(|need| (need.max_price, need.estimated_seconds) = (Some(Money::from_f64(0.5)), Some(1000.0)));
        assert!(dear.contains("more than 0.5"), "{dear}");
    }

    #[test]
    fn claims_count_until_enough_was_measured() {
        let mut quick = sample_agent("quick", 0.3, 0.05);
        assert_eq!(quick.performance(&BTreeMap::new()), (0.3, MeasureSource::Claimed));
        assert_eq!(quick.reliability(), (0.9, MeasureSource::Claimed));
        quick.work.insert(TaskType::TextProcessing, TaskStats { completed: 2, failed: 1, lost: 1, seconds: 8.0 });
        assert_eq!(quick.performance(&BTreeMap::new()).1, MeasureSource::Claimed, "two are not enough");
        assert_eq!(quick.reliability(), (0.5, MeasureSource::Measured));
        quick.work.insert(TaskType::DataAnalysis, TaskStats { completed: 2, failed: 0, lost: 0, seconds: 2.0 });
        let fastest = BTreeMap::from([(TaskType::TextProcessing, 2.0), (TaskType::DataAnalysis, 1.0)]);
        assert_eq!(quick.performance(&fastest), (0.75, MeasureSource::Measured), "half as quick in half of them");
        assert_eq!(need().seconds(&quick), Some(4.0));
    }

    proptest! {
        #[test]
        fn a_score_stays_within_its_bounds(p in 0.0f64..=1.0, cost in 0.0f64..1e6, r in 0.0f64..=1.0, load in 0.0f64..=1.0) {
            let [cost, more] = [cost, cost + 1.0].map(Money::from_f64);
            let value = agent_score(p, cost, r, load);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&value));
            prop_assert!(agent_score(p, more, r, load) <= value, "what costs more is not better");
        }
    }
}
