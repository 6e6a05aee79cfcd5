//! Outputs against the contract's vectors and against double precision.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Ppo {
    states: Vec<Vec<f32>>,
    action_probs: Vec<Vec<f64>>,
    values: Vec<f64>,
    greedy_actions: Vec<usize>,
}

#[derive(Deserialize)]
struct Rainbow {
    states: Vec<Vec<f32>>,
    q_values: Vec<Vec<f64>>,
    q_atoms_first_state: Vec<Vec<f64>>,
    greedy_actions: Vec<usize>,
}

#[derive(Deserialize)]
struct Sac {
    states: Vec<Vec<f32>>,
    means: Vec<Vec<f64>>,
    stds: Vec<Vec<f64>>,
    actions: Vec<Vec<f64>>,
    q1: Vec<f64>,
    q2: Vec<f64>,
}

/// What the vectors say of a state, found by its numbers.
fn by_state<'a>(states: &'a [Vec<f32>], of: impl Fn(usize) -> Vec<f64> + 'a) -> impl Fn(&[f32]) -> Vec<f64> + 'a {
    move |state| of(states.iter().position(|one| one == state).unwrap())
}

fn greedy(bytes: &[u8], states: &[Vec<f32>]) -> Vec<NetworkAction> {
    let network = PolicyNetwork::from_safetensors(bytes).unwrap();
    network.evaluate(&states.concat(), true).unwrap().iter().map(|one| network.form.greedy(one)).collect()
}

fn indices(actions: &[usize]) -> Vec<NetworkAction> {
    actions.iter().map(|action| NetworkAction::Discrete(*action)).collect()
}

#[test]
fn ppo_agrees_with_the_vectors_to_1e_5() {
    let all: Ppo = serde_json::from_str(include_str!("../../../../../tests/fixtures/vectors/ppo.json")).unwrap();
    let wanted = |row: usize| [&all.action_probs[row][..], &[all.values[row]]].concat();
    agrees("ppo", PPO, &all.states.concat(), by_state(&all.states, wanted));
    assert_eq!(greedy(PPO, &all.states), indices(&all.greedy_actions));
    let form = PolicyNetwork::from_safetensors(PPO).unwrap().form;
    assert_eq!((form.algorithm.as_str(), form.state_length, form.hidden), ("ppo", 9, vec![32, 32]));
    assert_eq!((form.actions, form.atoms, form.normalized), (PolicyActions::Discrete { count: 4 }, None, false));
    assert_eq!(form.parameters, 2 * (9 * 32 + 32 + 32 * 32 + 32) + 32 * 4 + 4 + 32 + 1);
}

#[test]
fn rainbow_agrees_with_the_vectors_to_1e_5() {
    let all: Rainbow =
        serde_json::from_str(include_str!("../../../../../tests/fixtures/vectors/rainbow_dqn.json")).unwrap();
    agrees("rainbow", RAINBOW, &all.states.concat(), by_state(&all.states, |row| all.q_values[row].clone()));
    assert_eq!(greedy(RAINBOW, &all.states), indices(&all.greedy_actions));
    let network = PolicyNetwork::from_safetensors(RAINBOW).unwrap();
    let first = Tensor::from_slice(&all.states[0]).view([1, 9]);
    let atoms = tensor_numbers(&network.layers.body.atoms(&first).unwrap()).unwrap();
    for (got, wanted) in atoms.iter().zip(all.q_atoms_first_state.concat()) {
        assert!((f64::from(*got) - wanted).abs() < 1e-5);
    }
    let form = network.form;
    assert_eq!((form.algorithm.as_str(), form.hidden, form.atoms), ("rainbow_dqn", vec![32, 32, 16], Some(51)));
    assert_eq!(form.actions, PolicyActions::Discrete { count: 4 });
}

