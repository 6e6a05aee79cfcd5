//! The evaluation of versions in the episodes of several seeds as background work.

use am_background::{WorkContext, WorkFault, WorkKind, WorkMachine, WorkStep};
use am_rl::{
    PolicyReference, RlError,
    library::PolicyLibrary,
    runs::{EvaluationScores, TrainingRuns, score_weights},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    figures::{KnownScores, report_of},
    model::{ComparisonOrder, VersionComparison},
};

/// Name of the kind of work.
pub(super) const COMPARISON_KIND: &str = "comparison";

/// Comparisons as work.
pub(super) struct ComparisonWork {
    pub(super) library: PolicyLibrary,
    pub(super) training: TrainingRuns,
}

/// Evaluations so far: of each version in turn, with each seed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct ComparisonState {
    scores: Vec<EvaluationScores>,
}

/// A comparison under way.
struct ComparisonMachine {
    library: PolicyLibrary,
    training: TrainingRuns,
    order: ComparisonOrder,
    state: ComparisonState,
    /// Weights of the version that is evaluated now, with its place.
    weights: Option<(usize, Vec<u8>)>,
}

fn fault(error: RlError) -> WorkFault {
    match error {
        RlError::Db(error) => WorkFault::Db(error),
        error => WorkFault::Failed(error.to_string()),
    }
}

impl WorkKind for ComparisonWork {
    fn name(&self) -> &'static str {
        COMPARISON_KIND
    }

    fn open(&self, context: &WorkContext, checkpoint: Option<&str>) -> Result<Box<dyn WorkMachine>, WorkFault> {
        let order: ComparisonOrder = context.parameters()?;
        let state = match checkpoint {
            None => ComparisonState::default(),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| WorkFault::Failed(format!("the checkpoint can't be read: {error}")))?,
        };
        let (library, training) = (self.library.clone(), self.training.clone());
        Ok(Box::new(ComparisonMachine { library, training, order, state, weights: None }))
    }
}

impl ComparisonMachine {
    fn report(&self) -> VersionComparison {
        let seeds = &self.order.seeds;
        let evaluations = self.state.scores.chunks(seeds.len().max(1));
        let known = self.order.versions.iter().zip(evaluations).map(|(reference, scores)| KnownScores {
            reference: reference.clone(),
            own: scores.first().cloned(),
            seeds: seeds.iter().zip(scores).map(|(seed, one)| (*seed, reference.clone(), one.clone())).collect(),
            is_paired: true,
            reason: None,
        });
        let known: Vec<KnownScores> = known.collect();
        report_of(&known, Some(self.order.environment.clone()), self.order.parameters.clone())
    }
}

impl WorkMachine for ComparisonMachine {
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault> {
        let (seeds, done) = (&self.order.seeds, self.state.scores.len());
        let total = seeds.len() * self.order.versions.len();
        if done >= total {
            let report = serde_json::to_value(self.report());
            return report.map(WorkStep::Done).map_err(|error| WorkFault::Failed(error.to_string()));
        }
        let (at, seed) = (done / seeds.len().max(1), seeds[done % seeds.len().max(1)]);
        let reference = self.order.versions[at].clone();
        let weights = match self.weights.take().filter(|(of, _)| *of == at) {
            Some((_, weights)) => weights,
            None => {
                let named: PolicyReference = reference
                    .parse()
                    .map_err(|error| WorkFault::Failed(format!("the version can't be read: {error}")))?;
                let library = self.library.clone();
                let found = context.block_on(async move { library.weights(&named).await });
                found.map_err(fault)?.1
            }
        };
        let (environment, parameters) = (self.order.environment.clone(), self.order.parameters.clone());
        let training = self.training.clone();
        let plan = context
            .block_on(async move { training.evaluation_plan(environment, parameters, seed).await })
            .map_err(fault)?
            .1;
        let scores = score_weights(&weights, &plan, self.order.episodes, seed).map_err(fault)?;
        let note = json!({"version": reference, "seed": seed, "mean": scores.episodes.mean,
            "expected_return": scores.expected_return});
        self.state.scores.push(scores);
        self.weights = Some((at, weights));
        Ok(WorkStep::Progress { done: done as u64 + 1, total: total as u64, note: Some(note) })
    }

    fn checkpoint(&self) -> Result<String, WorkFault> {
        serde_json::to_string(&self.state).map_err(|error| WorkFault::Failed(error.to_string()))
    }
}
