//! The search for a workflow's retries and parallelism: candidates are replayed with the recorded attempts of half of its executions,
//! and the best is compared with the present settings on the other half.

use am_background::{WorkContext, WorkFault, WorkMachine, WorkStep};
use am_performance_math::{
    interval::MeasuredInterval,
    replay::{ReplayAttempt, ReplayStep, replay_run},
    search::{SearchDimension, SearchSpace, TpeSearch},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model::{MeasuredCandidate, MeasuredImprovement, OptimisationOutcome, OptimizationMetric, ScoreSummary};

/// Runs that are replayed to measure a candidate.
const RUNS: u64 = 400;
/// Samples of the executions by which the interval of the improvement is found, and runs that are replayed for each.
const SAMPLES: usize = 200;
const SAMPLE_RUNS: u64 = 60;
/// Share of the present success rate that another setting may lose.
const LOST_SUCCESSES: f64 = 0.005;
/// Retries that are tried at most.
const MOST_RETRIES: i64 = 10;

/// The attempts of one recorded execution, by step.
pub(super) type RecordedAttempts = Vec<Vec<ReplayAttempt>>;

/// What a search is to do, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WorkflowOrder {
    /// The steps with their present settings; their attempts are empty.
    pub(super) steps: Vec<ReplayStep>,
    /// Keys of the steps.
    pub(super) keys: Vec<String>,
    /// The recorded executions, oldest first.
    pub(super) recorded: Vec<RecordedAttempts>,
    /// Steps of a run that the engine lets run at once.
    pub(super) parallel: usize,
    /// Figure to improve.
    pub(super) metric: OptimizationMetric,
    /// Candidates, the present settings included.
    pub(super) trials: usize,
    /// Seconds after which no candidate is begun.
    pub(super) max_seconds: Option<f64>,
}

/// State of a search between two pieces of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SearchState {
    search: TpeSearch,
    measured: Vec<MeasuredCandidate>,
    losses: Vec<f64>,
    /// Differences of the samples so far, once the best is chosen.
    differences: Vec<f64>,
    chosen: Option<usize>,
}

/// A search under way.
pub(super) struct WorkflowSearch {
    order: WorkflowOrder,
    seed: u64,
    state: SearchState,
}

/// Figures of replayed runs.
#[derive(Clone, Copy, Debug, Default)]
struct ReplayFigures {
    success: f64,
    /// Seconds for each run that succeeds, those of failed ones included.
    seconds: f64,
    /// Seconds that steps worked for each run that succeeds.
    work: f64,
}

