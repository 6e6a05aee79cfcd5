//! Finite environments: what is refused, what is solved, and that steps follow the tables.

use std::sync::Arc;

use am_core::validation::join;
use proptest::prelude::*;
use rand::SeedableRng as _;
use serde_json::{Value, json};

use super::*;

/// Three states in a row; `right` may slip, `left` is certain; the last one ends the episode and pays 1.
fn corridor() -> Value {
    json!({
        "states": ["a", "b", "goal"],
        "actions": ["left", "right"],
        "transitions": [
            {"state": "a", "action": "left", "next": "a"},
            {"state": "a", "action": "right", "next": "b", "probability": 0.75},
            {"state": "a", "action": "right", "next": "a", "probability": 0.25},
            {"state": "b", "action": "left", "next": "a"},
            {"state": "b", "action": "right", "next": "goal", "probability": 0.75, "reward": 1},
            {"state": "b", "action": "right", "next": "b", "probability": 0.25},
        ],
        "start": {"a": 1},
        "terminal": ["goal"],
        "discount": 0.9,
        "horizon": 8,
    })
}

fn read(value: Value) -> TabularDefinition {
    serde_json::from_value(value).unwrap()
}

/// The faults of the corridor with this member.
fn faults(member: &str, value: Value) -> String {
    let mut changed = corridor();
    changed[member] = value;
    join(&read(changed).check().err().unwrap_or_default())
}

#[test]
fn each_fault_is_told_with_its_place() {
    assert_eq!(read(corridor()).check(), Ok(()));
    let transition = |member: &str, value: Value| {
        let mut row = corridor()["transitions"][4].clone();
        row[member] = value;
        let mut rows = corridor()["transitions"].clone();
        rows[4] = row;
        faults("transitions", rows)
    };
    assert_eq!(transition("state", json!("z")), "transitions.4.state: 'z' is none of the states");
    assert!(transition("state", json!("goal")).starts_with("transitions.4.state: 'goal' is terminal"));
    assert_eq!(transition("action", json!("up")), "transitions.4.action: 'up' is none of the actions");
    assert_eq!(transition("next", json!("")), "transitions.4.next: '' is none of the states");
    for probability in [json!(0), json!(-0.5), json!(1.5)] {
        assert!(transition("probability", probability).starts_with("transitions.4.probability: must be above 0"));
    }
    assert!(transition("reward", json!(1e7)).starts_with("transitions.4.reward: must be from -"));
    assert_eq!(
        transition("probability", json!(0.7)),
        "transitions: the probabilities of action 'right' in state 'b' sum to 0.95, not 1"
    );
    let mut rows = corridor()["transitions"].clone();
    rows.as_array_mut().unwrap().remove(3);
    assert_eq!(faults("transitions", rows), "transitions: none is of action 'left' in state 'b'");
    assert!(faults("transitions", json!([])).starts_with("transitions: must be from 1 to 100000"));
    assert!(faults("states", json!(["a", "b", "goal", "a"])).starts_with("states.3: 'a' is the name of number 0 too"));
    assert!(faults("states", json!(["a", "b", "goal", ""])).starts_with("states.3: must have 1 to 100 characters"));
    assert!(faults("actions", json!(["left", "right", "up"])).contains("none is of action 'up' in state 'a'"));
    assert_eq!(faults("start", json!({"b": 0.5})), "start: the probabilities sum to 0.5, not 1");
    assert!(faults("start", json!({"goal": 1})).starts_with("start.goal: is terminal"));
    assert!(faults("start", json!({"a": 1, "z": 0})).starts_with("start.z: 'z' is none of the states"));
    assert!(faults("start", json!({"a": 2, "b": -1})).starts_with("start.a: must be from 0 to 1; start.b: "));
    assert!(faults("terminal", json!(["goal", "z"])).starts_with("terminal.1: 'z' is none of the states"));
    assert!(faults("terminal", json!(["goal", "goal"])).starts_with("terminal.1: 'goal' stands here twice"));
    assert_eq!(faults("discount", json!(1.01)), "discount: must be from 0 to 1");
    assert_eq!(faults("horizon", json!(0)), "horizon: must be from 1 to 100000");
    assert!(faults("features", json!({"names": ["x"], "rows": [[0], [1]]})).starts_with("features.rows: 3 rows are"));
    let wide = json!({"names": ["x"], "rows": [[0], [1, 2], [3]]});
    assert_eq!(faults("features", wide), "features.rows.1: 1 numbers are needed, these are 2");
    let huge = json!({"names": ["x"], "rows": [[0], [1e300], [3]]});
    assert_eq!(faults("features", huge), "features.rows.1.0: is not finite as a 32-bit float");
    let many: Vec<String> = (0..200).map(|_| "x".to_owned()).collect();
    let told = read(json!({"states": many, "actions": ["l"], "transitions": [], "start": {}, "horizon": 1}));
    assert_eq!(told.check().unwrap_err().len(), 100, "the first hundred");
}

