//! Choice of an action from a network's outputs.

use rand::{Rng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, StandardNormal};

use super::policy_catalog::ServedVersion;
use crate::{
    model::{ActError, PolicyAction, PolicyDecision},
    network::{NetworkAction as Taken, NetworkOutput},
};

/// Random generator for drawn actions.
pub(super) type SamplingRng = Xoshiro256PlusPlus;

/// Choose an action for `version`: greedily when `draw` is `None`, else drawn with that generator.
///
/// PPO draws from its probabilities. SAC draws from its Gaussian, squashed by tanh and scaled to the action's bounds
/// where the policy was trained so (Haarnoja et al. 2018, arXiv:1812.05905, appendix C), otherwise clamped to the
/// bounds.
pub(super) fn select_action(
    version: &ServedVersion,
    evaluation: &NetworkOutput,
    draw: Option<&mut SamplingRng>,
) -> Result<PolicyDecision, ActError> {
    if !evaluation.is_finite() {
        return Err(ActError::Overflow);
    }
    let taken = match (draw, evaluation) {
        (None, _) => version.form.greedy(evaluation),
        (Some(generator), NetworkOutput::Probabilities { probabilities, .. }) => {
            Taken::Discrete(sample_categorical(probabilities, generator))
        }
        (Some(generator), NetworkOutput::Gaussian { mean, std, .. }) => {
            let drawn: Vec<f32> =
                mean.iter().zip(std).map(|(mean, std)| mean + std * sample_normal(generator)).collect();
            version.form.actions.gaussian_action(&drawn)
        }
        (Some(_), NetworkOutput::Values { .. }) => return Err(ActError::NoDistribution(version.reference.clone())),
    };
    let (action, action_name) = match taken {
        Taken::Discrete(index) => (PolicyAction::Index(index), Some(version.action_name(index))),
        Taken::Continuous(vector) => (PolicyAction::Vector(widen_to_f64(&vector)), None),
    };
    let mut decision = PolicyDecision {
        policy: version.reference.clone(),
        action,
        action_name,
        probabilities: None,
        mean: None,
        std: None,
        q_values: None,
        value: f64::from(evaluation.state_value()),
    };
    match evaluation {
        NetworkOutput::Probabilities { probabilities, .. } => {
            decision.probabilities = Some(widen_to_f64(probabilities))
        }
        NetworkOutput::Values { q } => decision.q_values = Some(widen_to_f64(q)),
        NetworkOutput::Gaussian { mean, std, .. } => {
            (decision.mean, decision.std) = (Some(widen_to_f64(mean)), Some(widen_to_f64(std)))
        }
    }
    Ok(decision)
}

fn widen_to_f64(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().copied().map(f64::from).collect()
}

fn sample_normal(generator: &mut SamplingRng) -> f32 {
    StandardNormal.sample(generator)
}

fn sample_categorical(probabilities: &[f32], generator: &mut SamplingRng) -> usize {
    // 53 random bits give a number in [0, 1).
    let mut left = (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    for (index, probability) in probabilities.iter().enumerate() {
        left -= f64::from(*probability);
        if left < 0.0 {
            return index;
        }
    }
    // Rounding can leave the sum of the probabilities just under 1 and the draw above it.
    probabilities.iter().rposition(|probability| *probability > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::network::{PolicyActions, PolicySpec};

    fn sample_version(actions: PolicyActions) -> ServedVersion {
        let form = PolicySpec {
            algorithm: "ppo".into(),
            state_length: 1,
            actions,
            hidden: vec![],
            atoms: None,
            parameters: 0,
            normalized: false,
        };
        let action_names = vec!["up".into(), "down".into()];
        ServedVersion {
            reference: "p@7".into(),
            name: "p".into(),
            version: 7,
            sha256: String::new(),
            form,
            action_names,
            state_names: vec![],
        }
    }

    #[test]
    fn a_distribution_is_sampled_as_often_as_it_says() {
        let version = sample_version(PolicyActions::Discrete { count: 3 });
        let says = || NetworkOutput::Probabilities { probabilities: vec![0.2, 0.5, 0.3], value: 2.0 };
        let greedy = select_action(&version, &says(), None).unwrap();
        assert_eq!((greedy.action, greedy.action_name.as_deref()), (PolicyAction::Index(1), Some("down")));
        assert_eq!((greedy.policy.as_str(), greedy.value), ("p@7", 2.0));
        let mut generator = SamplingRng::seed_from_u64(5);
        let (mut counts, draws) = ([0usize; 3], 20_000);
        for _ in 0..draws {
            let PolicyAction::Index(index) = select_action(&version, &says(), Some(&mut generator)).unwrap().action
            else {
                panic!()
            };
            counts[index] += 1;
        }
        for (count, share) in counts.into_iter().zip([0.2, 0.5, 0.3]) {
            assert!((count as f64 / f64::from(draws) - share).abs() < 0.015, "{counts:?}");
        }
        let third = NetworkOutput::Probabilities { probabilities: vec![0.0, 0.0, 1.0], value: 0.0 };
        assert_eq!(select_action(&version, &third, None).unwrap().action_name.as_deref(), Some("action_2"));
    }

    #[test]
    fn a_gaussian_is_squashed_or_clamped() {
        let says = || NetworkOutput::Gaussian { mean: vec![0.5, -9.0], std: vec![0.1, 0.1], value: -3.0 };
        let bounds = |squashed| PolicyActions::Continuous { low: vec![-2.0, 0.0], high: vec![2.0, 1.0], squashed };
        let squashed = select_action(&sample_version(bounds(true)), &says(), None).unwrap();
        let PolicyAction::Vector(action) = squashed.action else { panic!() };
        assert!((action[0] - 2.0 * 0.5f64.tanh()).abs() < 1e-6 && action[1].abs() < 1e-6);
        assert_eq!((squashed.action_name, squashed.mean, squashed.value), (None, Some(vec![0.5, -9.0]), -3.0));
        let clamped = select_action(&sample_version(bounds(false)), &says(), None).unwrap();
        assert_eq!(clamped.action, PolicyAction::Vector(vec![0.5, 0.0]));
        let drawn = |seed| {
            let mut generator = SamplingRng::seed_from_u64(seed);
            select_action(&sample_version(bounds(true)), &says(), Some(&mut generator)).unwrap().action
        };
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        let scores = select_action(&sample_version(PolicyActions::Scores { count: 2 }), &says(), None).unwrap();
        assert_eq!((scores.action, scores.action_name.as_deref()), (PolicyAction::Index(0), Some("up")));
    }

    #[test]
    fn what_is_worth_something_is_not_sampled() {
        let version = sample_version(PolicyActions::Discrete { count: 2 });
        let says = || NetworkOutput::Values { q: vec![1.0, 1.0] };
        let decision = select_action(&version, &says(), None).unwrap();
        assert_eq!(
            (decision.action, decision.q_values, decision.value),
            (PolicyAction::Index(0), Some(vec![1.0, 1.0]), 1.0)
        );
        let mut generator = SamplingRng::seed_from_u64(1);
        let refused = select_action(&version, &says(), Some(&mut generator));
        assert_eq!(refused, Err(ActError::NoDistribution("p@7".into())));
        let overflown = NetworkOutput::Values { q: vec![f32::NAN, 1.0] };
        assert_eq!(select_action(&version, &overflown, None), Err(ActError::Overflow));
    }
}
