//! Plans of many allocations at once. Nothing is reserved and nothing is stored.

use std::collections::BTreeSet;

use am_core::{
    boxed,
    validation::{FieldPath, PathSegment, Violation, Violations, has_length},
};
use am_performance_math::packing::{
    BoundMethod, HostRoom, PackingEffort, PackingPlan, PackingProblem, PackingRule, plan_packing,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    ResourceService,
    amounts::{RESOURCE_NAMES, ResourceAmounts, ResourceParts, ResourceRoom, to_units},
    model::{HostState, OptimizationTarget},
    rules::TaskDemand,
    store,
};
use crate::error::{PerformanceError, Result};

/// Demands of a plan at most.
const MAX_DEMANDS: usize = 1000;
/// Hosts of a request at most.
const MAX_PLAN_HOSTS: usize = 1000;
/// Characters of a name.
const MAX_NAME_LEN: usize = 100;
/// Steps of the search by default.
const DEFAULT_STEPS: usize = 500;
/// Steps of the search at most.
const MAX_STEPS: usize = 10_000;
/// Nodes that the filling of a host searches at most.
const NODES_PER_HOST: usize = 2000;
/// Tries of the complete search at most.
const MAX_COMPLETIONS: usize = 20;
/// Nodes of each such try at most.
const NODES_PER_COMPLETION: usize = 50_000;
/// What a plan is good by.
const OBJECTIVE: &str = "as many demands placed as can be, then as few hosts in use, then as little imbalance";

/// Something to find a host for: either a task's requirements, from which its configuration is computed as in an allocation, or the
/// amounts themselves.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ResourcePlanDemand)]
pub struct PlanDemand {
    /// Name of the demand in the answer, 1 to 100 characters. Default: its number, from 0.
    pub name: Option<String>,
    /// What the task needs, as in an allocation.
    #[schema(value_type = Option<Object>)]
    pub task_requirements: Option<Map<String, Value>>,
    /// What the task's configuration is optimised for. Default `efficiency`.
    pub optimization_target: Option<OptimizationTarget>,
    /// The amounts, each with at most three decimal places.
    pub resources: Option<ResourceAmounts>,
}

/// A host to plan with.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ResourcePlanHost)]
pub struct PlanHost {
    /// Name of the host, 1 to 100 characters, different from the others'.
    pub host_id: String,
    /// What it has free.
    #[serde(flatten)]
    pub capacity: ResourceAmounts,
}

/// Demands to plan.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ResourcePlanRequest, example = json!({
    "requests": [
        {"name": "train", "task_requirements": {"task_type": "training"}, "optimization_target": "accuracy"},
        {"name": "store", "resources": {"cpu_cores": 1, "memory_gb": 4, "storage_gb": 500, "network_bandwidth": 100}},
    ],
}))]
pub struct PlanRequest {
    /// The demands, 1 to 1000.
    pub requests: Vec<PlanDemand>,
    /// Hosts to plan with, at most 1000. Default: the configured ones that are open, with what they have free now.
    pub hosts: Option<Vec<PlanHost>>,
    /// Seed of the search, 0 and above. Default 0: the same request gets the same plan.
    pub seed: Option<u64>,
    /// Steps of the search, 0 to 10000. Default 500.
    pub steps: Option<u64>,
}

/// A demand's place in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ResourcePlanPlacement)]
pub struct PlanPlacement {
    /// Name of the demand.
    pub name: String,
    /// What it takes.
    pub resources: ResourceAmounts,
    /// Host that it is placed on; null: none has room.
    pub host_id: Option<String>,
    /// Why there is no host; null: there is one.
    pub reason: Option<String>,
}

/// A host of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ResourcePlanHostReport)]
pub struct PlanHostReport {
    /// Name of the host.
    pub host_id: String,
    /// Demands that the plan places on it.
    pub demands: u64,
    /// What is left of it afterwards.
    pub free: ResourceAmounts,
    /// Standard deviation of the shares of its resources that are taken, 0 to 0.5, over those that are demanded at all.
    pub imbalance: f64,
}

