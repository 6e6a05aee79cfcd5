use serde::Deserialize;
use serde_json::{Value, json};

use super::{super::*, acrobot, cart_pole, mountain_car, pendulum};

/// Written by `tests/fixtures/gymnasium/make.py`.
#[derive(Deserialize)]
struct Fixture {
    gymnasium: String,
    environment: String,
    /// Steps from one recorded state to the next.
    every: usize,
    trajectories: Vec<Trajectory>,
}

#[derive(Deserialize)]
struct Trajectory {
    name: String,
    states: Vec<Value>,
    actions: Vec<f64>,
    rewards: Vec<f64>,
    /// One more than there are steps.
    observations: Vec<Vec<f32>>,
    terminated: bool,
    truncated: bool,
}

macro_rules! fixture {
    ($file:literal) => {
        include_str!(concat!("../../../../../tests/fixtures/gymnasium/", $file))
    };
}

fn set(environment: &mut dyn Environment, state: &Value, step: usize) {
    let mut snapshot = environment.snapshot();
    snapshot["state"] = state.clone();
    snapshot["step"] = json!(step);
    environment.restore(&snapshot).unwrap();
}

fn act(environment: &mut dyn Environment, action: f64) -> EnvironmentStep {
    match environment.description().actions {
        ActionSpace::Discrete { .. } => environment.step(EnvironmentAction::Discrete(action as usize)),
        ActionSpace::Continuous { .. } => environment.step(EnvironmentAction::Continuous(&[action as f32])),
    }
}

/// Runs the trajectory and answers the largest difference of an observation or reward.
///
/// Put back to the recorded state after every few steps: CartPole multiplies an error by 40 a second and Acrobot is
/// chaotic, so the last digit of one processor's sine would otherwise grow to any size. (Where the fixtures were made,
/// whole trajectories agree to the last bit.)
fn difference(environment: &mut dyn Environment, trajectory: &Trajectory, every: usize) -> f64 {
    let mut largest = 0f64;
    let mut observation = vec![0f32; environment.description().observations.len()];
    let last = trajectory.actions.len() - 1;
    for (step, action) in trajectory.actions.iter().enumerate() {
        if step % every == 0 {
            set(environment, &trajectory.states[step / every], step);
        }
        environment.observe(&mut observation);
        let differences = observation.iter().zip(&trajectory.observations[step]);
        largest = differences.map(|(ours, theirs)| f64::from((ours - theirs).abs())).fold(largest, f64::max);
        let outcome = act(environment, *action);
        largest = largest.max((outcome.reward - trajectory.rewards[step]).abs());
        let ended = (step == last && trajectory.terminated, step == last && trajectory.truncated);
        assert_eq!((outcome.terminated, outcome.truncated), ended, "{}, step {step}", trajectory.name);
    }
    environment.observe(&mut observation);
    let differences = observation.iter().zip(&trajectory.observations[last + 1]);
    differences.map(|(ours, theirs)| f64::from((ours - theirs).abs())).fold(largest, f64::max)
}

#[track_caller]
fn agrees(mut environment: Box<dyn Environment>, fixture: &str) {
    let fixture: Fixture = serde_json::from_str(fixture).unwrap();
    assert_eq!((fixture.gymnasium.as_str(), &fixture.environment), ("1.2.3", &environment.description().name));
    for trajectory in &fixture.trajectories {
        let largest = difference(environment.as_mut(), trajectory, fixture.every);
        assert!(largest < 1e-6, "{}: {largest:e}", trajectory.name);
    }
    let ends = |terminated| fixture.trajectories.iter().any(|trajectory| trajectory.terminated == terminated);
    assert!(ends(false) && (ends(true) || fixture.environment == "Pendulum-v1"));
}

#[test]
fn cart_pole_agrees_with_gymnasium() {
    agrees(cart_pole(), fixture!("cart_pole.json"));
}

#[test]
fn acrobot_agrees_with_gymnasium() {
    agrees(acrobot(), fixture!("acrobot.json"));
}

#[test]
fn pendulum_agrees_with_gymnasium() {
    agrees(pendulum(), fixture!("pendulum.json"));
}

#[test]
fn mountain_car_agrees_with_gymnasium() {
    agrees(mountain_car(), fixture!("mountain_car.json"));
}

/// The least and the most of each number of the state at the start, over many seeds.
#[track_caller]
fn starts_within(mut environment: Box<dyn Environment>, bounds: &[(f64, f64)]) {
    let mut seen = vec![(f64::INFINITY, f64::NEG_INFINITY); bounds.len()];
    for seed in 0..2000 {
        environment.reset(Some(seed));
        let snapshot = environment.snapshot();
        for (index, (least, most)) in seen.iter_mut().enumerate() {
            let number = snapshot["state"][index].as_f64().unwrap();
            (*least, *most) = (least.min(number), most.max(number));
        }
    }
    for ((least, most), (low, high)) in seen.into_iter().zip(bounds) {
        let near = 0.01 * (high - low);
        assert!((*low..=low + near).contains(&least) && (high - near..=*high).contains(&most), "{least}..{most}");
    }
}

#[test]
fn starts_are_gymnasiums() {
    use std::f64::consts::PI;
    starts_within(cart_pole(), &[(-0.05, 0.05); 4]);
    starts_within(acrobot(), &[(-0.1 - 1e-8, 0.1 + 1e-8); 4]);
    starts_within(pendulum(), &[(-PI, PI), (-1.0, 1.0)]);
    starts_within(mountain_car(), &[(-0.6, -0.4), (0.0, 0.0)]);
}
