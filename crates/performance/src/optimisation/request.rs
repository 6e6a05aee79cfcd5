//! A request for an optimisation: its checks, what of it can be measured, and the order of the search.

use std::{collections::BTreeMap, ops::RangeInclusive};

use am_core::{
    ids::AgentId,
    validation::{Violation, Violations},
};
use am_rl::{PolicyReference, RlError, training::TrainingPlan};
use serde_json::json;

use super::{
    OptimisationService,
    allocation_search::AllocationOrder,
    model::{OptimisationBudget, OptimisationDraft, OptimizationMetric, TunedSubject},
    nothing_to_measure,
    policy_search::PolicyOrder,
    recorded::recorded_runs,
    work::SearchOrder,
    workflow_search::WorkflowOrder,
};
use crate::{PerformanceCaller, PerformanceError, agents::check_visible, error::Result, resources::tunable_allocation};

/// Candidates of a search.
const TRIALS: RangeInclusive<u32> = 2..=200;
/// Candidates by default, of a policy, of a workflow and of an allocation.
const POLICY_TRIALS: u32 = 12;
const WORKFLOW_TRIALS: u32 = 60;
const ALLOCATION_TRIALS: u32 = 60;
/// Environment steps of a training.
const STEPS: RangeInclusive<u64> = 64..=100_000;
/// Environment steps by default.
const DEFAULT_STEPS: u64 = 8192;
/// Executions of a workflow that must be recorded: half of them choose, the others compare.
const LEAST_EXECUTIONS: usize = 6;
/// Executions whose use of allocations must be measured: half of them choose, the others compare.
const LEAST_USES: usize = 6;
/// Figures of the caller's that are kept.
const MAX_FIGURES: usize = 100;
/// The figures that are measured of a policy.
const POLICY_METRICS: [OptimizationMetric; 3] =
    [OptimizationMetric::Accuracy, OptimizationMetric::AdaptationSpeed, OptimizationMetric::Generalization];
/// The figures that are measured of a workflow.
const WORKFLOW_METRICS: [OptimizationMetric; 4] = [
    OptimizationMetric::Accuracy,
    OptimizationMetric::Latency,
    OptimizationMetric::Throughput,
    OptimizationMetric::ResourceEfficiency,
];

/// The figures that are measured of an allocation.
const ALLOCATION_METRICS: [OptimizationMetric; 2] =
    [OptimizationMetric::CostEfficiency, OptimizationMetric::ResourceEfficiency];

/// A request without faults.
pub(super) struct CheckedDraft {
    pub(super) agent_id: AgentId,
    pub(super) optimization_type: String,
    pub(super) metric: OptimizationMetric,
    pub(super) tuned: TunedSubject,
    pub(super) target: String,
    pub(super) budget: OptimisationBudget,
    pub(super) seed: u64,
    pub(super) current_performance: BTreeMap<String, f64>,
}

/// What is tuned, of what the request names and the figure fits.
fn subject(draft: &OptimisationDraft, violations: &mut Violations) -> Option<(TunedSubject, String)> {
    let policy = draft.policy.clone().map(|policy| (TunedSubject::Policy, policy));
    let workflow = draft.workflow_id.clone().map(|workflow| (TunedSubject::Workflow, workflow.into_string()));
    let allocation = draft.allocation_id.clone().map(|allocation| (TunedSubject::Allocation, allocation));
    match draft.optimization_type.as_deref().unwrap_or("comprehensive") {
        "policy" => {
            violations.require(policy.is_some(), "policy", "is missing: it is what is to be tuned");
            policy
        }
        "workflow" => {
            violations.require(workflow.is_some(), "workflow_id", "is missing: it is what is to be tuned");
            workflow
        }
        "allocation" => {
            violations.require(allocation.is_some(), "allocation_id", "is missing: it is what is to be tuned");
            allocation
        }
        "comprehensive" => {
            let fits = |known: &[OptimizationMetric]| known.contains(&draft.target_metric);
            let fitting = policy.clone().filter(|_| fits(&POLICY_METRICS));
            let fitting = fitting.or(workflow.clone().filter(|_| fits(&WORKFLOW_METRICS)));
            let fitting = fitting.or(allocation.clone().filter(|_| fits(&ALLOCATION_METRICS)));
            fitting.or(policy).or(workflow).or(allocation)
        }
        _ => {
            violations.require(false, "optimization_type", "must be policy, workflow, allocation or comprehensive");
            None
        }
    }
}