/// A plan of many allocations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ResourcePlan)]
pub struct PlanReport {
    /// Each demand, in the order of the request.
    pub placements: Vec<PlanPlacement>,
    /// Hosts that something is placed on.
    pub hosts: Vec<PlanHostReport>,
    /// Demands without a host.
    pub unplaced: u64,
    /// Hosts of which something is taken afterwards, those that were in use before among them.
    pub hosts_in_use: u64,
    /// Hosts in use that no plan for all demands goes below; null: the hosts together have too little of a resource.
    pub lower_bound: Option<u64>,
    /// Resource that the bound comes from; null: there is no bound.
    pub bound_resource: Option<String>,
    /// `volume` (the fewest hosts that have the sum) or `martello_toth` (L2); null: there is no bound.
    pub bound_method: Option<String>,
    /// Hosts in use over the lower bound, 1 and above; null: there is none, or something has no host.
    pub bound_ratio: Option<f64>,
    /// Hosts in use with first fit in the order of the request, for comparison.
    pub first_fit_hosts_in_use: u64,
    /// Demands that first fit leaves without a host.
    pub first_fit_unplaced: u64,
    /// Mean imbalance of the hosts in use.
    pub imbalance: f64,
    /// Rule that the plan was begun with, the best of six.
    pub rule: String,
    /// Hosts in use with that rule alone.
    pub rule_hosts_in_use: u64,
    /// Steps of the search that were made; it ends where the bound is reached.
    pub steps: u64,
    /// What a plan is good by.
    pub objective: String,
    /// The same as sentences.
    pub explanation: String,
}

fn rule_name(rule: PackingRule) -> &'static str {
    match rule {
        PackingRule::FirstFit => "first_fit",
        PackingRule::FirstFitDecreasing => "first_fit_decreasing",
        PackingRule::NearestShape => "nearest_shape",
        PackingRule::DotProduct => "dot_product",
        PackingRule::LeastDistance => "least_distance",
        PackingRule::BinSlack => "minimum_bin_slack",
    }
}

/// A checked request.
struct CheckedPlan {
    names: Vec<String>,
    demands: Vec<ResourceParts>,
    hosts: Option<Vec<(String, ResourceRoom)>>,
    effort: PackingEffort,
}

fn check_name(name: &str, place: FieldPath, violations: &mut Violations) {
    let sound = has_length(name, &(1..=MAX_NAME_LEN)) && !name.chars().any(char::is_control);
    violations.require(sound, place, format!("has 1 to {MAX_NAME_LEN} characters, no control characters"));
}

fn checked(request: PlanRequest) -> std::result::Result<CheckedPlan, Vec<Violation>> {
    let mut violations = Violations::default();
    let count = request.requests.len();
    let text = format!("name 1 to {MAX_DEMANDS} demands");
    violations.require((1..=MAX_DEMANDS).contains(&count), "requests", text);
    let (mut names, mut demands) = (Vec::new(), Vec::new());
    for (at, demand) in request.requests.into_iter().take(MAX_DEMANDS).enumerate() {
        let place = |member: &str| FieldPath::from([member]).within([at]).within(["requests"]);
        let name = demand.name.unwrap_or_else(|| at.to_string());
        check_name(&name, place("name"), &mut violations);
        names.push(name);
        let amounts = match (demand.resources, &demand.task_requirements) {
            (Some(amounts), None) => {
                let segments: [PathSegment; 3] = ["requests".into(), at.into(), "resources".into()];
                amounts.check(&segments, &mut violations);
                amounts
            }
            (None, Some(requirements)) => {
                let mut own = Violations::default();
                let read = TaskDemand::read(requirements, "task_requirements", &mut own);
                let own: Vec<Violation> = own.into();
                violations.extend(own.into_iter().map(|fault| fault.within([at]).within(["requests"])));
                read.configure(demand.optimization_target.unwrap_or(OptimizationTarget::Efficiency)).optimized
            }
            _ => {
                violations.add(place("resources"), "name either `resources` or `task_requirements`");
                ResourceAmounts::default()
            }
        };
        demands.push(amounts.parts());
    }
    let mut known = BTreeSet::new();
    let hosts = request.hosts.map(|hosts| {
        let text = format!("at most {MAX_PLAN_HOSTS} hosts");
        violations.require(hosts.len() <= MAX_PLAN_HOSTS, "hosts", text);
        let mut rooms = Vec::new();
        for (at, host) in hosts.into_iter().take(MAX_PLAN_HOSTS).enumerate() {
            let place = || FieldPath::from(["host_id"]).within([at]).within(["hosts"]);
            check_name(&host.host_id, place(), &mut violations);
            violations.require(known.insert(host.host_id.clone()), place(), "another host has this name");
            host.capacity.check(&["hosts".into(), at.into()], &mut violations);
            rooms.push((host.host_id, HostRoom::empty(host.capacity.parts())));
        }
        rooms
    });
    let steps = request.steps.unwrap_or(DEFAULT_STEPS as u64);
    violations.require(steps <= MAX_STEPS as u64, "steps", format!("must be from 0 to {MAX_STEPS}"));
    let effort = PackingEffort {
        seed: request.seed.unwrap_or(0),
        nodes_per_host: NODES_PER_HOST,
        steps: usize::try_from(steps).unwrap_or(MAX_STEPS),
        completions: MAX_COMPLETIONS,
        nodes_per_completion: NODES_PER_COMPLETION,
    };
    violations.finish_with(Some(CheckedPlan { names, demands, hosts, effort }))
}

