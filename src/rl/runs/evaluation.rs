//! What a policy reaches: whole episodes, and where an environment's laws allow it, the exact expectation.

use serde::{Deserialize, Serialize};

use crate::rl::{
    environments::{ActionSpace, Reference},
    training::{Chosen, Error, Evaluated, Greedy, Plan, episodes},
};

/// Environments that are stepped together.
const TOGETHER: usize = 8;

/// What a policy reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Returns of whole episodes.
    #[serde(flatten)]
    pub episodes: Evaluated,
    /// The return that can be expected of an episode, computed and not sampled; none: the environment's laws don't allow it.
    pub expected_return: Option<f64>,
    /// What other policies can expect there.
    pub reference: Option<Reference>,
    /// `expected_return` as a share of the optimum's; none: there is none, or the optimum is not positive.
    pub share_of_optimum: Option<f64>,
}

/// What something that acts by `greedy` reaches in the environments of `plan`, in `count` episodes begun with `seed`.
///
/// # Errors
/// When `greedy` fails, or the environments refuse its actions.
pub fn score(
    greedy: &Greedy<'_>,
    plan: &Plan,
    count: usize,
    seed: u64,
) -> Result<Scores, Error> {
    let mut environments = plan.environments(count.clamp(1, TOGETHER))?;
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

/// Probabilities of discrete actions, or the actions themselves.
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
