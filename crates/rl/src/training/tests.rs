//! Gates that any right algorithm passes in seconds, and runs that go on from a checkpoint.

use serde_json::{Value, json};
use tch::Device;

use super::{
    checkpoint::tests::{bytes, reread},
    *,
};

fn plan(environment: &str, algorithm: &str, steps: u64, settings: Value) -> TrainingPlan {
    let value =
        json!({"environment": environment, "algorithm": algorithm, "steps": steps, "seed": 3, "settings": settings});
    serde_json::from_value(value).unwrap()
}

/// Small networks: tests run without optimisation.
fn small(algorithm: &str) -> Value {
    match algorithm {
        "ppo" => {
            json!({"environments": 4, "rollout": 32, "batch": 64, "epochs": 8, "learning_rate": 3e-3, "gamma": 0.0,
            "lambda": 0.0, "hidden": [16, 16], "normalize_observations": true})
        }
        "a2c" => json!({"environments": 8, "batch": 40, "learning_rate": 7e-3, "gamma": 0.0, "hidden": [16, 16]}),
        "sac" => json!({"learning_rate": 5e-3, "gamma": 0.0, "batch": 32, "hidden": [16, 16], "temperature": 0.1}),
        _ => json!({"learning_rate": 2e-3, "gamma": 0.0, "steps": 1, "warmup": 64, "every": 2, "batch": 16,
            "target_every": 50, "atoms": 11, "v_min": -1.0, "v_max": 2.0, "hidden": [16, 16], "stream": 16,
            "epsilon_fraction": 0.5}),
    }
}

fn train(plan: &TrainingPlan) -> Box<dyn Trainer> {
    tch::set_num_threads(1);
    let mut trainer = plan.make_trainer(Device::Cpu).unwrap();
    while trainer.steps() < plan.steps {
        trainer.advance().unwrap();
    }
    trainer
}

/// The mean return of the policy after training, at whose best it is `best`.
fn gate(environment: &str, algorithm: &str, steps: u64, wanted: f64) {
    let plan = plan(environment, algorithm, steps, small(algorithm));
    let trainer = train(&plan);
    let evaluated = evaluate_trainer(trainer.as_ref(), &mut plan.environments(4).unwrap(), 20, 1).unwrap();
    assert!(evaluated.mean >= wanted, "{algorithm} reaches {evaluated:?}, not {wanted}");
    assert!(evaluated.episodes == 20 && evaluated.length == 32.0);
}

#[test]
fn ppo_finds_the_answer() {
    gate("identity-discrete", "ppo", 4096, 31.0);
}

#[test]
fn a2c_finds_the_answer() {
    gate("identity-discrete", "a2c", 6000, 31.0);
}

#[test]
fn rainbow_finds_the_answer() {
    gate("identity-discrete", "rainbow_dqn", 1500, 31.0);
}

#[test]
fn dqn_finds_the_answer() {
    gate("identity-discrete", "dqn", 2000, 31.0);
}

#[test]
fn sac_finds_the_answer() {
    // A random action loses 4/3 a step, 43 in an episode.
    gate("identity-continuous", "sac", 1200, -1.5);
}

/// One run goes through, another stops after each few advances and goes on from its checkpoint in a new trainer.
#[track_caller]
fn goes_on(environment: &str, algorithm: &str, advances: usize, settings: Value) {
    tch::set_num_threads(1);
    let plan = plan(environment, algorithm, 5000, settings);
    let new = || plan.make_trainer(Device::Cpu).unwrap();
    let (mut through, mut stopped) = (new(), new());
    for advance in 0..advances {
        let (one, other) = (through.advance().unwrap(), stopped.advance().unwrap());
        assert_eq!(one, other, "advance {advance}");
        if advance % 3 == 2 {
            let kept = reread(&stopped.save().unwrap());
            stopped = new();
            stopped.restore(kept).unwrap();
        }
    }
    assert_eq!(through.weights().unwrap(), stopped.weights().unwrap());
    assert_eq!(bytes(&through.save().unwrap()), bytes(&stopped.save().unwrap()));
    let other = TrainingPlan { seed: plan.seed + 1, ..plan.clone() };
    let mut other = other.make_trainer(Device::Cpu).unwrap();
    (0..advances).for_each(|_| drop(other.advance().unwrap()));
    assert_ne!(through.weights().unwrap(), other.weights().unwrap(), "another seed is another run");
}

#[test]
fn ppo_goes_on_to_the_bit() {
    let settings =
        json!({"environments": 3, "rollout": 40, "batch": 50, "hidden": [8, 8], "normalize_observations": true});
    goes_on("CartPole-v1", "ppo", 10, settings);
}

#[test]
fn rainbow_goes_on_to_the_bit() {
    let settings = json!({"warmup": 100, "batch": 8, "hidden": [8, 8], "stream": 8, "target_every": 30, "replay": 1000,
        "every": 4});
    goes_on("CartPole-v1", "rainbow_dqn", 20, settings);
}

#[test]
fn sac_goes_on_to_the_bit() {
    goes_on("Pendulum-v1", "sac", 12, json!({"hidden": [8, 8], "batch": 8}));
}

#[test]
fn large_products_go_on_to_the_bit() {
    goes_on("Pendulum-v1", "sac", 4, json!({"warmup": 40, "batch": 256, "hidden": [192, 192]}));
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let ppo = plan("CartPole-v1", "ppo", 100, json!({"hidden": [8, 8]})).make_trainer(Device::Cpu).unwrap();
    let refusal = |environment: &str, algorithm: &str, settings: Value| {
        let mut other = plan(environment, algorithm, 5000, settings).make_trainer(Device::Cpu).unwrap();
        other.restore(ppo.save().unwrap()).unwrap_err().to_string()
    };
    assert_eq!(refusal("CartPole-v1", "rainbow_dqn", json!({})), "the checkpoint: 'online' is missing");
    let wrong = refusal("CartPole-v1", "ppo", json!({"hidden": [8, 9]}));
    assert_eq!(wrong, "the checkpoint: 'parameters' has 251 numbers, not 272");
    assert!(
        refusal("CartPole-v1", "ppo", json!({"hidden": [8, 8], "environments": 2})).contains("2 such environments")
    );
}