fn figures(steps: &[ReplayStep], parallel: usize, runs: u64, seed: u64) -> ReplayFigures {
    let (mut seconds, mut work, mut successes) = (0.0, 0.0, 0.0);
    for run in 0..runs {
        // The same draws for every candidate, so that they differ by their settings only.
        let found = replay_run(steps, parallel, seed.wrapping_add(run.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        (seconds, work) = (seconds + found.seconds, work + found.work);
        successes += f64::from(u8::from(!found.failed));
    }
    let each = |sum: f64| if successes > 0.0 { sum / successes } else { f64::INFINITY };
    ReplayFigures { success: successes / runs as f64, seconds: each(seconds), work: each(work) }
}

/// Whether less of the figure is better.
pub(super) fn is_lower_better(metric: OptimizationMetric) -> bool {
    matches!(metric, OptimizationMetric::Latency | OptimizationMetric::ResourceEfficiency)
}

impl ReplayFigures {
    fn score(self, metric: OptimizationMetric) -> f64 {
        match metric {
            OptimizationMetric::Accuracy => self.success,
            OptimizationMetric::Throughput => 1.0 / self.seconds,
            OptimizationMetric::ResourceEfficiency => self.work,
            _ => self.seconds,
        }
    }
}

impl WorkflowOrder {
    fn space(&self) -> SearchSpace {
        // No further from what was recorded than that: whether a failure passes within another time is not known.
        let dimensions = vec![
            ("max_retries".to_owned(), SearchDimension::Integer { low: 0, high: MOST_RETRIES, log: false }),
            ("wait_factor".to_owned(), SearchDimension::Float { low: 0.5, high: 4.0, log: true }),
            ("backoff".to_owned(), SearchDimension::Float { low: 1.0, high: 4.0, log: false }),
        ];
        SearchSpace { dimensions }
    }

    /// The steps with a candidate's settings and the attempts of these executions.
    fn steps_with(&self, settings: &Map<String, Value>, executions: &[usize]) -> Vec<ReplayStep> {
        let number = |name: &str| settings.get(name).and_then(Value::as_f64);
        let mut steps = self.steps.clone();
        for (at, step) in steps.iter_mut().enumerate() {
            let recorded = executions.iter().filter_map(|execution| self.recorded.get(*execution)?.get(at));
            step.attempts = recorded.flatten().copied().collect();
            if let Some(retries) = number("max_retries") {
                step.retry.retries = retries as u32;
            }
            step.retry.initial *= number("wait_factor").unwrap_or(1.0);
            step.retry.backoff = number("backoff").unwrap_or(step.retry.backoff);
        }
        steps
    }

    fn choosing(&self) -> Vec<usize> {
        (0..self.recorded.len()).step_by(2).collect()
    }

    fn comparing(&self) -> Vec<usize> {
        (0..self.recorded.len()).skip(1).step_by(2).collect()
    }
}

impl WorkflowSearch {
    /// Begin, or go on from a checkpoint.
    pub(super) fn open(order: WorkflowOrder, seed: u64, checkpoint: Option<&str>) -> Result<Self, WorkFault> {
        let state = match checkpoint {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| WorkFault::Failed(format!("the checkpoint can't be read: {error}")))?,
            None => SearchState {
                search: TpeSearch::new(order.space(), seed),
                measured: Vec::new(),
                losses: Vec::new(),
                differences: Vec::new(),
                chosen: None,
            },
        };
        Ok(Self { order, seed, state })
    }

    fn measure_next(&mut self) {
        let order = &self.order;
        let (settings, point) = match self.state.measured.len() {
            0 => (Map::new(), None),
            _ => {
                let point = self.state.search.suggest();
                let names = self.state.search.space().dimensions.iter();
                let settings = names.zip(&point).map(|((name, dimension), value)| {
                    let whole = matches!(dimension, SearchDimension::Integer { .. });
                    (name.clone(), if whole { json!(*value as i64) } else { json!(value) })
                });
                (settings.collect(), Some(point))
            }
        };
        let found = figures(&order.steps_with(&settings, &order.choosing()), order.parallel, RUNS, self.seed);
        let score = found.score(order.metric);
        // Faster is no better where more runs fail.
        let least = self.state.measured.first().and_then(|first| first.settings.is_empty().then_some(()));
        let before =
            least.map(|()| figures(&order.steps_with(&Map::new(), &order.choosing()), order.parallel, RUNS, self.seed));
        let fails_more = before.is_some_and(|before| found.success < before.success - LOST_SUCCESSES);
        let loss = if is_lower_better(order.metric) { score } else { -score };
        let loss = if fails_more { f64::INFINITY } else { loss };
        if let Some(point) = point {
            self.state.search.tell(point, loss);
        }
        let score = (score.is_finite() && !fails_more).then_some(score);
        self.state.measured.push(MeasuredCandidate { settings, resource: RUNS, score });
        self.state.losses.push(if loss.is_finite() { loss } else { f64::MAX });
    }

    fn choose(&mut self) {
        let best = am_performance_math::search::best_indices(&self.state.losses, 1);
        self.state.chosen = Some(best.first().copied().unwrap_or(0));
    }

    /// Steps of one sample of the executions that chose nothing, with a candidate's settings.
    fn sample(&self, sample: usize, settings: &Map<String, Value>) -> Vec<ReplayStep> {
        let all = self.order.comparing();
        let mut state = self.seed ^ (sample as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95);
        let drawn = all.iter().map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            all[((state >> 33) as usize) % all.len()]
        });
        let drawn: Vec<usize> = drawn.collect();
        self.order.steps_with(settings, &drawn)
    }

    fn compare_next(&mut self, chosen: usize) {
        let sample = self.state.differences.len();
        let settings = self.state.measured[chosen].settings.clone();
        let score = |settings: &Map<String, Value>| {
            let steps = self.sample(sample, settings);
            figures(&steps, self.order.parallel, SAMPLE_RUNS, self.seed ^ sample as u64).score(self.order.metric)
        };
        let (before, after) = (score(&Map::new()), score(&settings));
        let difference = if is_lower_better(self.order.metric) { before - after } else { after - before };
        self.state.differences.push(if difference.is_finite() { difference } else { 0.0 });
    }

    fn settings(&self, chosen: usize) -> Map<String, Value> {
        let mut all = Map::new();
        for (key, step) in self.order.keys.iter().zip(&self.order.steps) {
            let settings = &self.state.measured[chosen].settings;
            let factor = settings.get("wait_factor").and_then(Value::as_f64).unwrap_or(1.0);
            let value = |name: &str, present: f64| settings.get(name).cloned().unwrap_or_else(|| json!(present));
            let retries = settings.get("max_retries").cloned().unwrap_or_else(|| json!(step.retry.retries));
            let policy = json!({"initial_seconds": step.retry.initial * factor,
                "backoff": value("backoff", step.retry.backoff), "max_seconds": step.retry.max, "jitter": step.retry.jitter});
            all.insert(key.clone(), json!({"max_retries": retries, "retry_policy": policy}));
        }
        all
    }

    fn outcome(&self, chosen: usize) -> OptimisationOutcome {
        let (order, metric) = (&self.order, self.order.metric);
        let settings = self.state.measured[chosen].settings.clone();
        let comparing = order.comparing();
        let whole = |settings: &Map<String, Value>, parallel| {
            figures(&order.steps_with(settings, &comparing), parallel, RUNS, self.seed ^ 0x5eed)
        };
        let (before, after) = (whole(&Map::new(), order.parallel), whole(&settings, order.parallel));
        let (from, to) = (before.score(metric), after.score(metric));
        let mean = if is_lower_better(metric) { from - to } else { to - from };
        let mut sorted = self.state.differences.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get(((sorted.len() as f64 - 1.0) * share).round() as usize).copied();
        let interval = at(0.025).zip(at(0.975)).filter(|(low, high)| low < high);
        let interval = interval.map(|(low, high)| MeasuredInterval { low, high });
        let unchanged = settings.is_empty();
        let relative = (from.is_finite() && to.is_finite() && from != 0.0).then(|| mean / from.abs());
        let saved = (before.work.is_finite() && after.work.is_finite() && before.work > 0.0)
            .then(|| (before.work - after.work) / before.work);
        // What the limit of the engine is worth; it is a setting of the service.
        let limits = [1, 2, 4, 8, 16, 32].into_iter().filter(|limit| *limit <= order.steps.len().next_power_of_two());
        let parallelism: Vec<Value> = limits
            .map(|limit| json!({"max_parallel_steps": limit, "seconds": finite(whole(&settings, limit).seconds)}))
            .collect();
        let summary = |score: f64| ScoreSummary { mean: finite(score), runs: finite(score).into_iter().collect() };
        let mut outcome = OptimisationOutcome {
            baseline: self.settings(0),
            baseline_score: summary(from),
            best: self.settings(chosen),
            best_score: summary(to),
            unchanged,
            improvement: mean
                .is_finite()
                .then(|| MeasuredImprovement::new(mean, interval, self.state.differences.len())),
            performance_improvement: relative,
            resource_savings: saved,
            candidates: self.state.measured.clone(),
            details: json!({"executions": {"chose": order.choosing().len(), "compared": comparing.len()},
                "success_before": before.success, "success_after": after.success, "max_parallel_steps": order.parallel,
                "parallelism": parallelism}),
            ..OptimisationOutcome::default()
        };
        let curve = outcome.curve(is_lower_better(metric));
        let last = curve.len() - curve.len() / 3;
        outcome.convergence_achieved =
            curve.len() >= 3 && curve[last..].iter().all(|point| point.best == curve[last - 1].best);
        let mut reason = |name: &str, why: &str| outcome.reasons.insert(name.to_owned(), why.to_owned());
        reason("cost_savings", "what an attempt costs is not recorded by attempt");
        if relative.is_none() {
            reason("performance_improvement", "no replayed run of the present settings succeeds");
        }
        if saved.is_none() {
            reason("resource_savings", "no replayed run succeeds, or its steps take no time");
        }
        outcome
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

impl WorkMachine for WorkflowSearch {
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault> {
        let spent = self.order.max_seconds.is_some_and(|most| context.seconds() >= most);
        match self.state.chosen {
            None if self.state.measured.is_empty() || (self.state.measured.len() < self.order.trials && !spent) => {
                self.measure_next();
            }
            None => self.choose(),
            Some(chosen) if self.state.differences.len() < SAMPLES => self.compare_next(chosen),
            Some(chosen) => {
                let outcome = serde_json::to_value(self.outcome(chosen));
                return outcome.map(WorkStep::Done).map_err(|error| WorkFault::Failed(error.to_string()));
            }
        }
        let done = (self.state.measured.len() + self.state.differences.len()) as u64;
        let best = self
            .state
            .measured
            .iter()
            .filter_map(|candidate| candidate.score)
            .reduce(|a, b| if is_lower_better(self.order.metric) { a.min(b) } else { a.max(b) });
        let note = json!({"best": best, "candidates": self.state.measured.len()});
        Ok(WorkStep::Progress { done, total: (self.order.trials + SAMPLES) as u64, note: Some(note) })
    }

    fn checkpoint(&self) -> Result<String, WorkFault> {
        serde_json::to_string(&self.state).map_err(|error| WorkFault::Failed(error.to_string()))
    }
}
