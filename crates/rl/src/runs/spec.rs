//! What a training run is asked to do, checked and with every default filled in.

use super::{MAX_EPISODES, model::TrainingSpec};
use crate::{
    environments::EnvironmentSource,
    error::{Result, RlError},
    library::check_aliases,
};
use am_core::validation::Violations;

/// Most evaluations during a run.
const MAX_EVALUATIONS: u32 = 100;
/// Fewest episodes of which an interval is made.
const MIN_GATE_EPISODES: usize = 10;

/// Validate the settings of training in a built-in environment and fill in every default.
///
/// # Errors
/// [`RlError::Invalid`] with the reason.
pub fn validate_spec(work: TrainingSpec) -> Result<TrainingSpec> {
    validate_spec_in(work, EnvironmentSource::BuiltIn)
}

/// Validate the settings of training in an environment from `source` and fill in every default.
///
/// # Errors
/// [`RlError::Invalid`] with the reason.
pub fn validate_spec_in(work: TrainingSpec, source: EnvironmentSource) -> Result<TrainingSpec> {
    let mut violations = Violations::default();
    violations.require_within(Some(work.evaluation_episodes), &(1..=MAX_EPISODES), "evaluation_episodes");
    violations.require_within(Some(work.evaluations), &(0..=MAX_EVALUATIONS), "evaluations");
    if work.promote_if.is_some() {
        let enough = work.evaluation_episodes >= MIN_GATE_EPISODES;
        violations.require(enough, "evaluation_episodes", "must be 10 or more with promote_if");
        violations.require(!work.aliases.is_empty(), "promote_if", "needs aliases");
    }
    let limited = work.max_seconds.is_none_or(|seconds| seconds > 0.0 && seconds.is_finite());
    violations.require(limited, "max_seconds", "must be more than 0");
    violations.take(check_aliases("aliases", &work.aliases));
    let plan = work.plan(source).whole().and_then(|plan| plan.check().map(|()| plan)).map_err(RlError::from_plan_error);
    let plan = match plan {
        Err(RlError::Invalid(found)) => violations.take(Err(found)),
        other => Some(other?),
    };
    let plan = violations.finish_with(plan)?;
    Ok(TrainingSpec { settings: plan.settings, ..work })
}

/// Return the default policy name of a run: `<environment>-<algorithm>`, such as `cartpole-v1-ppo`.
pub fn default_policy_name(work: &TrainingSpec) -> String {
    let environment = work.environment.split('@').next().unwrap_or_default().to_lowercase();
    format!("{environment}-{}", String::from(work.algorithm).replace('_', "-"))
}
