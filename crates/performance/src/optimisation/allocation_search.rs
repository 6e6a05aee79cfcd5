//! The search for an allocation's amounts: candidates are held against what half of the agent's executions used, and the best is compared
//! with the present amounts on the other half.

use am_background::{WorkContext, WorkFault, WorkMachine, WorkStep};
use am_performance_math::{
    interval::bootstrap_mean,
    search::{SearchDimension, SearchSpace, TpeSearch, best_indices},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model::{MeasuredCandidate, MeasuredImprovement, OptimisationOutcome, OptimizationMetric, ScoreSummary};
use crate::resources::{RecordedUse, ResourceAmounts, TunedAmounts, cost_of, fit_of};

/// Share of the executions that the present amounts fit and another candidate may not.
const LOST_FITS: f64 = 0.005;
/// The least of each amount that is tuned, from the contract: cores, GB of memory, GB of storage.
const LEAST: [(&str, f64); 3] = [("cpu_cores", 0.5), ("memory_gb", 1.0), ("storage_gb", 10.0)];

/// What a search is to do, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AllocationOrder {
    /// The present amounts.
    pub(super) amounts: ResourceAmounts,
    /// What the allocations have in common.
    pub(super) task: String,
    /// What executions used, oldest first.
    pub(super) uses: Vec<RecordedUse>,
    /// Figure to improve.
    pub(super) metric: OptimizationMetric,
    /// Candidates, the present amounts included.
    pub(super) trials: usize,
    /// Seconds after which no candidate is begun.
    pub(super) max_seconds: Option<f64>,
}

/// State of a search between two pieces of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AmountSearchState {
    search: TpeSearch,
    measured: Vec<MeasuredCandidate>,
    losses: Vec<f64>,
}

/// A search under way.
pub(super) struct AllocationSearch {
    order: AllocationOrder,
    state: AmountSearchState,
}

/// Figures of a configuration over executions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct FitFigures {
    score: f64,
    /// Share of the executions that it fits.
    fits: f64,
}

impl AllocationOrder {
    /// Amounts between the contract's least and the most that there was or that was used.
    fn space(&self) -> SearchSpace {
        let present = TunedAmounts::of(&self.amounts);
        let most = |of: fn(&RecordedUse) -> f64, present: f64| self.uses.iter().map(of).fold(present, f64::max);
        let highs = [
            most(|used| used.cpu_cores, present.cpu_cores),
            most(|used| used.memory_gb, present.memory_gb),
            most(|used| used.storage_gb, present.storage_gb),
        ];
        // What can't be less than it is stays.
        let searched = LEAST.into_iter().zip(highs).filter(|((_, low), high)| *high > low * 1.01);
        let dimensions =
            searched.map(|((name, low), high)| (name.to_owned(), SearchDimension::Float { low, high, log: true }));
        SearchSpace { dimensions: dimensions.collect() }
    }

    fn amounts_with(&self, settings: &Map<String, Value>) -> ResourceAmounts {
        let present = TunedAmounts::of(&self.amounts);
        let number = |name: &str, present: f64| settings.get(name).and_then(Value::as_f64).unwrap_or(present);
        let tuned = TunedAmounts {
            cpu_cores: number("cpu_cores", present.cpu_cores),
            memory_gb: number("memory_gb", present.memory_gb),
            storage_gb: number("storage_gb", present.storage_gb),
        };
        tuned.within(&self.amounts)
    }

    /// The figure of a configuration in one execution: 0 where it does not fit.
    fn score(&self, amounts: &ResourceAmounts, used: &RecordedUse) -> (f64, bool) {
        let found = fit_of(amounts, used);
        let score = match self.metric {
            OptimizationMetric::ResourceEfficiency => found.efficiency,
            _ => found.cost_efficiency,
        };
        (if found.fits { score } else { 0.0 }, found.fits)
    }

    fn figures(&self, amounts: &ResourceAmounts, uses: &[&RecordedUse]) -> FitFigures {
        let scores: Vec<(f64, bool)> = uses.iter().map(|used| self.score(amounts, used)).collect();
        let count = scores.len().max(1) as f64;
        let fits = scores.iter().filter(|(_, fits)| *fits).count() as f64 / count;
        FitFigures { score: scores.iter().map(|(score, _)| score).sum::<f64>() / count, fits }
    }

