//! Estimates of a plan: agent, duration and cost of each sub-task, and the plan's confidence.

use std::collections::{BTreeMap, BTreeSet};

use super::{decompose::TaskSplit, model::PlannedAssignment};
use crate::agents::{RegisteredAgentRecord, TaskType, best_agent};
use am_core::money::Money;

/// Data for estimating a plan.
pub struct PlanningInput {
    /// All agents in their present state.
    pub agents: Vec<RegisteredAgentRecord>,
    /// Mean seconds of the fastest agent, by type.
    pub fastest: BTreeMap<TaskType, f64>,
    /// Mean seconds over all agents, by type.
    pub usual: BTreeMap<TaskType, f64>,
}

/// Sums of the estimates of all sub-tasks.
#[derive(Debug, PartialEq)]
pub struct PlanTotals {
    pub cost: Option<Money>,
    pub seconds: Option<f64>,
    /// Reason why one of them is missing.
    pub reason: Option<String>,
    /// Share of sub-tasks for which an agent exists.
    pub available: f64,
}

/// Choose an expected agent for each sub-task. Sub-tasks of a stage run at once and use up their agents' capacity; in
/// the next stage it is free again.
pub fn plan_assignments(split: &TaskSplit, known: &PlanningInput) -> Vec<PlannedAssignment> {
    let nobody = BTreeSet::new();
    let mut planned: Vec<Option<PlannedAssignment>> = vec![None; split.sub_tasks.len()];
    for stage in split.stages() {
        let mut agents = known.agents.clone();
        for at in stage {
            let sub_task = &split.sub_tasks[at];
            let need = sub_task.need();
            let usual = known.usual.get(&sub_task.task_type).copied();
            let found =
                best_agent(&need, &agents, &known.fastest, &nobody).map(|(agent, score)| (agent.clone(), score));
            planned[at] = Some(match found {
                Ok((agent, score)) => {
                    if let Some(taken) = agents.iter_mut().find(|other| other.id == agent.id) {
                        taken.open += 1;
                    }
                    let seconds = need.seconds(&agent).or(usual);
                    PlannedAssignment {
                        sub_task: sub_task.key.clone(),
                        score: Some(score),
                        estimated_seconds: seconds,
                        estimated_cost: seconds.map(|seconds| agent.cost(seconds)),
                        reason: seconds.is_none().then(|| no_estimate_reason(sub_task.task_type)),
                        agent_id: Some(agent.id),
                    }
                }
                Err(why) => PlannedAssignment {
                    sub_task: sub_task.key.clone(),
                    agent_id: None,
                    score: None,
                    estimated_seconds: sub_task.estimated_seconds.or(usual),
                    estimated_cost: None,
                    reason: Some(why),
                },
            });
        }
    }
    planned.into_iter().flatten().collect()
}

fn no_estimate_reason(task_type: TaskType) -> String {
    format!("no {task_type} was completed yet, and no estimated_seconds was sent")
}

/// Sum the estimates of the planned assignments.
pub fn sum_estimates(split: &TaskSplit, planned: &[PlannedAssignment]) -> PlanTotals {
    let cost = planned.iter().map(|one| one.estimated_cost).sum::<Option<Money>>();
    let longest = |stage: &Vec<usize>| {
        let seconds = stage.iter().map(|at| planned[*at].estimated_seconds);
        seconds.collect::<Option<Vec<f64>>>().map(|seconds| seconds.into_iter().fold(0.0, f64::max))
    };
    let seconds = split.stages().iter().map(longest).sum::<Option<f64>>();
    let missing = planned.iter().find(|one| one.estimated_cost.is_none() || one.estimated_seconds.is_none());
    let reason = missing.map(|one| format!("{}: {}", one.sub_task, one.reason.as_deref().unwrap_or("not known")));
    let there = planned.iter().filter(|one| one.agent_id.is_some()).count();
    let available = if planned.is_empty() { 1.0 } else { there as f64 / planned.len() as f64 };
    PlanTotals { cost, seconds, reason, available }
}