#[test]
fn too_much_to_solve_is_refused() {
    let mut large = corridor();
    large["horizon"] = json!(100_000);
    assert_eq!(read(large).check(), Ok(()), "12 rows and pairs");
    let names = |letter: &str, count: usize| (0..count).map(|at| format!("{letter}{at}")).collect::<Vec<_>>();
    let (states, actions) = (names("s", 40), names("a", 64));
    let rows: Vec<Value> = states
        .iter()
        .flat_map(|state| actions.iter().map(move |action| json!({"state": state, "action": action, "next": "s0"})))
        .collect();
    let whole =
        json!({"states": states, "actions": actions, "transitions": rows, "start": {"s0": 1}, "horizon": 20_000});
    assert!(join(&read(whole).check().unwrap_err()).starts_with("horizon: times the rows, and the states"));
}

#[test]
fn the_bound_is_the_one_computed_by_hand() {
    let model = read(corridor()).model("corridor@1").unwrap();
    let solved = model.solve();
    // Always right: two slips of 1/4 each, so the goal is reached within 8 steps unless fewer than 2 of 8 succeed.
    let missed = 0.25f64.powi(8) + 8.0 * 0.75 * 0.25f64.powi(7);
    assert!((solved.returns.optimum - (1.0 - missed)).abs() < 1e-12, "{}", solved.returns.optimum);
    assert_eq!((solved.returns.constant, solved.returns.constant_action.as_str()), (solved.returns.optimum, "right"));
    assert!(solved.returns.random < solved.returns.optimum && solved.returns.random > 0.0);
    let discounted = solved.discounted.unwrap();
    // v = 0.75 * 0.9 * w + 0.25 * 0.9 * v, w = 0.75 + 0.25 * 0.9 * w.
    let last = 0.75 / 0.775;
    let first = 0.675 * last / 0.775;
    assert!(discounted.low <= first + 1e-9 && discounted.high >= first - 1e-9, "{discounted:?}");
    assert!(discounted.high - discounted.low < 2e-8);
    assert_eq!(discounted.policy[..2], [1, 1]);
    assert_eq!(discounted.policy_return, solved.returns.optimum);
    let undiscounted = json!(1.0);
    let mut whole = corridor();
    whole["discount"] = undiscounted;
    assert_eq!(read(whole).model("c").unwrap().solve().discounted, None);
}

#[test]
fn steps_follow_the_tables_and_snapshots_go_on() {
    let model = Arc::new(read(corridor()).model("corridor@1").unwrap());
    let mut world = model.environment();
    world.reset(Some(7));
    let (mut slips, mut steps, mut ends) = (0, 0, 0);
    let mut seen = [0f32; 3];
    while steps < 20_000 {
        world.observe(&mut seen);
        let before = seen;
        assert_eq!(before.iter().sum::<f32>(), 1.0);
        let done = world.step(EnvironmentAction::Discrete(1));
        world.observe(&mut seen);
        (steps, slips) = (steps + 1, slips + u32::from(seen == before));
        assert_eq!((done.reward, done.terminated), (f64::from(seen[2]), seen[2] == 1.0));
        if done.terminated || done.truncated {
            ends += 1;
            world.reset(None);
        }
    }
    let share = f64::from(slips) / f64::from(steps);
    assert!((share - 0.25).abs() < 0.02 && ends > 1000, "{share} of the steps slip");
    let mut other = model.environment();
    other.restore(&serde_json::from_str(&world.snapshot().to_string()).unwrap()).unwrap();
    for _ in 0..5 {
        assert_eq!(world.step(EnvironmentAction::Discrete(0)), other.step(EnvironmentAction::Discrete(0)));
    }
    let mut changed = corridor();
    changed["horizon"] = json!(9);
    let changed = Arc::new(read(changed).model("corridor@1").unwrap());
    assert!(changed.environment().restore(&world.snapshot()).is_err(), "another definition under the same name");
    // A policy that always goes right, from a table of probabilities.
    let expected = world.expected_return(&mut |rows| rows.chunks(3).flat_map(|_| [0.0, 1.0]).collect());
    assert_eq!(expected, Some(model.solve().returns.optimum));
    assert_eq!(world.expected_return(&mut |_| vec![f64::NAN; 6]), None);
}