    fn choosing(&self) -> Vec<&RecordedUse> {
        self.uses.iter().step_by(2).collect()
    }

    fn comparing(&self) -> Vec<&RecordedUse> {
        self.uses.iter().skip(1).step_by(2).collect()
    }
}

impl AllocationSearch {
    /// Begin, or go on from a checkpoint.
    pub(super) fn open(order: AllocationOrder, seed: u64, checkpoint: Option<&str>) -> Result<Self, WorkFault> {
        let state = match checkpoint {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| WorkFault::Failed(format!("the checkpoint can't be read: {error}")))?,
            None => AmountSearchState {
                search: TpeSearch::new(order.space(), seed),
                measured: Vec::new(),
                losses: Vec::new(),
            },
        };
        Ok(Self { order, state })
    }

    fn measure_next(&mut self) {
        let order = &self.order;
        let (settings, point) = match self.state.measured.len() {
            0 => (Map::new(), None),
            _ => {
                let point = self.state.search.suggest();
                let names = self.state.search.space().dimensions.iter().map(|(name, _)| name.clone());
                // Up to the next thousandth, which allocations are counted in.
                let amounts = point.iter().map(|value| json!((value * 1000.0).ceil() / 1000.0));
                (names.zip(amounts).collect(), Some(point))
            }
        };
        let chosen = order.choosing();
        let found = order.figures(&order.amounts_with(&settings), &chosen);
        let present = order.figures(&order.amounts_with(&Map::new()), &chosen);
        // What is used up to the last is no better where executions have too little.
        let is_less = found.fits < present.fits - LOST_FITS;
        let loss = if is_less { f64::INFINITY } else { -found.score };
        if let Some(point) = point {
            self.state.search.tell(point, loss);
        }
        let (resource, score) = (chosen.len() as u64, (!is_less).then_some(found.score));
        self.state.measured.push(MeasuredCandidate { settings, resource, score });
        self.state.losses.push(if loss.is_finite() { loss } else { f64::MAX });
    }

    fn outcome(&self) -> OptimisationOutcome {
        let order = &self.order;
        let chosen = best_indices(&self.state.losses, 1).first().copied().unwrap_or(0);
        let settings = &self.state.measured[chosen].settings;
        let (from, to) = (order.amounts_with(&Map::new()), order.amounts_with(settings));
        let compared = order.comparing();
        let (before, after) = (order.figures(&from, &compared), order.figures(&to, &compared));
        let differences: Vec<(f64, f64)> =
            compared.iter().map(|used| (order.score(&to, used).0 - order.score(&from, used).0, 1.0)).collect();
        let mean = after.score - before.score;
        let (cost_before, cost_after) = (cost_of(&from), cost_of(&to));
        let whole = |amounts: &ResourceAmounts| {
            let tuned = serde_json::to_value(TunedAmounts::of(amounts));
            tuned.ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
        };
        let summary = |score: f64| ScoreSummary { mean: Some(score), runs: vec![score] };
        let mut outcome = OptimisationOutcome {
            baseline: whole(&from),
            baseline_score: summary(before.score),
            best: whole(&to),
            best_score: summary(after.score),
            unchanged: settings.is_empty(),
            improvement: Some(MeasuredImprovement::new(mean, bootstrap_mean(&differences), differences.len())),
            performance_improvement: (before.score > 0.0).then(|| mean / before.score),
            cost_savings: (cost_before > 0.0).then(|| (cost_before - cost_after) / cost_before),
            candidates: self.state.measured.clone(),
            details: json!({"task": order.task, "executions": {"chose": order.choosing().len(), "compared": compared.len()},
                "cost_before": cost_before, "cost_after": cost_after, "fits_before": before.fits, "fits_after": after.fits}),
            ..OptimisationOutcome::default()
        };
        let curve = outcome.curve(false);
        let last = curve.len() - curve.len() / 3;
        outcome.convergence_achieved =
            curve.len() >= 3 && curve[last..].iter().all(|point| point.best == curve[last - 1].best);
        let mut reason = |name: &str, why: &str| outcome.reasons.insert(name.to_owned(), why.to_owned());
        reason("resource_savings", "an allocation does no work that could be saved");
        if before.score <= 0.0 {
            reason("performance_improvement", "the present amounts fit none of the executions that chose nothing");
        }
        outcome
    }
}

