//! The version that a run ends with.

use serde_json::json;

use super::{
    super::{
        evaluation::EvaluationScores,
        model::{FeedbackTask, TrainingSpec},
    },
    TrainingDriver,
};
use crate::{
    PolicyReference,
    environments::{self, ActionSpace},
    error::{Result, corrupt_json_error},
    library::{NewVersion, store_weights},
    network::PolicyNetwork,
    training,
};

impl TrainingDriver {
    pub(super) fn trained(
        &self,
        work: &TrainingSpec,
        weights: &[u8],
        steps: u64,
        scores: &EvaluationScores,
    ) -> Result<NewVersion> {
        let environment = work.plan().environment()?;
        let described = environment.description();
        let action_names = match &described.actions {
            ActionSpace::Discrete { names } => names.clone(),
            // Scores of discrete actions are stored as numbers; the actions' names are those of the environment.
            ActionSpace::Continuous { .. } => {
                let world =
                    environments::make_environment(&work.environment, None).map_err(training::TrainingError::from)?;
                match &world.description().actions {
                    ActionSpace::Discrete { names } => names.clone(),
                    ActionSpace::Continuous { .. } => Vec::new(),
                }
            }
        };
        let curve = self.record.points.iter();
        let training = json!({
            "run_id": self.run.id,
            "environment": work.environment,
            "parameters": work.parameters,
            "algorithm": work.algorithm,
            "settings": work.settings,
            "steps": steps,
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
