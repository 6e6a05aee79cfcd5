//! The search for settings of a policy's training: candidates by a tree-structured Parzen estimator, short trainings by successive
//! halving, and a comparison of the best with the baseline on seeds that did not choose it.

use am_background::{WorkContext, WorkFault, WorkMachine, WorkStep};
use am_performance_math::{
    interval::mean_interval,
    search::{HalvingRung, SearchDimension, SearchSpace, TpeSearch, best_indices, halving_rungs},
};
use am_rl::{
    RlError,
    training::{Algorithm, TrainingPlan},
    tuning::{ShortTraining, complete_plan},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::model::{MeasuredCandidate, MeasuredImprovement, OptimisationOutcome, ScoreSummary};

/// Part of the candidates that comes on at each rung.
const ETA: usize = 3;
/// Least environment steps of a training.
const LEAST_STEPS: u64 = 256;
/// Episodes by which a training is scored.
const EPISODES: usize = 16;
/// Pairs of trainings that compare the best settings with the baseline.
const CONFIRMATIONS: usize = 5;

/// What a search is to do, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PolicyOrder {
    /// The baseline's plan, with all of the resource.
    pub(super) plan: TrainingPlan,
    /// Candidates, the baseline included.
    pub(super) trials: usize,
    /// Seconds after which no candidate is begun.
    pub(super) max_seconds: Option<f64>,
}

/// What is trained now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum SearchJob {
    /// A candidate, by its index, at a rung.
    Candidate { rung: usize, index: usize },
    /// The baseline, or the best, with a seed that chose neither.
    Confirm { best: bool, pair: usize },
}

/// State of a search between two pieces of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SearchState {
    search: TpeSearch,
    /// Settings of each candidate that differ from the baseline's; the first is the baseline.
    candidates: Vec<Map<String, Value>>,
    /// Candidates of the present rung, and their scores so far.
    rung: usize,
    field: Vec<usize>,
    scores: Vec<Option<f64>>,
    measured: Vec<MeasuredCandidate>,
    best: Option<usize>,
    confirmed: [Vec<Option<f64>>; 2],
    /// State of the training under way, in base64.
    training: Option<String>,
}

/// A search under way.
pub(super) struct PolicySearch {
    order: PolicyOrder,
    rungs: Vec<HalvingRung>,
    seed: u64,
    state: SearchState,
    training: Option<ShortTraining>,
}

fn fault(error: RlError) -> WorkFault {
    match error {
        RlError::Db(error) => WorkFault::Db(error),
        error => WorkFault::Failed(error.to_string()),
    }
}

/// The dimensions that are searched, by the algorithm.
fn space_of(algorithm: Algorithm) -> SearchSpace {
    let rate = SearchDimension::Float { low: 1e-5, high: 1e-2, log: true };
    let float = |low, high, log| SearchDimension::Float { low, high, log };
    let mut dimensions = vec![("learning_rate", rate), ("gamma", float(0.9, 0.999, false))];
    match algorithm {
        Algorithm::Ppo | Algorithm::A2c => {
            dimensions.push(("lambda", float(0.8, 1.0, false)));
            dimensions.push(("entropy", float(1e-4, 0.05, true)));
            if algorithm == Algorithm::Ppo {
                dimensions.push(("clip", float(0.1, 0.4, false)));
                dimensions.push(("epochs", SearchDimension::Integer { low: 1, high: 10, log: false }));
            }
        }
        Algorithm::RainbowDqn | Algorithm::Dqn => {
            dimensions.push(("steps", SearchDimension::Integer { low: 1, high: 5, log: false }));
        }
        Algorithm::Sac => dimensions.push(("tau", float(1e-3, 0.05, true))),
    }
    SearchSpace { dimensions: dimensions.into_iter().map(|(name, dimension)| (name.to_owned(), dimension)).collect() }
}

