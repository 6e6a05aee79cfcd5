//! The version that a run ends with.

use serde_json::json;

use super::{
    super::{
        evaluation::{EvaluationScores, score_policy, score_weights},
        model::{FeedbackTask, TrainingSpec, TrainingTask},
        promotion::PromotionDecision,
        record::EvaluationPoint,
    },
    BestWeights, TrainingDriver,
};
use crate::{
    PolicyReference,
    environments::ActionSpace,
    error::{Result, RlError, corrupt_json_error},
    library::{self, NewVersion, PolicyLibrary, store_weights},
    network::PolicyNetwork,
    training::{self, Trainer},
};
use am_db::Tx;

/// Seed of evaluations: every version of a policy is evaluated in the same episodes.
const EVALUATION_SEED: u64 = 1_000_003;
/// Seed of the evaluations that choose the best weights.
const SELECTION_SEED: u64 = 1_000_033;

/// Take an alias from the decisions and the new version that has been moved since it was compared.
pub(super) async fn settle_promotion(
    tx: &mut Tx,
    new: &mut NewVersion,
    decisions: &mut [PromotionDecision],
) -> Result<()> {
    let present = library::present_aliases(tx, &new.name).await?;
    for decision in decisions.iter_mut() {
        let current = present.get(&decision.alias).map(|version| format!("{}@{version}", new.name));
        if decision.promoted && decision.current != current {
            decision.promoted = false;
            decision.reason = "the alias was moved while the versions were compared".to_owned();
        }
    }
    new.aliases.retain(|alias| decisions.iter().any(|decision| decision.alias == *alias && decision.promoted));
    Ok(())
}

/// Take the aliases from the new version that are not moved to what was not evaluated yet, and say so in the decisions.
pub(super) async fn settle_gates(
    tx: &mut Tx,
    library: &PolicyLibrary,
    new: &mut NewVersion,
    decisions: &mut Option<Vec<PromotionDecision>>,
) -> Result<()> {
    for alias in std::mem::take(&mut new.aliases) {
        let Some(reason) = library.alias_refusal(tx, (&new.name, &alias), None, None).await? else {
            new.aliases.push(alias);
            continue;
        };
        let told = decisions.get_or_insert_default();
        match told.iter_mut().find(|decision| decision.alias == alias) {
            Some(decision) => (decision.promoted, decision.reason) = (false, reason),
            None => told.push(PromotionDecision::uncompared(&alias, None, false, reason)),
        }
    }
    Ok(())
}

impl TrainingDriver {
    /// Evaluate the present weights of `trainer`.
    fn score_trainer(&self, work: &TrainingSpec, trainer: &dyn Trainer, seed: u64) -> Result<EvaluationScores> {
        let greedy = |observations: &[f32], chosen: &mut training::ChosenActions| trainer.greedy(observations, chosen);
        Ok(score_policy(&greedy, &self.plan(work), work.evaluation_episodes, seed)?)
    }

    /// Evaluate the present weights if that is due, and keep them if none were better.
    pub(super) fn evaluate_if_due(&mut self, trainer: &dyn Trainer) -> Result<()> {
        let TrainingTask::Train(work) = &self.run.task else { return Ok(()) };
        if !self.record.is_evaluation_due(work.evaluations, trainer.steps(), work.steps) {
            return Ok(());
        }
        let work = work.clone();
        self.evaluate_now(&work, trainer)
    }

    fn evaluate_now(&mut self, work: &TrainingSpec, trainer: &dyn Trainer) -> Result<()> {
        let scores = self.score_trainer(work, trainer, SELECTION_SEED)?;
        let point = EvaluationPoint {
            steps: trainer.steps(),
            mean: scores.episodes.mean,
            expected_return: scores.expected_return,
        };
        if self.best.as_ref().is_none_or(|best| point.score() >= best.score) {
            self.best = Some(BestWeights { steps: point.steps, score: point.score(), weights: trainer.weights()? });
        }
        self.record.evaluations.push(point);
        self.new_points = true;
        Ok(())
    }

    /// Return the weights that become the version, the steps after which they were taken, and their evaluation. Which are
    /// the best is decided in other episodes than those that they are scored in.
    pub(super) fn evaluated(
        &mut self,
        work: &TrainingSpec,
        trainer: &dyn Trainer,
    ) -> Result<(Vec<u8>, u64, EvaluationScores)> {
        let steps = trainer.steps();
        if work.evaluations > 0 && self.record.evaluations.last().is_none_or(|last| last.steps != steps) {
            self.evaluate_now(work, trainer)?;
            self.report(steps, None)?;
        }
        match self.best.take().filter(|best| best.steps != steps) {
            Some(BestWeights { steps, weights, .. }) => {
                let scores = score_weights(&weights, &self.plan(work), work.evaluation_episodes, EVALUATION_SEED)?;
                Ok((weights, steps, scores))
            }
            None => Ok((trainer.weights()?, steps, self.score_trainer(work, trainer, EVALUATION_SEED)?)),
        }
    }

