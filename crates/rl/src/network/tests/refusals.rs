//! What is refused, and how it is told.

use super::*;

/// The file with each of its tensors put through `change`, which may drop it or turn it into several.
fn changed(mut change: impl FnMut(&str, Vec<usize>, Vec<u8>) -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)>) -> Vec<u8> {
    let file = SafeTensors::deserialize(PPO).unwrap();
    let tensors: Vec<_> =
        file.iter().flat_map(|(name, view)| change(name, view.shape().to_vec(), view.data().to_vec())).collect();
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// The file with `shape` and `data` in place of one tensor's.
fn replaced(tensor: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Vec<u8> {
    changed(|name, old_shape, old_data| {
        let old = (name.to_owned(), Dtype::F32, old_shape, old_data);
        vec![if name == tensor { (old.0, dtype, shape.to_vec(), data.to_vec()) } else { old }]
    })
}

fn refusal(bytes: &[u8]) -> String {
    PolicyNetwork::from_safetensors(bytes).unwrap_err().to_string()
}

#[test]
fn doubles_are_taken_too() {
    let widened = changed(|name, shape, data| {
        let double = |b: &[u8; 4]| f64::from(f32::from_le_bytes(*b)).to_le_bytes();
        vec![(name.to_owned(), Dtype::F64, shape, data.as_chunks().0.iter().flat_map(double).collect())]
    });
    let states = drawn(2, 8 * 9, 2.0);
    let (single, double) =
        (PolicyNetwork::from_safetensors(PPO).unwrap(), PolicyNetwork::from_safetensors(&widened).unwrap());
    assert_eq!(single.evaluate(&states, true).unwrap(), double.evaluate(&states, true).unwrap());
}

#[test]
fn a_refusal_names_the_tensor() {
    assert!(refusal(b"no safetensors at all").starts_with("not a safetensors file: "));
    let without = changed(|name, shape, data| match name {
        "critic.2.bias" => vec![],
        _ => vec![(name.to_owned(), Dtype::F32, shape, data)],
    });
    assert_eq!(refusal(&without), "tensor 'critic.2.bias' is missing");
    let with = changed(|name, shape, data| {
        let copy = (format!("{name}.copy"), Dtype::F32, shape.clone(), data.clone());
        let original = (name.to_owned(), Dtype::F32, shape, data);
        if name == "actor.0.bias" { vec![original, copy] } else { vec![original] }
    });
    assert_eq!(refusal(&with), "tensor 'actor.0.bias.copy' is not a parameter of this network");
    let half = replaced("actor.4.bias", Dtype::F16, &[4], &[0; 8]);
    assert_eq!(refusal(&half), "tensor 'actor.4.bias' is of type F16: F32 or F64 is needed");
    let narrow = replaced("actor.2.weight", Dtype::F32, &[32, 31], &[0; 32 * 31 * 4]);
    assert_eq!(refusal(&narrow), "tensor 'actor.2.weight' has shape [32, 31]: [n, 32] is needed");
    let flat = replaced("actor.0.weight", Dtype::F32, &[288], &[0; 288 * 4]);
    assert_eq!(refusal(&flat), "tensor 'actor.0.weight' has shape [288]: [n, n] is needed");
    let empty = replaced("actor.0.weight", Dtype::F32, &[32, 0], &[]);
    assert_eq!(refusal(&empty), "tensor 'actor.0.weight' has shape [32, 0]: [n, n] is needed");
    let other_state = replaced("critic.0.weight", Dtype::F32, &[32, 8], &[0; 32 * 8 * 4]);
    assert_eq!(refusal(&other_state), "tensor 'critic.0.weight' has shape [32, 8]: [n, 9] is needed");
    let two_values = replaced("critic.4.weight", Dtype::F32, &[2, 32], &[0; 2 * 32 * 4]);
    assert_eq!(refusal(&two_values), "tensor 'critic.4.weight' has shape [2, 32]: [1, 32] is needed");
    let nan: Vec<u8> = [0.0, 1.0, f32::NAN, 2.0].iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
    let not_finite = replaced("actor.4.bias", Dtype::F32, &[4], &nan);
    assert_eq!(refusal(&not_finite), "tensor 'actor.4.bias' is not finite as 32-bit floats at element 2");
}

#[test]
fn a_pickle_is_refused_with_the_reason() {
    let reason = "not a safetensors file but a pickle (.pt), which can run any code when it is read: \
                  save the state_dict with safetensors.torch.save_file";
    for bytes in [&b"PK\x03\x04\x00\x00\x08\x08\x00\x00policy/data.pkl"[..], b"\x80\x02}q\x00.", b"\x80\x04\x95\x00"] {
        assert_eq!(refusal(bytes), reason);
    }
    // A header may be of such a length.
    for more in 0..300 {
        let note = "x".repeat(more);
        let bytes = file(&ppo(2, 3, 2), &[("note", &note)]);
        assert!(PolicyNetwork::from_safetensors(&bytes).is_ok(), "a header of {:?} bytes", &bytes[..2]);
    }
}

#[test]
fn what_misses_of_the_nearest_kind_is_said() {
    let without = |mut tensors: Vec<Named>, names: &[&str]| {
        tensors.retain(|(name, _, _)| !names.iter().any(|prefix| name.starts_with(prefix)));
        refusal(&file(&tensors, &[]))
    };
    let missing = |name: &str| format!("tensor '{name}' is missing");
    assert_eq!(without(ppo(3, 4, 2), &["critic"]), missing("critic.0.weight"));
    assert_eq!(without(ppo(3, 4, 2), &["actor.4"]), missing("actor.4.weight"));
    assert_eq!(without(rainbow(3, 4, 2, 5), &["value_stream.2"]), missing("value_stream.2.weight"));
    assert_eq!(without(rainbow(3, 4, 2, 5), &["feature_layer.2"]), missing("feature_layer.2.weight"));
    assert_eq!(without(sac(3, 4, 2), &["qf2"]), missing("qf2.0.weight"));
    assert_eq!(without(sac(3, 4, 2), &["actor_log_std"]), missing("actor_log_std"));
    assert_eq!(without(sac(3, 4, 2), &["actor_mean"]), missing("actor_mean.0.weight"));
    assert_eq!(without(squashed_sac(3, 4, 2), &["actor."]), missing("actor.0.weight"));
    assert_eq!(without(squashed_sac(3, 4, 2), &["actor_mean"]), missing("actor_mean.weight"));
    assert_eq!(without(squashed_sac(3, 4, 2), &["observation_mean"]), missing("observation_mean"));
    assert!(without(ppo(3, 4, 2), &["actor", "critic"]).starts_with("no tensor is a policy's: there would be actor.*"));
    let other = refusal(&file(&ppo(3, 4, 2), &[("algorithm", "sac")]));
    assert_eq!(other, missing("actor_mean.weight"));
}

#[test]
fn what_can_not_be_is_refused() {
    let noted = |tensors: Vec<Named>, key: &str, text: &str| refusal(&file(&tensors, &[(key, text)]));
    let td3 = noted(ppo(3, 4, 2), "algorithm", "td3");
    assert_eq!(td3, "the algorithm 'td3' of the metadata is none of ppo, a2c, rainbow_dqn, dqn, sac");
    let dueling = noted(rainbow(3, 4, 2, 5), "dueling", "False");
    assert_eq!(dueling, "the metadata's 'dueling': 'False' is neither 'true' nor 'false'");
    let least = noted(rainbow(3, 4, 2, 5), "v_min", "none");
    assert_eq!(least, "the metadata's 'v_min': it is not a finite number");
    assert_eq!(noted(rainbow(3, 4, 2, 5), "v_min", "10"), "the metadata's 'v_max': 10 is not above v_min, 10");
    let bounds = noted(squashed_sac(3, 4, 2), "log_std_bounds", "[2, -5]");
    assert_eq!(bounds, "the metadata's 'log_std_bounds': '[2, -5]' is not two numbers [smallest, largest]");
    let dqn = noted(rainbow(3, 4, 2, 5), "algorithm", "dqn");
    assert_eq!(dqn, "tensor 'value_stream.2.weight' has shape [5, 2]: [1, 2] is needed");

    let with = |mut tensors: Vec<Named>, name: &str, numbers: &[f32]| {
        tensors.retain(|(old, _, _)| old != name);
        tensors.push((name.to_owned(), vec![numbers.len()], numbers.to_vec()));
        refusal(&file(&tensors, &[]))
    };
    let std = with(squashed_sac(3, 4, 2), "observation_std", &[1.0, 0.0, 1.0]);
    assert_eq!(std, "tensor 'observation_std' at element 1: a standard deviation is above 0");
    let low = with(squashed_sac(3, 4, 2), "action_low", &[0.0, 4.0]);
    assert_eq!(low, "tensor 'action_high' at element 1: it is below action_low");
    let support = with(rainbow(3, 4, 2, 3), "support", &[0.0, 1.0, 1.0]);
    assert_eq!(support, "tensor 'support' at element 2: each number must be above the one before it");
    let short = with(rainbow(3, 4, 2, 3), "support", &[0.0, 1.0]);
    assert_eq!(short, "tensor 'support' has shape [2]: [3] is needed");
    let mut odd = rainbow(3, 4, 2, 5);
    odd.retain(|(name, _, _)| !name.starts_with("advantage_stream.2"));
    odd.extend(linear("advantage_stream.2", 2, 9, 1));
    let reason = "9 outputs are not a multiple of the value stream's 5 atoms";
    assert_eq!(refusal(&file(&odd, &[])), format!("tensor 'advantage_stream.2.weight' at element 0: {reason}"));
}

#[test]
fn a_file_with_metadata_has_the_same_bytes_each_time() {
    let notes: HashMap<String, String> =
        (0..20).map(|at| (format!("note \"{at}\""), format!("text {at} ä\n"))).collect();
    let plain = file(&ppo(2, 3, 2), &[]);
    let tensors = SafeTensors::deserialize(&plain).unwrap();
    let written: Vec<Vec<u8>> =
        (0..5).map(|_| serialize(tensors.iter(), notes.clone().into_iter().collect()).unwrap()).collect();
    assert!(written.iter().all(|bytes| *bytes == written[0]));
    let (length, header) = SafeTensors::read_metadata(&written[0]).unwrap();
    assert!(length.is_multiple_of(8));
    assert_eq!(header.metadata(), &Some(notes.clone()));
    let read = SafeTensors::deserialize(&written[0]).unwrap();
    assert_eq!(read.len(), tensors.len());
    for (name, view) in tensors.iter() {
        assert_eq!(read.tensor(name).unwrap(), view);
    }
    assert_eq!(serialize(tensors.iter(), HashMap::new()).unwrap(), plain);
    let none = serialize([], notes.clone()).unwrap();
    assert_eq!(SafeTensors::read_metadata(&none).unwrap().1.metadata(), &Some(notes));
}