/// A seed for each purpose, so that no two trainings share theirs.
fn derived_seed(seed: u64, purpose: u64, index: usize) -> u64 {
    let mut mixed =
        seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // Below 2^53, so that it is the same number in every JSON.
    (mixed ^ (mixed >> 31)) >> 11
}

impl PolicyOrder {
    /// Check that each training of the search can be made, and fill in every setting of the baseline.
    pub(super) fn checked(mut self) -> Result<Self, RlError> {
        self.plan = complete_plan(&self.plan)?;
        Ok(self)
    }

    /// The rungs: the first ones are left out where their trainings would be too short to learn.
    fn rungs(&self) -> Vec<HalvingRung> {
        let most = self.plan.steps;
        let mut least = LEAST_STEPS.max(most / (ETA * ETA) as u64).min(most);
        loop {
            let rungs = halving_rungs(self.trials, least, most, ETA);
            let shortest = rungs[0].resource;
            let plan = TrainingPlan { steps: shortest, ..self.plan.clone() };
            if rungs.len() == 1 || plan.check().is_ok() {
                return rungs;
            }
            least = shortest + 1;
        }
    }
}

impl PolicySearch {
    /// Begin, or go on from a checkpoint.
    pub(super) fn open(order: PolicyOrder, seed: u64, checkpoint: Option<&str>) -> Result<Self, WorkFault> {
        let rungs = order.rungs();
        let space = space_of(order.plan.algorithm);
        let state = match checkpoint {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| WorkFault::Failed(format!("the checkpoint can't be read: {error}")))?,
            None => SearchState {
                search: TpeSearch::new(space, seed),
                candidates: vec![Map::new()],
                rung: 0,
                field: vec![0],
                scores: Vec::new(),
                measured: Vec::new(),
                best: None,
                confirmed: [Vec::new(), Vec::new()],
                training: None,
            },
        };
        let mut found = Self { order, rungs, seed, state, training: None };
        if let Some(saved) = found.state.training.take() {
            let bytes = BASE64_STANDARD.decode(saved);
            let bytes = bytes.map_err(|error| WorkFault::Failed(format!("the checkpoint can't be read: {error}")))?;
            let job = found.job().ok_or_else(|| WorkFault::Failed("the checkpoint is of no training".to_owned()))?;
            found.training = Some(ShortTraining::resume(found.plan_of(job), &bytes).map_err(fault)?);
        }
        Ok(found)
    }

    fn baseline(&self) -> Map<String, Value> {
        self.order.plan.settings.as_ref().and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// Whole settings of a candidate.
    fn settings_of(&self, candidate: usize) -> Map<String, Value> {
        let mut all = self.baseline();
        all.extend(self.state.candidates.get(candidate).cloned().unwrap_or_default());
        all
    }

    /// What is to be trained now; `None`: all is done.
    fn job(&self) -> Option<SearchJob> {
        let state = &self.state;
        if state.best.is_none() {
            return Some(SearchJob::Candidate { rung: state.rung, index: *state.field.get(state.scores.len())? });
        }
        let [baseline, best] = &state.confirmed;
        // Where nothing is better than the baseline there is nothing to compare it with.
        let compares = state.best != Some(0);
        match (baseline.len(), best.len()) {
            (pair, _) if pair < CONFIRMATIONS && (!compares || pair <= best.len()) => {
                Some(SearchJob::Confirm { best: false, pair })
            }
            (_, pair) if compares && pair < CONFIRMATIONS => Some(SearchJob::Confirm { best: true, pair }),
            _ => None,
        }
    }

    fn plan_of(&self, job: SearchJob) -> TrainingPlan {
        let (candidate, steps, seed) = match job {
            SearchJob::Candidate { rung, index } => {
                let steps = self.rungs.get(rung).map_or(self.order.plan.steps, |rung| rung.resource);
                (index, steps, derived_seed(self.seed, 1, rung))
            }
            SearchJob::Confirm { best, pair } => {
                let candidate = if best { self.state.best.unwrap_or(0) } else { 0 };
                (candidate, self.order.plan.steps, derived_seed(self.seed, 2, pair))
            }
        };
        let settings = Some(Value::Object(self.settings_of(candidate)));
        TrainingPlan { settings, steps, seed, ..self.order.plan.clone() }
    }

    /// Seed of the episodes by which a training is scored: those of the comparison are in no other score.
    fn episodes_of(&self, job: SearchJob) -> u64 {
        match job {
            SearchJob::Candidate { rung, .. } => derived_seed(self.seed, 3, rung),
            SearchJob::Confirm { pair, .. } => derived_seed(self.seed, 4, pair),
        }
    }

    fn total(&self) -> u64 {
        let trainings: usize = self.rungs.iter().map(|rung| rung.candidates).sum();
        (trainings + 2 * CONFIRMATIONS) as u64
    }

    fn done(&self) -> u64 {
        (self.state.measured.len() + self.state.confirmed.iter().map(Vec::len).sum::<usize>()) as u64
    }

    /// Record the score of what was trained, and choose what comes next.
    fn record(&mut self, job: SearchJob, score: Option<f64>, context: &WorkContext) {
        let score = score.filter(|score| score.is_finite());
        match job {
            SearchJob::Confirm { best, .. } => self.state.confirmed[usize::from(best)].push(score),
            SearchJob::Candidate { rung, index } => {
                let resource = self.rungs[rung].resource;
                let settings = self.state.candidates.get(index).cloned().unwrap_or_default();
                self.state.measured.push(MeasuredCandidate { settings, resource, score });
                self.state.scores.push(score);
                if rung == 0 {
                    let settings = self.settings_of(index);
                    let value = |(name, _): &(String, SearchDimension)| settings.get(name).and_then(Value::as_f64);
                    let space = self.state.search.space().clone();
                    let point = space.dimensions.iter().map(|dimension| value(dimension).unwrap_or(0.0)).collect();
                    self.state.search.tell(point, score.map_or(f64::NAN, |score| -score));
                }
                self.choose_next(context);
            }
        }
    }

    fn choose_next(&mut self, context: &WorkContext) {
        let spent = self.order.max_seconds.is_some_and(|most| context.seconds() >= most);
        let state = &mut self.state;
        if state.rung == 0 && state.field.len() < self.rungs[0].candidates && !spent {
            let point = state.search.suggest();
            let names = state.search.space().dimensions.iter();
            let settings = names.zip(point).map(|((name, dimension), value)| {
                let whole = matches!(dimension, SearchDimension::Integer { .. });
                (name.clone(), if whole { json!(value as i64) } else { json!(value) })
            });
            state.candidates.push(settings.collect());
            state.field.push(state.candidates.len() - 1);
            return;
        }
        if state.scores.len() < state.field.len() && !spent {
            return;
        }
        let losses: Vec<f64> = state.scores.iter().map(|score| score.map_or(f64::INFINITY, |score| -score)).collect();
        let ranked = best_indices(&losses, losses.len());
        if state.rung + 1 < self.rungs.len() && !spent {
            let count = self.rungs[state.rung + 1].candidates;
            state.field = ranked.into_iter().take(count).map(|at| state.field[at]).collect();
            (state.rung, state.scores) = (state.rung + 1, Vec::new());
            return;
        }
        let best = ranked.first().filter(|at| losses[**at].is_finite());
        state.best = Some(best.map_or(0, |at| state.field[*at]));
    }

    fn outcome(&self) -> Result<OptimisationOutcome, WorkFault> {
        let best = self.state.best.unwrap_or(0);
        let unchanged = best == 0;
        let before: Vec<Option<f64>> = self.state.confirmed[0].clone();
        let after = if unchanged { before.clone() } else { self.state.confirmed[1].clone() };
        let pairs: Vec<(f64, f64)> =
            before.iter().zip(&after).filter_map(|(before, after)| Some(((*before)?, (*after)?))).collect();
        if pairs.is_empty() {
            return Err(WorkFault::Failed(
                "no training of the baseline and the best settings could be scored".to_owned(),
            ));
        }
        let count = pairs.len() as f64;
        let differences: Vec<f64> = pairs.iter().map(|(before, after)| after - before).collect();
        let mean = differences.iter().sum::<f64>() / count;
        let deviation =
            (differences.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0)).sqrt();
        let interval = mean_interval(mean, deviation, pairs.len() as u64).filter(|_| deviation > 0.0);
        let summary = |of: fn(&(f64, f64)) -> f64| {
            let runs: Vec<f64> = pairs.iter().map(of).collect();
            ScoreSummary { mean: Some(runs.iter().sum::<f64>() / count), runs }
        };
        let (baseline_score, best_score) = (summary(|pair| pair.0), summary(|pair| pair.1));
        let relative = baseline_score.mean.filter(|before| *before != 0.0).map(|before| mean / before.abs());
        let mut outcome = OptimisationOutcome {
            baseline: self.baseline(),
            best: self.settings_of(best),
            unchanged,
            improvement: Some(MeasuredImprovement::new(mean, interval, pairs.len())),
            performance_improvement: relative,
            baseline_score,
            best_score,
            candidates: self.state.measured.clone(),
            details: json!({"environment": self.order.plan.environment, "algorithm": self.order.plan.algorithm,
                "steps": self.order.plan.steps, "episodes": EPISODES, "rungs": self.rungs}),
            ..OptimisationOutcome::default()
        };
        let curve = outcome.curve(false);
        let last = curve.len() - curve.len() / 3;
        outcome.convergence_achieved =
            curve.len() >= 3 && curve[last..].iter().all(|point| point.best == curve[last - 1].best);
        let mut reason = |name: &str, why: &str| outcome.reasons.insert(name.to_owned(), why.to_owned());
        reason("resource_savings", "trainings of both settings have the same steps; their seconds are not compared");
        reason("cost_savings", "no price of a training is recorded");
        if relative.is_none() {
            reason("performance_improvement", "the baseline's mean return is 0, to which nothing is relative");
        }
        Ok(outcome)
    }
}