    /// Decide which of the aliases the new version, evaluated with `scores`, may take.
    pub(super) fn gate(&self, work: &TrainingSpec, scores: &EvaluationScores) -> Result<Vec<PromotionDecision>> {
        let library = &self.inner.library;
        let present = match self.runtime.block_on(library.get(&self.run.policy)) {
            Ok(policy) => policy.aliases,
            Err(RlError::Act(_)) => Default::default(),
            Err(error) => return Err(error),
        };
        let decide = |alias: &String| {
            let Some(version) = present.get(alias) else {
                return Ok(PromotionDecision::uncompared(alias, None, true, "the alias pointed to no version"));
            };
            let current = format!("{}@{version}", self.run.policy);
            let reference: PolicyReference = current.parse().map_err(|error| corrupt_json_error("an alias", error))?;
            let (_, weights) = self.runtime.block_on(library.weights(&reference))?;
            match score_weights(&weights, &self.plan(work), work.evaluation_episodes, EVALUATION_SEED) {
                Ok(old) => Ok(PromotionDecision::compared(alias, current, &old, scores)),
                Err(error @ RlError::Invalid(_)) => {
                    let reason = format!("its version cannot be evaluated here: {error}");
                    Ok(PromotionDecision::uncompared(alias, Some(current), false, reason))
                }
                Err(error) => Err(error),
            }
        };
        work.aliases.iter().map(decide).collect()
    }

    /// Build the version with `weights`, taken after the second of `steps`; the run has done the first.
    pub(super) fn trained(
        &self,
        work: &TrainingSpec,
        weights: &[u8],
        (steps, taken): (u64, u64),
        scores: &EvaluationScores,
    ) -> Result<NewVersion> {
        let plan = self.plan(work);
        let described = plan.description()?;
        // Scores of discrete actions are stored as numbers; the actions' names are those of the environment.
        let action_names = match plan.world()?.actions {
            ActionSpace::Discrete { names } => names,
            ActionSpace::Continuous { .. } => Vec::new(),
        };
        let curve = self.record.points.iter();
        let training = json!({
            "run_id": self.run.id,
            "environment": work.environment,
            "parameters": work.parameters,
            "environment_sha256": work.environment_sha256,
            "algorithm": work.algorithm,
            "settings": work.settings,
            "steps": steps,
            "weights_after_steps": taken,
            "seconds": self.seconds(),
            "episodes": self.record.episodes,
            "gradient_steps": self.record.gradient_steps,
            "horizon": described.horizon,
            "curve": curve.map(|point| json!({"steps": point.steps, "mean_return": point.mean_return})).collect::<Vec<_>>(),
        });
        Ok(NewVersion {
            name: self.run.policy.clone(),
            file: store_weights(self.inner.library.policies().directory(), weights)?,
            form: PolicyNetwork::from_safetensors(weights)?.form().clone(),
            action_names,
            state_names: described.observations.clone(),
            environment: Some(work.environment.clone()),
            source: "trained",
            seed: Some(work.seed),
            training: Some(training),
            scores: serde_json::to_value(scores).ok(),
            aliases: work.aliases.clone(),
        })
    }

    /// Names and environment stay those of the version before.
    pub(super) fn feedback_version(&self, lesson: &FeedbackTask, weights: &[u8]) -> Result<NewVersion> {
        let from: PolicyReference = lesson.from.parse().map_err(|error| corrupt_json_error("from", error))?;
        let before = self.runtime.block_on(self.inner.library.version(&from))?;
        let measures = self.record.points.last().map(|point| &point.measures);
        let training = json!({
            "run_id": self.run.id,
            "agent_id": lesson.agent_id,
            "from": lesson.from,
            "settings": lesson.settings,
            "feedback": {"rows": lesson.rows, "sha256": lesson.feedback_sha256},
            "seconds": self.seconds(),
        });
        Ok(NewVersion {
            name: self.run.policy.clone(),
            file: store_weights(self.inner.library.policies().directory(), weights)?,
            form: PolicyNetwork::from_safetensors(weights)?.form().clone(),
            action_names: before.action_names,
            state_names: before.state_names,
            environment: before.environment,
            source: "learned",
            seed: Some(lesson.settings.seed),
            training: Some(training),
            scores: measures.and_then(|measures| serde_json::to_value(measures).ok()),
            aliases: Vec::new(),
        })
    }
}