#[test]
fn the_hash_is_of_the_content() {
    let hash = |value: Value| read(value).content_hash().unwrap();
    let mut described = corridor();
    described["description"] = json!("A corridor.");
    assert_eq!(hash(described), hash(corridor()));
    let mut changed = corridor();
    changed["transitions"][4]["reward"] = json!(2);
    assert_ne!(hash(changed), hash(corridor()));
    let text = serde_json::to_string(&read(corridor())).unwrap();
    assert_eq!(hash(serde_json::from_str(&text).unwrap()), hash(corridor()), "through text");
}

/// A finite environment drawn from `seed`: every pair has up to three outcomes.
fn drawn(seed: u64, states: usize, actions: usize, discount: f64) -> TabularDefinition {
    let mut generator = EnvironmentRng::seed_from_u64(seed);
    let mut unit = || sample_unit(&mut generator);
    let name = |at: usize| format!("s{at}");
    let mut transitions = Vec::new();
    for state in 0..states {
        for action in 0..actions {
            let weights: Vec<f64> = (0..3).map(|_| unit() + 0.01).collect();
            let sum: f64 = weights.iter().sum();
            transitions.extend(weights.into_iter().map(|weight| TransitionRow {
                state: name(state),
                action: format!("a{action}"),
                next: name((unit() * states as f64) as usize),
                probability: weight / sum,
                reward: 2.0 * unit() - 1.0,
            }));
        }
    }
    TabularDefinition {
        description: String::new(),
        states: (0..states).map(name).collect(),
        actions: (0..actions).map(|at| format!("a{at}")).collect(),
        transitions,
        start: [(name(0), 1.0)].into(),
        terminal: Vec::new(),
        discount,
        horizon: 25,
        features: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// No policy does better than the optimum, and the discounted bounds hold the long discounted sum of the best policy.
    #[test]
    fn bounds_hold(seed: u64, states in 1usize..7, actions in 1usize..4, discount in 0.0..0.97f64) {
        let definition = drawn(seed, states, actions, discount);
        prop_assert_eq!(definition.check(), Ok(()));
        let model = definition.model("drawn@1").unwrap();
        let solved = model.solve();
        let most = solved.returns.optimum + 1e-9;
        prop_assert!(solved.returns.random <= most && solved.returns.myopic <= most && solved.returns.constant <= most);
        let discounted = solved.discounted.unwrap();
        prop_assert!(discounted.policy_return <= most);
        prop_assert!(discounted.low <= discounted.high && discounted.high - discounted.low < 1e-6);
        // The policy's own value, by sweeps of its own equations.
        let mut values = vec![0.0; states];
        for _ in 0..1200 {
            values = (0..states)
                .map(|state| {
                    let pair = state * actions + discounted.policy[state];
                    let outcomes = &model.outcomes[model.offsets[pair]..model.offsets[pair + 1]];
                    outcomes.iter().map(|one| one.probability * (one.reward + discount * values[one.next as usize])).sum()
                })
                .collect::<Vec<f64>>();
        }
        prop_assert!(values[0] >= discounted.low - 1e-7 && values[0] <= discounted.high + 1e-7, "{} {:?}", values[0], discounted);
    }
}