#[test]
fn sac_agrees_with_the_vectors_to_1e_5() {
    let all: Sac = serde_json::from_str(include_str!("../../../../../tests/fixtures/vectors/sac.json")).unwrap();
    let wanted = |row: usize| [&all.means[row][..], &all.stds[row], &[all.q1[row].min(all.q2[row])]].concat();
    agrees("sac", SAC, &all.states.concat(), by_state(&all.states, wanted));
    for (act, wanted) in greedy(SAC, &all.states).iter().zip(&all.actions) {
        let NetworkAction::Continuous(got) = act else { panic!("{act:?}") };
        assert!(got.iter().zip(wanted).all(|(got, wanted)| (f64::from(*got) - wanted).abs() < 1e-5));
    }
    let form = PolicyNetwork::from_safetensors(SAC).unwrap().form;
    let actions = PolicyActions::Continuous { low: vec![-1.0; 4], high: vec![1.0; 4], squashed: false };
    assert_eq!((form.algorithm.as_str(), form.hidden, form.actions), ("sac", vec![32, 32], actions));
}

#[test]
fn default_sizes_agree_with_double_precision_to_1e_5() {
    let states = drawn(7, 9 * 9, 2.5);
    let ppo = file(&ppo(9, 256, 4), &[]);
    agrees("ppo", &ppo, &states, |state| Reference::of(&ppo).ppo(state));
    let rainbow = file(&rainbow(9, 512, 4, 51), &[]);
    agrees("rainbow", &rainbow, &states, |state| Reference::of(&rainbow).rainbow(state, &spaced(-10.0, 10.0, 51)));
    let sac = file(&sac(9, 256, 4), &[]);
    agrees("sac", &sac, &states, |state| Reference::of(&sac).sac(state));
}

#[test]
fn trained_kinds_agree_with_double_precision_to_1e_5() {
    let states = drawn(8, 11 * 5, 30.0);
    let mut tensors = ppo(5, 24, 3);
    tensors.extend(normalisation(5));
    let bytes = file(&tensors, &[("algorithm", "ppo")]);
    assert!(PolicyNetwork::from_safetensors(&bytes).unwrap().form.normalized);
    agrees("normalised ppo", &bytes, &states, |state| Reference::of(&bytes).ppo(state));

    let dqn = file(&rainbow(5, 24, 3, 1), &[("algorithm", "dqn")]);
    let form = PolicyNetwork::from_safetensors(&dqn).unwrap().form;
    assert_eq!((form.algorithm.as_str(), form.atoms), ("dqn", None));
    let states = drawn(9, 11 * 5, 3.0);
    agrees("dqn", &dqn, &states, |state| Reference::of(&dqn).rainbow(state, &[0.0]));

    let sac = file(&squashed_sac(5, 24, 2), &[("algorithm", "sac"), ("log_std_bounds", "[-5.0, 2.0]")]);
    let states = drawn(10, 11 * 5, 3.0);
    agrees("squashed sac", &sac, &states, |state| Reference::of(&sac).sac(state));
    let form = PolicyNetwork::from_safetensors(&sac).unwrap().form;
    assert_eq!(form.actions, PolicyActions::Continuous { low: vec![-2.0; 2], high: vec![3.0; 2], squashed: true });
}

#[test]
fn a_support_is_the_files_or_the_metadatas_or_the_default() {
    let states = drawn(3, 4 * 5, 2.0);
    let mut tensors = rainbow(5, 16, 2, 7);
    let plain = file(&tensors, &[]);
    let reference = |support: Vec<f64>| {
        let plain = plain.clone();
        move |state: &[f32]| Reference::of(&plain).rainbow(state, &support)
    };
    agrees("default", &plain, &states, reference(spaced(-10.0, 10.0, 7)));
    let noted = file(&tensors, &[("v_min", "-1.5"), ("v_max", "3")]);
    agrees("metadata", &noted, &states, reference(spaced(-1.5, 3.0, 7)));
    let given = with_support(&plain, -1.5, 3.0).unwrap();
    agrees("given", &given, &states, reference(spaced(-1.5, 3.0, 7)));
    tensors.push(("support".to_owned(), vec![7], vec![0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 17.0]));
    let own = file(&tensors, &[("v_min", "-1.5"), ("v_max", "3")]);
    agrees("own", &own, &states, reference(vec![0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 17.0]));
    let refusal = |bytes: &[u8], least, most| with_support(bytes, least, most).unwrap_err().to_string();
    assert_eq!(refusal(&own, 0.0, 1.0), "the metadata's 'v_min': the file has a tensor 'support' already");
    assert_eq!(refusal(PPO, 0.0, 1.0), "the metadata's 'v_min': ppo has no support");
    assert_eq!(refusal(&plain, 1.0, 1.0), "the metadata's 'v_max': 1 is not above v_min, 1");
}