/// Numbers at and beyond the ends of what 32 and 64 bits hold, and a few of use.
#[rustfmt::skip]
const EXTREMES: [f64; 26] = [
    0.0, -1.0, 5e-324, 1e-300, 1e-45, 1e-38, 1e-30, 1e-12, 1e-9, 1e-3, 0.5, 1.0, 1.000_000_000_1, 2.0, 10.0, 100.0, -50.0,
    1e6, 1e9, -1e9, 1e19, 1e38, 1e39, -1e39, 1e308, -1e308,
];
/// Settings that hold real numbers, by algorithm.
#[rustfmt::skip]
const REALS: [(&str, &[&str]); 3] = [
    ("ppo", &["learning_rate", "gamma", "lambda", "clip", "entropy", "critic", "gradient", "kl", "reward_scale"]),
    (
        "rainbow_dqn",
        &["learning_rate", "gamma", "noise", "v_min", "v_max", "priority", "importance", "epsilon", "epsilon_fraction",
            "gradient", "reward_scale"],
    ),
    ("sac", &["learning_rate", "gamma", "tau", "target_entropy", "temperature", "reward_scale"]),
];

/// Trains with these settings: a refusal must name a setting, and no figure and no weight may be infinite or undefined.
#[track_caller]
fn refused_or_finite(algorithm: &str, changed: &serde_json::Map<String, Value>) {
    let mut settings = match algorithm {
        "ppo" => json!({"environments": 2, "rollout": 16, "batch": 16, "hidden": [4, 4]}),
        "sac" => json!({"batch": 8, "warmup": 8, "hidden": [4, 4]}),
        _ => json!({"batch": 8, "warmup": 8, "hidden": [4, 4], "stream": 4, "atoms": 51}),
    };
    changed.iter().for_each(|(name, value)| settings[name] = value.clone());
    let environment = if algorithm == "sac" { "Pendulum-v1" } else { "CartPole-v1" };
    let plan = plan(environment, algorithm, 160, settings);
    let mut trainer = match (plan.check(), plan.make_trainer(Device::Cpu)) {
        (Ok(()), Ok(trainer)) => trainer,
        // Of the two ends of a range, the upper one is named.
        (Err(TrainingError::Setting { name, .. }), Err(_)) if changed.contains_key(name) || name == "v_max" => return,
        (checked, made) => panic!("{algorithm} {changed:?}: {checked:?}, {:?}", made.err()),
    };
    while trainer.steps() < plan.steps {
        match trainer.advance() {
            Ok(progress) => {
                let all = progress.measures.iter().all(|(_, value)| value.is_finite());
                assert!(all, "{algorithm} {changed:?}: {:?}", progress.measures);
            }
            // Steps that are far too large diverge, and say so.
            Err(TrainingError::Diverged { .. }) => return,
            Err(error) => panic!("{algorithm} {changed:?}: {error}"),
        }
    }
    assert!(trainer.weights().is_ok(), "{algorithm} {changed:?}: weights are not finite");
}

#[test]
fn each_extreme_setting_is_refused_or_trains() {
    tch::set_num_threads(1);
    for (algorithm, names) in REALS {
        for name in names {
            for value in EXTREMES {
                refused_or_finite(algorithm, &serde_json::Map::from_iter([((*name).to_owned(), json!(value))]));
            }
        }
    }
    let near = [("v_min".to_owned(), json!(1)), ("v_max".to_owned(), json!(1.000_000_000_1))];
    refused_or_finite("rainbow_dqn", &near.into_iter().collect());
}

#[test]
fn any_extreme_settings_together_are_refused_or_train() {
    use rand::SeedableRng;
    tch::set_num_threads(1);
    let mut generator = sampling::TrainingRng::seed_from_u64(11);
    for (algorithm, names) in REALS {
        for _ in 0..400 {
            let mut changed = serde_json::Map::new();
            for _ in 0..3 {
                let name = names[sampling::sample_below(&mut generator, names.len())];
                let value = EXTREMES[sampling::sample_below(&mut generator, EXTREMES.len())];
                changed.insert(name.to_owned(), json!(value));
            }
            refused_or_finite(algorithm, &changed);
        }
    }
}

#[test]
fn a_distribution_that_is_too_narrow_is_measured() {
    // CartPole's rewards of 1 sum to 100; with the return at 1 at most nearly all that is learned is cut off.
    let clipped = |v_max: f64| {
        let settings = json!({"warmup": 64, "batch": 16, "hidden": [8, 8], "stream": 8, "v_min": 0, "v_max": v_max,
            "learning_rate": 1e-2, "target_every": 20});
        let plan = plan("CartPole-v1", "rainbow_dqn", 600, settings);
        tch::set_num_threads(1);
        let mut trainer = plan.make_trainer(Device::Cpu).unwrap();
        let mut last = None;
        while trainer.steps() < plan.steps {
            let progress = trainer.advance().unwrap();
            last = progress.measures.iter().find(|(name, _)| *name == "clipped_mass").map(|(_, mass)| *mass).or(last);
        }
        last.unwrap()
    };
    let (narrow, wide) = (clipped(1.0), clipped(100.0));
    assert!(narrow > 0.5 && wide < 0.1, "{narrow} and {wide}");
}