impl ResourceService {
    /// Plan many allocations at once, on hosts of the request or on the configured ones.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; [`PerformanceError::Conflict`] where there is no host.
    #[boxed]
    pub async fn plan(&self, request: PlanRequest) -> Result<PlanReport> {
        let CheckedPlan { names, demands, hosts, effort } = checked(request).map_err(PerformanceError::Invalid)?;
        let hosts = match hosts {
            Some(hosts) => hosts,
            None => {
                let found = store::hosts(&mut *self.0.db.read().await?).await?;
                let open = found.into_iter().filter(|host| host.state == HostState::Open);
                open.map(|host| (host.id.clone(), host.room())).collect()
            }
        };
        if hosts.is_empty() {
            let text = "There is no open host to plan with: configure one, or name hosts in the request";
            return Err(PerformanceError::Conflict("no_hosts", text.to_owned()));
        }
        let compute = move || {
            let rooms: Vec<ResourceRoom> = hosts.iter().map(|(_, room)| *room).collect();
            let problem = PackingProblem { items: &demands, hosts: &rooms };
            let plan = plan_packing(&problem, &effort);
            reported(&problem, &names, &hosts, &plan)
        };
        tokio::task::spawn_blocking(compute).await.map_err(|_| PerformanceError::Interrupted)
    }
}

/// A plan as clients see it.
fn reported(
    problem: &PackingProblem<'_, 6>,
    names: &[String],
    hosts: &[(String, ResourceRoom)],
    plan: &PackingPlan,
) -> PlanReport {
    let mut rooms: Vec<(ResourceRoom, u64)> = hosts.iter().map(|(_, room)| (*room, 0)).collect();
    for (item, place) in plan.places.iter().enumerate() {
        if let Some(host) = place {
            rooms[*host].0.take(&problem.items[item]);
            rooms[*host].1 += 1;
        }
    }
    let placement = |(at, name): (usize, &String)| PlanPlacement {
        name: name.clone(),
        resources: ResourceAmounts::from_parts(&problem.items[at]),
        host_id: plan.places[at].map(|host| hosts[host].0.clone()),
        reason: plan.places[at].is_none().then(|| lack_of(&problem.items[at], hosts, &rooms)),
    };
    let demanded = problem.demanded();
    let host = |(at, (room, demands)): (usize, &(ResourceRoom, u64))| PlanHostReport {
        host_id: hosts[at].0.clone(),
        demands: *demands,
        free: ResourceAmounts::from_parts(&room.free()),
        imbalance: room.imbalance(&demanded),
    };
    let (score, first, begun) = (plan.score, plan.first_fit, plan.begun);
    let bound = plan.bound;
    let ratio = bound.filter(|bound| score.unplaced == 0 && bound.hosts_in_use > 0);
    PlanReport {
        placements: names.iter().enumerate().map(placement).collect(),
        hosts: rooms.iter().enumerate().filter(|(_, (_, demands))| *demands > 0).map(host).collect(),
        unplaced: score.unplaced as u64,
        hosts_in_use: score.hosts_in_use as u64,
        lower_bound: bound.map(|bound| bound.hosts_in_use as u64),
        bound_resource: bound.map(|bound| RESOURCE_NAMES[bound.resource].to_owned()),
        bound_method: bound.map(|bound| {
            match bound.method {
                BoundMethod::Volume => "volume",
                BoundMethod::MartelloToth => "martello_toth",
            }
            .to_owned()
        }),
        bound_ratio: ratio.map(|bound| score.hosts_in_use as f64 / bound.hosts_in_use as f64),
        first_fit_hosts_in_use: first.hosts_in_use as u64,
        first_fit_unplaced: first.unplaced as u64,
        imbalance: score.imbalance,
        rule: rule_name(plan.rule).to_owned(),
        rule_hosts_in_use: begun.hosts_in_use as u64,
        steps: plan.steps as u64,
        objective: OBJECTIVE.to_owned(),
        explanation: explained(plan),
    }
}