#[test]
fn a_state_gets_the_same_bits_in_any_company() {
    tch::set_num_threads(1);
    let built_in = crate::builtin::BUILTIN_BYTES.to_vec();
    let all =
        [built_in, file(&rainbow(9, 64, 4, 51), &[]), file(&sac(9, 64, 4), &[]), file(&squashed_sac(9, 64, 3), &[])];
    for bytes in all {
        same_in_any_company(&bytes);
    }
}

fn same_in_any_company(bytes: &[u8]) {
    let mut states: Vec<Vec<f32>> = (0..64).map(|row| probe_state(row, 9)).collect();
    states[20] = vec![f32::MAX; 9];
    states[40] = vec![0.0; 9];
    // Whatever number of rows it begins with: with some it keeps to it, with some it must go over to one.
    for rows in [1, 3, 5, 7, EXACT_ROWS, 13] {
        let mut network = PolicyNetwork::from_safetensors(bytes).unwrap();
        let algorithm = network.form.algorithm.clone();
        network.rows = rows;
        let fell_back = network.settle().unwrap();
        assert_eq!(network.rows, if fell_back { 1 } else { rows });
        let alone: Vec<_> = states.iter().flat_map(|state| network.evaluate(state, true).unwrap()).collect();
        for count in [2, 3, 5, 7, 8, 9, 15, 17, 31, 64] {
            for first in [0, 64 - count] {
                let together = network.evaluate(&states[first..first + count].concat(), true).unwrap();
                assert_eq!(together.len(), count);
                for (row, (now, then)) in together.iter().zip(&alone[first..]).enumerate() {
                    assert!(same_bits(now, then), "{algorithm}, {rows} rows: state {row} of {count} from {first}");
                }
            }
        }
    }
}

#[test]
fn the_usual_rows_are_kept_or_said_to_differ() {
    tch::set_num_threads(1);
    for bytes in [PPO, RAINBOW, SAC] {
        let mut network = PolicyNetwork::from_safetensors(bytes).unwrap();
        let fell_back = network.settle().unwrap();
        eprintln!("{}: {}", network.form.algorithm, if fell_back { "one at a time" } else { "eight at a time" });
        assert_eq!(network.rows, if fell_back { 1 } else { EXACT_ROWS });
    }
}

#[test]
fn many_states_go_in_chunks() {
    let network = PolicyNetwork::from_safetensors(PPO).unwrap();
    let states = drawn(5, 9 * (MAX_BATCH_ROWS + 3), 2.0);
    let all = network.evaluate(&states, false).unwrap();
    assert_eq!(all.len(), MAX_BATCH_ROWS + 3);
    let last = network.evaluate(&states[9 * MAX_BATCH_ROWS..], true).unwrap();
    for (one, other) in all[MAX_BATCH_ROWS..].iter().zip(&last) {
        assert!(one.numbers().zip(other.numbers()).all(|(one, other)| (one - other).abs() < 1e-5));
    }
    assert!(network.evaluate(&[], false).unwrap().is_empty());
    assert_eq!(network.size() as u64, 4 * network.form().parameters);
}

#[test]
fn what_is_too_large_is_not_finite() {
    let network = PolicyNetwork::from_safetensors(PPO).unwrap();
    assert!(!network.evaluate(&[f32::MAX; 9], true).unwrap()[0].is_finite());
    assert!(network.evaluate(&[1.0; 9], true).unwrap()[0].is_finite());
}
