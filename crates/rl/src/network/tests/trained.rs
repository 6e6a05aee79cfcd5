//! What a trainer writes acts as the trainer does.

use serde_json::{Value, json};
use tch::Device;

use super::*;
use crate::training::{ChosenActions, Trainer, TrainingPlan};

/// A trainer that has learnt a little.
fn trained(environment: &str, algorithm: &str, settings: Value, advances: usize) -> Box<dyn Trainer> {
    let plan =
        json!({"environment": environment, "algorithm": algorithm, "steps": 5000, "seed": 4, "settings": settings});
    let mut trainer = serde_json::from_value::<TrainingPlan>(plan).unwrap().make_trainer(Device::Cpu).unwrap();
    for _ in 0..advances {
        trainer.advance().unwrap();
    }
    trainer
}

/// Compares actions in many states; answers the network.
fn acts_alike(trainer: &dyn Trainer, bound: f32) -> PolicyNetwork {
    let network = PolicyNetwork::from_safetensors(&trainer.weights().unwrap()).unwrap();
    let length = network.form.state_length;
    let states = drawn(17, 200 * length, bound);
    let mut chosen = ChosenActions::Discrete(Vec::new());
    trainer.greedy(&states, &mut chosen).unwrap();
    // Not the same action in each state, so that agreement says something.
    let all_alike = match &chosen {
        ChosenActions::Discrete(all) => all.iter().all(|action| *action == all[0]),
        ChosenActions::Continuous(all) => {
            all.chunks(network.form.actions.count()).all(|action| action == &all[..action.len()])
        }
    };
    assert!(!all_alike, "{:?}", network.form);
    for exact in [true, false] {
        let evaluations = network.evaluate(&states, exact).unwrap();
        assert_eq!(evaluations.len(), 200);
        for (row, evaluation) in evaluations.iter().enumerate() {
            match (network.form.greedy(evaluation), &chosen) {
                (NetworkAction::Discrete(action), ChosenActions::Discrete(all)) => {
                    assert_eq!(action as i64, all[row], "state {row}")
                }
                (NetworkAction::Discrete(action), ChosenActions::Continuous(all)) => {
                    let scores = &all[row * network.form.actions.count()..][..network.form.actions.count()];
                    let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    assert_eq!(Some(action), scores.iter().position(|score| *score == best), "state {row}");
                }
                (NetworkAction::Continuous(action), ChosenActions::Continuous(all)) => {
                    let wanted = &all[row * action.len()..][..action.len()];
                    let alike = action.iter().zip(wanted).all(|(one, other)| (one - other).abs() < 1e-5);
                    assert!(alike, "state {row}: {action:?} is not {wanted:?}");
                }
                (act, chosen) => panic!("{act:?} is not {chosen:?}"),
            }
        }
    }
    network
}

#[test]
fn ppo_acts_as_its_trainer() {
    for normalised in [true, false] {
        let settings = json!({"hidden": [16, 12], "rollout": 32, "epochs": 1, "normalize_observations": normalised,
            "learning_rate": 0.0003, "anneal": false});
        let trainer = trained("CartPole-v1", "ppo", settings, 1);
        let network = acts_alike(&*trainer, 20.0);
        assert_eq!((network.form.normalized, &network.form.hidden[..]), (normalised, &[16, 12][..]));
    }
}

#[test]
fn rainbow_and_dqn_act_as_their_trainers() {
    let small = |more: Value| {
        let mut all = json!({"hidden": [32, 24], "stream": 16, "warmup": 48, "learning_rate": 0.0003});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for (algorithm, more, atoms) in [
        ("rainbow_dqn", json!({"v_min": -3.0, "v_max": 20.0, "atoms": 11}), Some(11)),
        ("rainbow_dqn", json!({"dueling": false, "atoms": 9}), Some(9)),
        ("rainbow_dqn", json!({"distributional": false}), None),
        ("dqn", json!({}), None),
    ] {
        let trainer = trained("Acrobot-v1", algorithm, small(more.clone()), 1);
        let network = acts_alike(&*trainer, 20.0);
        assert_eq!((network.form.atoms, &network.form.hidden[..]), (atoms, &[32, 24, 16][..]));
    }
}

#[test]
fn sac_acts_as_its_trainer() {
    let settings = json!({"hidden": [16, 12], "warmup": 32, "batch": 32, "learning_rate": 0.0003});
    let network = acts_alike(&*trained("Pendulum-v1", "sac", settings.clone(), 3), 2.0);
    assert_eq!(network.form.actions, PolicyActions::Continuous { low: vec![-2.0], high: vec![2.0], squashed: true });
    let network = acts_alike(&*trained("price_optimization", "sac", settings, 3), 2.0);
    assert_eq!(network.form.actions, PolicyActions::Scores { count: 4 });
}
