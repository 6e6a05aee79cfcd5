//! Evaluation of policies: returns of whole episodes, and the exact expected return where the environment allows it.

use serde::{Deserialize, Serialize};

use crate::{
    environments::{ActionSpace, EnvironmentDescription, ReferenceReturns},
    error::RlError,
    network::{NetworkAction, PolicyActions, PolicyNetwork, PolicySpec},
    training::{Algorithm, ChosenActions, EpisodeStats, GreedyPolicy, TrainingError, TrainingPlan, evaluate_episodes},
};

/// Evaluation of a version.
#[derive(Clone, Debug)]
pub struct VersionEvaluation {
    /// Policy and version, `name@version`.
    pub policy: String,
    /// Name of the environment.
    pub environment: String,
    /// Results of the evaluation.
    pub scores: EvaluationScores,
}

/// Maximum number of environments stepped together.
const MAX_PARALLEL_ENVIRONMENTS: usize = 8;

/// Results of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvaluationScores)]
pub struct EvaluationScores {
    /// Returns of whole episodes.
    #[serde(flatten)]
    pub episodes: EpisodeStats,
    /// Exact expected return per episode, computed from the environment's model; null where the model does not allow
    /// it.
    pub expected_return: Option<f64>,
    /// Expected returns of simple policies in the same environment; null where they cannot be computed.
    pub reference: Option<ReferenceReturns>,
    /// `expected_return` divided by the optimum; null when either is unknown or the optimum is not positive.
    pub share_of_optimum: Option<f64>,
}

/// Evaluate the policy `greedy` in the environments of `plan`, over `count` episodes started with `seed`.
///
/// # Errors
/// When `greedy` fails, or the environments refuse its actions.
pub fn score_policy(
    greedy: &GreedyPolicy<'_>,
    plan: &TrainingPlan,
    count: usize,
    seed: u64,
) -> Result<EvaluationScores, TrainingError> {
    // Every environment contributes the same number of episodes, rounded so that the sum is `count`.
    let together = (1..=MAX_PARALLEL_ENVIRONMENTS).rev().find(|together| count.is_multiple_of(*together)).unwrap_or(1);
    let mut environments = plan.environments(together)?;
    let actions = environments.description().actions.clone();
    let evaluated = evaluate_episodes(greedy, &mut environments, count, seed)?;
    // Of an environment in another process only episodes are known.
    let Some(one) = plan.environment()? else {
        return Ok(EvaluationScores {
            episodes: evaluated,
            expected_return: None,
            reference: None,
            share_of_optimum: None,
        });
    };
    let mut failed = None;
    let expected_return = one.expected_return(&mut |observations| {
        let mut chosen = ChosenActions::Discrete(Vec::new());
        match greedy(observations, &mut chosen) {
            Ok(()) => action_rows(&chosen, &actions),
            Err(error) => {
                failed = Some(error);
                Vec::new()
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let reference = one.reference();
    let optimum = reference.as_ref().map(|reference| reference.optimum).filter(|optimum| *optimum > 0.0);
    let share_of_optimum = expected_return.zip(optimum).map(|(expected, optimum)| expected / optimum);
    Ok(EvaluationScores { episodes: evaluated, expected_return, reference, share_of_optimum })
}

/// Return a row per state: probabilities of the discrete actions, or the continuous action.
fn action_rows(chosen: &ChosenActions, space: &ActionSpace) -> Vec<f64> {
    match (chosen, space) {
        (ChosenActions::Discrete(all), ActionSpace::Discrete { names }) => {
            let row = |action: &i64| {
                let action = *action;
                (0..names.len() as i64).map(move |index| f64::from(index == action))
            };
            all.iter().flat_map(row).collect()
        }
        (ChosenActions::Continuous(all), _) => all.iter().copied().map(f64::from).collect(),
        (ChosenActions::Discrete(_), ActionSpace::Continuous { .. }) => Vec::new(),
    }
}

/// Evaluate a stored version in the environment of `plan`, whose algorithm takes the environment's own actions.
///
/// # Errors
/// [`RlError::Invalid`] when no environment has that name, or its states or actions differ from the version's.
pub fn score_weights(
    weights: &[u8],
    plan: &TrainingPlan,
    count: usize,
    seed: u64,
) -> Result<EvaluationScores, RlError> {
    // Threads inside an operation cost small networks more than they save, and the other cores serve requests.
    tch::set_num_threads(1);
    let mut network = PolicyNetwork::from_safetensors(weights)?;
    let plan = TrainingPlan { algorithm: Algorithm::Ppo, ..plan.clone() };
    let described = plan.world().map_err(RlError::from_plan_error)?;
    check_shapes(&described, network.form()).map_err(|why| RlError::invalid("environment", why))?;
    network.settle().map_err(TrainingError::from)?;
    let greedy = |observations: &[f32], chosen: &mut ChosenActions| {
        let evaluations = network.evaluate(observations, true)?;
        let (mut indices, mut numbers) = (Vec::new(), Vec::new());
        for evaluation in &evaluations {
            match network.form().greedy(evaluation) {
                NetworkAction::Discrete(index) => indices.push(index as i64),
                NetworkAction::Continuous(vector) => numbers.extend(vector),
            }
        }
        *chosen =
            if numbers.is_empty() { ChosenActions::Discrete(indices) } else { ChosenActions::Continuous(numbers) };
        Ok(())
    };
    Ok(score_policy(&greedy, &plan, count, seed)?)
}

fn check_shapes(described: &EnvironmentDescription, form: &PolicySpec) -> Result<(), String> {
    let (name, states) = (&described.name, described.observations.len());
    if states != form.state_length {
        return Err(format!("'{name}' has states of {states} numbers, the policy takes {}", form.state_length));
    }
    let (wanted, has) = match (&described.actions, &form.actions) {
        (ActionSpace::Discrete { names }, PolicyActions::Discrete { count } | PolicyActions::Scores { count }) => {
            (names.len(), *count)
        }
        (ActionSpace::Continuous { low, .. }, PolicyActions::Continuous { low: other, .. }) => (low.len(), other.len()),
        (ActionSpace::Discrete { .. }, _) => return Err(format!("'{name}' takes discrete actions")),
        (ActionSpace::Continuous { .. }, _) => return Err(format!("'{name}' takes continuous actions")),
    };
    match wanted == has {
        true => Ok(()),
        false => Err(format!("'{name}' has {wanted} actions, the policy {has}")),
    }
}
