//! Short trainings that measure settings: begun, continued from a checkpoint, and scored in episodes.

use crate::{
    error::{Result, RlError},
    runs::{EvaluationScores, score_policy},
    training::{ChosenActions, Device, Trainer, TrainerCheckpoint, TrainingPlan},
};

/// A training of some steps that measures its settings. Its policy is not kept.
pub struct ShortTraining {
    plan: TrainingPlan,
    trainer: Box<dyn Trainer>,
}

impl ShortTraining {
    /// Begin the training of `plan`, on the processor.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for settings that can't be trained.
    pub fn begin(plan: TrainingPlan) -> Result<Self> {
        // One thread for an operation: short trainings are of small networks, and the other cores serve requests.
        crate::training::set_threads(1);
        let trainer = plan.make_trainer(Device::Cpu).map_err(RlError::from_plan_error)?;
        Ok(Self { plan, trainer })
    }

    /// Go on from a state that [`ShortTraining::save`] made of the same plan.
    ///
    /// # Errors
    /// When it is of another plan.
    pub fn resume(plan: TrainingPlan, state: &[u8]) -> Result<Self> {
        let mut training = Self::begin(plan)?;
        let checkpoint = TrainerCheckpoint::read_from(&mut &*state, state.len() as u64)?;
        training.trainer.restore(checkpoint)?;
        Ok(training)
    }

    /// Train for some milliseconds. Returns whether its steps are done.
    ///
    /// # Errors
    /// When it diverges.
    pub fn advance(&mut self) -> Result<bool> {
        if self.is_done() {
            return Ok(true);
        }
        self.trainer.advance()?;
        Ok(self.is_done())
    }

    /// Whether its steps are done.
    pub fn is_done(&self) -> bool {
        self.trainer.steps() >= self.plan.steps
    }

    /// Environment steps done.
    pub fn steps(&self) -> u64 {
        self.trainer.steps()
    }

    /// The whole state.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let written = self.trainer.save()?.write_to(&mut out);
        written.map_err(|error| RlError::Storage("a checkpoint".into(), error))?;
        Ok(out)
    }

    /// Score the present policy in whole episodes that begin with `seed`.
    ///
    /// # Errors
    /// When the policy fails.
    pub fn score(&self, episodes: usize, seed: u64) -> Result<EvaluationScores> {
        let greedy = |observations: &[f32], chosen: &mut ChosenActions| self.trainer.greedy(observations, chosen);
        Ok(score_policy(&greedy, &self.plan, episodes, seed)?)
    }
}

/// Check a plan as a training does, and fill in every setting.
///
/// # Errors
/// [`RlError::Invalid`] with the fault.
pub fn complete_plan(plan: &TrainingPlan) -> Result<TrainingPlan> {
    let whole = plan.whole().and_then(|whole| whole.check().map(|()| whole));
    whole.map_err(RlError::from_plan_error)
}
