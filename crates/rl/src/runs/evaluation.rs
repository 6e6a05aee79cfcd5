//! Evaluation of policies: returns of whole episodes, and the exact expected return where the environment allows it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    environments::{ActionSpace, Description, Reference},
    error::{Error as RoomError, Result as RoomResult},
    network::{Act, Actions, Form, Network},
    training::{Algorithm, Chosen, Error, Evaluated, Greedy, Plan, episodes},
};

/// Maximum number of environments stepped together.
const TOGETHER: usize = 8;

/// Results of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvaluationScores)]
pub struct Scores {
    /// Returns of whole episodes.
    #[serde(flatten)]
    pub episodes: Evaluated,
    /// Exact expected return per episode, computed from the environment's model; null where the model does not allow
    /// it.
    pub expected_return: Option<f64>,
    /// Expected returns of simple policies in the same environment; null where they cannot be computed.
    pub reference: Option<Reference>,
    /// `expected_return` divided by the optimum; null when either is unknown or the optimum is not positive.
    pub share_of_optimum: Option<f64>,
}

/// Evaluate the policy `greedy` in the environments of `plan`, over `count` episodes started with `seed`.
///
/// # Errors
/// When `greedy` fails, or the environments refuse its actions.
pub fn score(greedy: &Greedy<'_>, plan: &Plan, count: usize, seed: u64) -> Result<Scores, Error> {
    // Every environment contributes the same number of episodes, rounded so that the sum is `count`.
    let together = (1..=TOGETHER).rev().find(|together| count.is_multiple_of(*together)).unwrap_or(1);
    let mut environments = plan.environments(together)?;
    let actions = environments.description().actions.clone();
    let evaluated = episodes(greedy, &mut environments, count, seed)?;
    let one = plan.environment()?;
    let mut failed = None;
    let expected_return = one.expected_return(&mut |observations| {
        let mut chosen = Chosen::Discrete(Vec::new());
        match greedy(observations, &mut chosen) {
            Ok(()) => rows(&chosen, &actions),
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
    Ok(Scores { episodes: evaluated, expected_return, reference, share_of_optimum })
}

/// Return a row per state: probabilities of the discrete actions, or the continuous action.
fn rows(chosen: &Chosen, space: &ActionSpace) -> Vec<f64> {
    match (chosen, space) {
        (Chosen::Discrete(all), ActionSpace::Discrete { names }) => {
            let row = |action: &i64| {
                let action = *action;
                (0..names.len() as i64).map(move |index| f64::from(index == action))
            };
            all.iter().flat_map(row).collect()
        }
        (Chosen::Continuous(all), _) => all.iter().copied().map(f64::from).collect(),
        (Chosen::Discrete(_), ActionSpace::Continuous { .. }) => Vec::new(),
    }
}

/// Evaluate a stored version in the environment called `environment`.
///
/// # Errors
/// [`RoomError::Invalid`] when no environment has that name, or its states or actions differ from the version's.
pub fn score_weights(
    weights: &[u8],
    environment: String,
    parameters: Option<Value>,
    count: usize,
    seed: u64,
) -> RoomResult<Scores> {
    // Threads inside an operation cost small networks more than they save, and the other cores serve requests.
    tch::set_num_threads(1);
    let mut network = Network::from_safetensors(weights)?;
    // The plan's algorithm only determines the form of actions: index or numbers.
    let plan = Plan { environment, parameters, algorithm: Algorithm::Ppo, settings: None, steps: 1, seed };
    let described = plan.environment().map_err(RoomError::of_plan)?.description().clone();
    fits(&described, network.form()).map_err(|why| RoomError::invalid("environment", why))?;
    network.settle().map_err(Error::from)?;
    let greedy = |observations: &[f32], chosen: &mut Chosen| {
        let evaluations = network.evaluate(observations, true)?;
        let (mut indices, mut numbers) = (Vec::new(), Vec::new());
        for evaluation in &evaluations {
            match network.form().greedy(evaluation) {
                Act::Discrete(index) => indices.push(index as i64),
                Act::Continuous(vector) => numbers.extend(vector),
            }
        }
        *chosen = if numbers.is_empty() { Chosen::Discrete(indices) } else { Chosen::Continuous(numbers) };
        Ok(())
    };
    Ok(score(&greedy, &plan, count, seed)?)
}

fn fits(described: &Description, form: &Form) -> Result<(), String> {
    let (name, states) = (&described.name, described.observations.len());
    if states != form.state_length {
        return Err(format!("'{name}' has states of {states} numbers, the policy takes {}", form.state_length));
    }
    let (wanted, has) = match (&described.actions, &form.actions) {
        (ActionSpace::Discrete { names }, Actions::Discrete { count } | Actions::Scores { count }) => {
            (names.len(), *count)
        }
        (ActionSpace::Continuous { low, .. }, Actions::Continuous { low: other, .. }) => (low.len(), other.len()),
        (ActionSpace::Discrete { .. }, _) => return Err(format!("'{name}' takes discrete actions")),
        (ActionSpace::Continuous { .. }, _) => return Err(format!("'{name}' takes continuous actions")),
    };
    match wanted == has {
        true => Ok(()),
        false => Err(format!("'{name}' has {wanted} actions, the policy {has}")),
    }
}