/// Why a demand has no host: the resource of each host that it lacks most of, where it could fit at all.
fn lack_of(demand: &ResourceParts, hosts: &[(String, ResourceRoom)], rooms: &[(ResourceRoom, u64)]) -> String {
    let nearest = rooms.iter().enumerate().min_by_key(|(_, (room, _))| {
        let lacks = room.shortfalls(demand);
        (lacks.len(), lacks.iter().map(|lack| lack.missing).sum::<u64>())
    });
    let Some((at, (room, _))) = nearest else { return "there is no host".to_owned() };
    let lacks = room.shortfalls(demand);
    let lacks: Vec<String> =
        lacks.iter().map(|lack| format!("{} {}", to_units(lack.missing), RESOURCE_NAMES[lack.resource])).collect();
    format!(
        "no host has room for it after the others; {}, which lacks least, lacks {}",
        hosts[at].0,
        lacks.join(" and ")
    )
}

/// What was done, as sentences.
fn explained(plan: &PackingPlan) -> String {
    let bound = match plan.bound {
        Some(bound) if bound.hosts_in_use == plan.score.hosts_in_use && plan.score.unplaced == 0 => {
            format!("No plan uses fewer than {}, which {} shows", bound.hosts_in_use, RESOURCE_NAMES[bound.resource])
        }
        Some(bound) => format!("No plan for all of them uses fewer than {} hosts", bound.hosts_in_use),
        None => "The hosts together have too little of a resource for all of them".to_owned(),
    };
    let completed = if plan.completed { ", and a complete search of some hosts saved more" } else { "" };
    format!(
        "First fit in the order of the request uses {} hosts and leaves {} demands; the best of six rules ({}) uses {} and leaves {}; \
         {} steps of a search that takes a few hosts apart and fills them anew led to {} and {}{completed}. {bound}.",
        plan.first_fit.hosts_in_use,
        plan.first_fit.unplaced,
        rule_name(plan.rule),
        plan.begun.hosts_in_use,
        plan.begun.unplaced,
        plan.steps,
        plan.score.hosts_in_use,
        plan.score.unplaced,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(body: Value) -> Vec<String> {
        match checked(serde_json::from_value(body).unwrap()) {
            Ok(_) => Vec::new(),
            Err(violations) => violations.iter().map(|violation| violation.path.to_string()).collect(),
        }
    }

    #[test]
    fn all_faults_of_a_plan_are_told_together() {
        let amounts = json!({"cpu_cores": 1, "memory_gb": 1, "storage_gb": 1, "network_bandwidth": 1});
        assert!(faults(json!({"requests": [{"resources": amounts}, {"task_requirements": {}}]})).is_empty());
        let mut host = amounts.clone();
        host["host_id"] = json!("a");
        let mut bad = amounts.clone();
        bad["cpu_cores"] = json!(-1);
        let body = json!({
            "requests": [
                {"name": "", "resources": bad},
                {"task_requirements": {"workload_factor": 0}},
                {"task_requirements": {}, "resources": amounts},
                {},
            ],
            "hosts": [host, host],
            "steps": 10_001,
        });
        let places = [
            "requests.0.name",
            "requests.0.resources.cpu_cores",
            "requests.1.task_requirements.workload_factor",
            "requests.2.resources",
            "requests.3.resources",
            "hosts.1.host_id",
            "steps",
        ];
        assert_eq!(faults(body), places);
        assert_eq!(faults(json!({"requests": []})), ["requests"]);
    }

    #[test]
    fn a_plan_says_what_lacks_and_how_good_it_is() {
        let gpu =
            |count: f64| ResourceAmounts { gpu_count: count, cpu_cores: 1.0, ..ResourceAmounts::default() }.parts();
        let demands = [gpu(1.0), gpu(1.0), gpu(4.0)];
        let hosts = vec![
            ("a".to_owned(), HostRoom::empty(gpu(2.0).map(|parts| parts * 2))),
            ("b".to_owned(), HostRoom::empty(gpu(1.0))),
        ];
        let rooms: Vec<ResourceRoom> = hosts.iter().map(|(_, room)| *room).collect();
        let problem = PackingProblem { items: &demands, hosts: &rooms };
        let plan = plan_packing(&problem, &PackingEffort::default());
        let names = ["x", "y", "z"].map(str::to_owned);
        let report = reported(&problem, &names, &hosts, &plan);
        assert_eq!((report.unplaced, report.lower_bound, report.bound_ratio), (1, None, None), "{report:?}");
        let left: Vec<&PlanPlacement> = report.placements.iter().filter(|one| one.host_id.is_none()).collect();
        assert!(left.len() == 1 && left[0].reason.as_ref().unwrap().contains("gpu_count"), "{left:?}");
    }
}