impl WorkMachine for AllocationSearch {
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault> {
        let measured = self.state.measured.len();
        let is_spent = self.order.max_seconds.is_some_and(|most| context.seconds() >= most)
            // Where nothing can be less there is nothing to try.
            || self.state.search.space().dimensions.is_empty();
        if measured > 0 && (measured >= self.order.trials || is_spent) {
            let outcome = serde_json::to_value(self.outcome());
            return outcome.map(WorkStep::Done).map_err(|error| WorkFault::Failed(error.to_string()));
        }
        self.measure_next();
        let best = self.state.measured.iter().filter_map(|candidate| candidate.score).reduce(f64::max);
        let note = json!({"best": best, "candidates": measured + 1});
        Ok(WorkStep::Progress { done: measured as u64 + 1, total: self.order.trials as u64, note: Some(note) })
    }

    fn checkpoint(&self) -> Result<String, WorkFault> {
        serde_json::to_string(&self.state).map_err(|error| WorkFault::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(uses: Vec<RecordedUse>) -> AllocationOrder {
        AllocationOrder {
            amounts: serde_json::from_value(
                json!({"cpu_cores": 8.0, "memory_gb": 16.0, "gpu_count": 0.0, "gpu_memory_gb": 0.0,
                "storage_gb": 200.0, "network_bandwidth": 500.0}),
            )
            .unwrap(),
            task: "training/any/1/efficiency".to_owned(),
            uses,
            metric: OptimizationMetric::CostEfficiency,
            trials: 60,
            max_seconds: None,
        }
    }

    fn outcome_of(order: AllocationOrder) -> OptimisationOutcome {
        let trials = order.trials;
        let mut search = AllocationSearch::open(order, 7, None).unwrap();
        for _ in 0..trials {
            search.measure_next();
            let text = search.checkpoint().unwrap();
            search = AllocationSearch::open(search.order, 7, Some(&text)).unwrap();
        }
        search.outcome()
    }

    #[test]
    fn what_is_never_used_is_given_up_and_what_is_used_is_kept() {
        let uses = (0..40).map(|at| {
            let more = f64::from(at % 5) / 10.0;
            RecordedUse { cpu_cores: 1.0 + more, memory_gb: 3.0 + more, storage_gb: 12.0 + more }
        });
        let found = outcome_of(order(uses.collect()));
        assert!(!found.unchanged && found.improvement.as_ref().unwrap().low.unwrap() > 0.0, "{found:?}");
        assert_eq!((&found.details["fits_before"], &found.details["fits_after"]), (&json!(1.0), &json!(1.0)));
        let best: TunedAmounts = serde_json::from_value(Value::Object(found.best.clone())).unwrap();
        assert!(best.cpu_cores >= 1.4 && best.memory_gb >= 3.4 && best.storage_gb >= 12.4, "{best:?}");
        assert!(best.cpu_cores < 4.0 && best.memory_gb < 10.0, "{best:?}");
        // 80 + 32 + 20 cost units before.
        assert_eq!(found.details["cost_before"], 132.0);
        assert!(found.cost_savings.unwrap() > 0.4, "{found:?}");
    }

    #[test]
    fn what_is_used_up_stays_as_it_is() {
        let uses = vec![RecordedUse { cpu_cores: 8.0, memory_gb: 16.0, storage_gb: 200.0 }; 8];
        let found = outcome_of(order(uses));
        assert!(found.unchanged, "{found:?}");
        assert_eq!((found.cost_savings, found.improvement.unwrap().mean), (Some(0.0), 0.0));
    }

    #[test]
    fn least_amounts_leave_nothing_to_search() {
        let mut least = order(vec![RecordedUse { cpu_cores: 0.1, memory_gb: 0.1, storage_gb: 0.1 }; 8]);
        (least.amounts.cpu_cores, least.amounts.memory_gb, least.amounts.storage_gb) = (0.5, 1.0, 10.0);
        assert!(least.space().dimensions.is_empty());
    }
}