/// Check a request and fill in its defaults.
pub(super) fn checked(draft: OptimisationDraft) -> std::result::Result<CheckedDraft, Vec<Violation>> {
    let mut violations = Violations::default();
    for (name, value) in &draft.current_performance {
        violations.require(value.is_finite(), ["current_performance", name.as_str()], "must be a finite number");
    }
    let few = draft.current_performance.len() <= MAX_FIGURES;
    violations.require(few, "current_performance", "has at most 100 members");
    let budget = draft.budget.clone().unwrap_or_default();
    violations.require_within(budget.trials, &TRIALS, ["budget", "trials"]);
    violations.require_within(budget.steps, &STEPS, ["budget", "steps"]);
    let limited = budget.max_seconds.is_none_or(|seconds| seconds.is_finite() && seconds > 0.0);
    violations.require(limited, ["budget", "max_seconds"], "must be more than 0");
    if let Some(Err(error)) = draft.policy.as_deref().map(str::parse::<PolicyReference>) {
        violations.require(false, "policy", error.to_string());
    }
    let found = subject(&draft, &mut violations);
    let (tuned, target) = match found {
        Some(found) => found,
        None => (TunedSubject::Policy, String::new()),
    };
    let default = match tuned {
        TunedSubject::Policy => POLICY_TRIALS,
        TunedSubject::Workflow => WORKFLOW_TRIALS,
        TunedSubject::Allocation => ALLOCATION_TRIALS,
    };
    let steps = (tuned == TunedSubject::Policy).then(|| budget.steps.unwrap_or(DEFAULT_STEPS));
    let budget = OptimisationBudget { trials: budget.trials.or(Some(default)), steps, ..budget };
    violations.finish_with(Some(CheckedDraft {
        agent_id: draft.agent_id,
        optimization_type: draft.optimization_type.unwrap_or_else(|| "comprehensive".to_owned()),
        metric: draft.target_metric,
        tuned,
        target,
        budget,
        seed: draft.seed.unwrap_or_default(),
        current_performance: draft.current_performance,
    }))
}

impl OptimisationService {
    /// The order of the search that a request asks for.
    pub(super) async fn search(&self, caller: &PerformanceCaller, asked: &CheckedDraft) -> Result<SearchOrder> {
        if asked.target.is_empty() {
            return Err(nothing_to_measure(
                "Nothing can be measured: name a policy that was trained here (`policy`), a workflow of yours with recorded executions (`workflow_id`), or an allocation of the agent whose executions were measured (`allocation_id`)",
            ));
        }
        match asked.tuned {
            TunedSubject::Policy => self.policy_search(caller, asked).await,
            TunedSubject::Workflow => self.workflow_search(caller, asked).await,
            TunedSubject::Allocation => self.allocation_search(caller, asked).await,
        }
    }

    async fn allocation_search(&self, caller: &PerformanceCaller, asked: &CheckedDraft) -> Result<SearchOrder> {
        check_metric(asked.metric, &ALLOCATION_METRICS, "an allocation")?;
        let found = tunable_allocation(&self.0.db, &asked.target).await?;
        let none = || PerformanceError::NotFound(format!("No allocation {} of agent {}", asked.target, asked.agent_id));
        let found = found.filter(|found| found.agent_id == asked.agent_id).ok_or_else(none)?;
        check_visible(&mut *self.0.db.read().await?, caller, &found.agent_id).await.map_err(|_| none())?;
        if found.uses.len() < LEAST_USES {
            return Err(nothing_to_measure(format!(
                "Nothing can be measured of allocation {}: the use of {} of the agent's ended allocations for such tasks ({}) was measured, \
                 and {LEAST_USES} are needed: name the execution whose sandbox is measured (`execution_id`), and complete them",
                asked.target,
                found.uses.len(),
                found.task
            )));
        }
        Ok(SearchOrder::Allocation(Box::new(AllocationOrder {
            amounts: found.amounts,
            task: found.task,
            uses: found.uses,
            metric: asked.metric,
            trials: asked.budget.trials.unwrap_or(ALLOCATION_TRIALS) as usize,
            max_seconds: asked.budget.max_seconds,
        })))
    }

