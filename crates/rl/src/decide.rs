//! Choice of an action from a network's outputs.

use rand::{Rng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, StandardNormal};

use super::{
    model::{Act, ActError, Decision},
    network::{Act as Taken, Evaluation},
    serving::Version,
};

/// Random generator for drawn actions.
pub(super) type Generator = Xoshiro256PlusPlus;

/// Return the estimated value of a state; for Q-values the highest.
pub(super) fn value_of(evaluation: &Evaluation) -> f32 {
    match evaluation {
        Evaluation::Probabilities { value, .. } | Evaluation::Gaussian { value, .. } => *value,
        Evaluation::Values { q } => q.iter().copied().fold(f32::NEG_INFINITY, f32::max),
    }
}

/// Choose an action for `version`: greedily when `draw` is `None`, else drawn with that generator.
///
/// PPO draws from its probabilities. SAC draws from its Gaussian, squashed by tanh and scaled to the action's bounds
/// where the policy was trained so (Haarnoja et al. 2018, arXiv:1812.05905, appendix C), otherwise clamped to the
/// bounds.
pub(super) fn decide(
    version: &Version,
    evaluation: &Evaluation,
    draw: Option<&mut Generator>,
) -> Result<Decision, ActError> {
    if !evaluation.is_finite() {
        return Err(ActError::Overflow);
    }
    let taken = match (draw, evaluation) {
        (None, _) => version.form.greedy(evaluation),
        (Some(generator), Evaluation::Probabilities { probabilities, .. }) => {
            Taken::Discrete(categorical(probabilities, generator))
        }
        (Some(generator), Evaluation::Gaussian { mean, std, .. }) => {
            let drawn: Vec<f32> = mean.iter().zip(std).map(|(mean, std)| mean + std * normal(generator)).collect();
            version.form.actions.of_gaussian(&drawn)
        }
        (Some(_), Evaluation::Values { .. }) => return Err(ActError::NoDistribution(version.reference.clone())),
    };
    let (action, action_name) = match taken {
        Taken::Discrete(index) => (Act::Index(index), Some(version.action_name(index))),
        Taken::Continuous(vector) => (Act::Vector(wide(&vector)), None),
    };
    let mut decision = Decision {
        policy: version.reference.clone(),
        action,
        action_name,
        probabilities: None,
        mean: None,
        std: None,
        q_values: None,
        value: f64::from(value_of(evaluation)),
    };
    match evaluation {
        Evaluation::Probabilities { probabilities, .. } => decision.probabilities = Some(wide(probabilities)),
        Evaluation::Values { q } => decision.q_values = Some(wide(q)),
        Evaluation::Gaussian { mean, std, .. } => (decision.mean, decision.std) = (Some(wide(mean)), Some(wide(std))),
    }
    Ok(decision)
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().copied().map(f64::from).collect()
}

fn normal(generator: &mut Generator) -> f32 {
    StandardNormal.sample(generator)
}

fn categorical(probabilities: &[f32], generator: &mut Generator) -> usize {
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
    use crate::network::{Actions, Form};

    fn version(actions: Actions) -> Version {
        let form = Form {
            algorithm: "ppo".into(),
            state_length: 1,
            actions,
            hidden: vec![],
            atoms: None,
            parameters: 0,
            normalized: false,
        };
        let action_names = vec!["up".into(), "down".into()];
        Version {
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
        let version = version(Actions::Discrete { count: 3 });
        let says = || Evaluation::Probabilities { probabilities: vec![0.2, 0.5, 0.3], value: 2.0 };
        let greedy = decide(&version, &says(), None).unwrap();
        assert_eq!((greedy.action, greedy.action_name.as_deref()), (Act::Index(1), Some("down")));
        assert_eq!((greedy.policy.as_str(), greedy.value), ("p@7", 2.0));
        let mut generator = Generator::seed_from_u64(5);
        let (mut counts, draws) = ([0usize; 3], 20_000);
        for _ in 0..draws {
            let Act::Index(index) = decide(&version, &says(), Some(&mut generator)).unwrap().action else { panic!() };
            counts[index] += 1;
        }
        for (count, share) in counts.into_iter().zip([0.2, 0.5, 0.3]) {
            assert!((count as f64 / f64::from(draws) - share).abs() < 0.015, "{counts:?}");
        }
        let third = Evaluation::Probabilities { probabilities: vec![0.0, 0.0, 1.0], value: 0.0 };
        assert_eq!(decide(&version, &third, None).unwrap().action_name.as_deref(), Some("action_2"));
    }

    #[test]
    fn a_gaussian_is_squashed_or_clamped() {
        let says = || Evaluation::Gaussian { mean: vec![0.5, -9.0], std: vec![0.1, 0.1], value: -3.0 };
        let bounds = |squashed| Actions::Continuous { low: vec![-2.0, 0.0], high: vec![2.0, 1.0], squashed };
        let squashed = decide(&version(bounds(true)), &says(), None).unwrap();
        let Act::Vector(action) = squashed.action else { panic!() };
        assert!((action[0] - 2.0 * 0.5f64.tanh()).abs() < 1e-6 && action[1].abs() < 1e-6);
        assert_eq!((squashed.action_name, squashed.mean, squashed.value), (None, Some(vec![0.5, -9.0]), -3.0));
        let clamped = decide(&version(bounds(false)), &says(), None).unwrap();
        assert_eq!(clamped.action, Act::Vector(vec![0.5, 0.0]));
        let drawn = |seed| {
            let mut generator = Generator::seed_from_u64(seed);
            decide(&version(bounds(true)), &says(), Some(&mut generator)).unwrap().action
        };
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        let scores = decide(&version(Actions::Scores { count: 2 }), &says(), None).unwrap();
        assert_eq!((scores.action, scores.action_name.as_deref()), (Act::Index(0), Some("up")));
    }

    #[test]
    fn what_is_worth_something_is_not_sampled() {
        let version = version(Actions::Discrete { count: 2 });
        let says = || Evaluation::Values { q: vec![1.0, 1.0] };
        let decision = decide(&version, &says(), None).unwrap();
        assert_eq!((decision.action, decision.q_values, decision.value), (Act::Index(0), Some(vec![1.0, 1.0]), 1.0));
        let mut generator = Generator::seed_from_u64(1);
        let refused = decide(&version, &says(), Some(&mut generator));
        assert_eq!(refused, Err(ActError::NoDistribution("p@7".into())));
        let overflown = Evaluation::Values { q: vec![f32::NAN, 1.0] };
        assert_eq!(decide(&version, &overflown, None), Err(ActError::Overflow));
    }
}