/// Confidence of a plan: that of the decomposition, × 0.7 if over budget, × 0.6 if past the deadline, × (0.5 + 0.5 ×
/// the share of available agents); clamped to 0.1 to 0.95.
pub fn plan_confidence(decomposition: f64, over_budget: bool, past_deadline: bool, available: f64) -> f64 {
    let mut confidence = decomposition * (0.5 + 0.5 * available);
    if over_budget {
        confidence *= 0.7;
    }
    if past_deadline {
        confidence *= 0.6;
    }
    confidence.clamp(0.1, 0.95)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agents::tests::sample_agent,
        plans::{
            decompose::{split_task, tests::draft},
            model::{DecompositionStrategy, PlanDraft, SubTaskDraft},
        },
    };

    fn known(agents: Vec<RegisteredAgentRecord>) -> PlanningInput {
        PlanningInput { agents, fastest: BTreeMap::new(), usual: BTreeMap::new() }
    }

    fn three(strategy: DecompositionStrategy, estimated_seconds: Option<f64>) -> TaskSplit {
        let one =
            SubTaskDraft { task_type: Some(TaskType::DataAnalysis), estimated_seconds, ..SubTaskDraft::default() };
        split_task(&PlanDraft { sub_tasks: vec![one; 3], strategy: Some(strategy), ..draft() }).unwrap()
    }

    #[test]
    fn confidence_is_the_contracts() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(plan_confidence(0.9, false, false, 1.0), 0.9);
        near(plan_confidence(0.9, true, false, 1.0), 0.63);
        near(plan_confidence(0.9, true, true, 0.5), 0.9 * 0.75 * 0.7 * 0.6);
        near(plan_confidence(1.0, false, false, 1.0), 0.95);
        near(plan_confidence(0.1, true, true, 0.0), 0.1);
    }

    #[test]
    fn agents_fill_up_within_a_stage_and_are_free_in_the_next() {
        let agents = || known(vec![sample_agent("a", 0.9, 3.6), sample_agent("b", 0.8, 7.2)]);
        let at_once = three(DecompositionStrategy::Parallel, Some(100.0));
        let planned = plan_assignments(&at_once, &agents());
        let names: Vec<_> = planned.iter().map(|one| one.agent_id.as_deref().unwrap()).collect();
        assert_eq!(names, ["a", "b", "a"], "the second is better off with who has nothing to do");
        let sum = sum_estimates(&at_once, &planned);
        assert_eq!((sum.seconds, sum.available), (Some(100.0), 1.0));
        assert_eq!(sum.cost, Some(Money::from_f64(0.4)));
        let in_turn = three(DecompositionStrategy::Pipeline, Some(100.0));
        let planned = plan_assignments(&in_turn, &agents());
        assert!(planned.iter().all(|one| one.agent_id.as_deref() == Some("a")));
        assert_eq!(sum_estimates(&in_turn, &planned).seconds, Some(300.0));
    }

    #[test]
    fn what_is_not_known_is_none_and_says_why() {
        let split = three(DecompositionStrategy::Parallel, None);
        let planned = plan_assignments(&split, &known(Vec::new()));
        assert!(planned.iter().all(|one| one.agent_id.is_none()));
        assert_eq!(planned[0].reason.as_deref(), Some("no agent is registered"));
        let sum = sum_estimates(&split, &planned);
        assert_eq!((sum.cost, sum.seconds, sum.available), (None, None, 0.0));
        assert_eq!(sum.reason.as_deref(), Some("data_analysis: no agent is registered"));
        let planned = plan_assignments(&split, &known(vec![sample_agent("a", 0.9, 1.0)]));
        assert!(planned[0].reason.as_deref().unwrap().contains("no estimated_seconds"), "{planned:?}");
        assert!(planned[2].reason.as_deref().unwrap().contains("busy"), "{planned:?}");
        let measured = PlanningInput {
            usual: BTreeMap::from([(TaskType::DataAnalysis, 36.0)]),
            ..known(vec![sample_agent("a", 0.9, 1.0)])
        };
        assert_eq!(plan_assignments(&split, &measured)[0].estimated_cost, Some(Money::from_f64(0.01)));
    }
}