    async fn policy_search(&self, caller: &PerformanceCaller, asked: &CheckedDraft) -> Result<SearchOrder> {
        check_metric(asked.metric, &POLICY_METRICS, "a policy")?;
        let reference: PolicyReference = match asked.target.parse() {
            Ok(reference) => reference,
            Err(error) => return Err(crate::PerformanceError::invalid("policy", format!("{error}"))),
        };
        let version = match self.0.library.version(&reference).await {
            Ok(version) => version,
            Err(RlError::NotFound(text)) => return Err(crate::PerformanceError::NotFound(text)),
            Err(error) => return Err(error.into()),
        };
        // What is applied later is its trainings' beginning, which is its owner's to say.
        self.0.library.check_may_publish(&caller.principal, &version.name).await?;
        let training = version.training.unwrap_or_default();
        let steps = asked.budget.steps.unwrap_or(DEFAULT_STEPS);
        let plan = json!({"environment": training["environment"], "parameters": training["parameters"],
            "algorithm": training["algorithm"], "settings": training["settings"], "steps": steps, "seed": asked.seed});
        let Ok(plan) = serde_json::from_value::<TrainingPlan>(plan) else {
            return Err(nothing_to_measure(format!(
                "Nothing can be measured of policy {}: it has no record of a training in an environment, so its settings are not known",
                version.reference
            )));
        };
        if !am_rl::environments::is_built_in(&plan.environment) {
            return Err(nothing_to_measure(format!(
                "Policy {} was trained in {}, and settings are searched in built-in environments only",
                version.reference, plan.environment
            )));
        }
        let trials = asked.budget.trials.unwrap_or(POLICY_TRIALS) as usize;
        let order = PolicyOrder { plan, trials, max_seconds: asked.budget.max_seconds };
        let order = order.checked().map_err(|error| match error {
            RlError::Invalid(_) => crate::PerformanceError::invalid("budget", error.to_string()),
            error => error.into(),
        })?;
        Ok(SearchOrder::Policy(Box::new(order)))
    }

    async fn workflow_search(&self, caller: &PerformanceCaller, asked: &CheckedDraft) -> Result<SearchOrder> {
        check_metric(asked.metric, &WORKFLOW_METRICS, "a workflow")?;
        let workflow = self.0.workflows.get(&caller.principal, &asked.target.as_str().into()).await?;
        let plan = self.0.workflows.compiled(&workflow).await?.plan;
        let (steps, recorded) = recorded_runs(&self.0.executions, &caller.principal, (&workflow, &plan)).await?;
        if recorded.len() < LEAST_EXECUTIONS {
            return Err(nothing_to_measure(format!(
                "Nothing can be measured of workflow {}: {} of your executions of it have recorded step times, and {LEAST_EXECUTIONS} are needed",
                workflow.id,
                recorded.len()
            )));
        }
        Ok(SearchOrder::Workflow(Box::new(WorkflowOrder {
            keys: plan.steps.iter().map(|step| step.key.clone()).collect(),
            steps,
            recorded,
            parallel: self.0.parallel,
            metric: asked.metric,
            trials: asked.budget.trials.unwrap_or(WORKFLOW_TRIALS) as usize,
            max_seconds: asked.budget.max_seconds,
        })))
    }
}

fn check_metric(metric: OptimizationMetric, known: &[OptimizationMetric], of: &str) -> Result<()> {
    if known.contains(&metric) {
        return Ok(());
    }
    let names: Vec<&str> = known.iter().map(|metric| metric.value()).collect();
    Err(nothing_to_measure(format!("Nothing measures {metric} of {of}: what is measured are {}", names.join(", "))))
}