impl WorkMachine for PolicySearch {
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault> {
        let Some(job) = self.job() else {
            let outcome = serde_json::to_value(self.outcome()?);
            return outcome.map(WorkStep::Done).map_err(|error| WorkFault::Failed(error.to_string()));
        };
        let episodes = self.episodes_of(job);
        match &mut self.training {
            None => match ShortTraining::begin(self.plan_of(job)) {
                Ok(training) => self.training = Some(training),
                Err(RlError::Db(error)) => return Err(WorkFault::Db(error)),
                // Settings that can't be trained are a candidate that can't be measured.
                Err(_) => self.record(job, None, context),
            },
            Some(training) => match training.advance() {
                Ok(false) => {}
                Ok(true) => {
                    let scores = training.score(EPISODES, episodes);
                    self.training = None;
                    let score = scores.ok().map(|scores| scores.expected_return.unwrap_or(scores.episodes.mean));
                    self.record(job, score, context);
                }
                Err(_) => {
                    self.training = None;
                    self.record(job, None, context);
                }
            },
        }
        let steps = self.training.as_ref().map_or(0, ShortTraining::steps);
        let best = self.state.search.best().and_then(|trial| trial.loss).map(|loss| -loss);
        let phase = if self.state.best.is_some() { "comparison" } else { "search" };
        let note =
            json!({"phase": phase, "best": best, "training_steps": steps, "candidates": self.state.candidates.len()});
        Ok(WorkStep::Progress { done: self.done(), total: self.total(), note: Some(note) })
    }

    fn checkpoint(&self) -> Result<String, WorkFault> {
        let mut state = self.state.clone();
        if let Some(training) = &self.training {
            state.training = Some(BASE64_STANDARD.encode(training.save().map_err(fault)?));
        }
        serde_json::to_string(&state).map_err(|error| WorkFault::Failed(error.to_string()))
    }
}
