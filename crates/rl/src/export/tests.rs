//! TorchScript read back through libtorch, against our own outputs; ONNX is read by its own runtime in `tests/it`.

use tch::{CModule, IValue, Tensor};

use super::*;
use crate::network::{
    NetworkOutput, PolicyNetwork,
    tests::{PPO, RAINBOW, SAC, drawn, file, normalisation, ppo, rainbow, squashed_sac},
};

/// Policies of each kind, the normalisation of states among them.
pub(super) fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let mut normalised = ppo(5, 16, 3);
    normalised.extend(normalisation(5));
    let plain = file(&rainbow(5, 16, 3, 7), &[("dueling", "false"), ("v_min", "-1"), ("v_max", "4")]);
    vec![
        ("ppo", PPO.to_vec()),
        ("normalised ppo", file(&normalised, &[])),
        ("rainbow", RAINBOW.to_vec()),
        ("rainbow without dueling", plain),
        ("dqn", file(&rainbow(5, 16, 3, 1), &[("algorithm", "dqn")])),
        ("sac", SAC.to_vec()),
        ("squashed sac", file(&squashed_sac(5, 16, 2), &[])),
    ]
}

/// Outputs of the network, one after the other: each for all rows.
fn outputs(evaluations: &[NetworkOutput]) -> Vec<Vec<f32>> {
    let parts = |evaluation: &NetworkOutput| match evaluation {
        NetworkOutput::Probabilities { probabilities, value } => vec![probabilities.clone(), vec![*value]],
        NetworkOutput::Values { q } => vec![q.clone()],
        NetworkOutput::Gaussian { mean, std, value } => vec![mean.clone(), std.clone(), vec![*value]],
    };
    let rows: Vec<_> = evaluations.iter().map(parts).collect();
    (0..rows[0].len()).map(|at| rows.iter().flat_map(|row| row[at].clone()).collect()).collect()
}

fn tensors(value: IValue) -> Vec<Tensor> {
    match value {
        IValue::Tensor(one) => vec![one],
        IValue::Tuple(all) => all.into_iter().flat_map(tensors).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn torchscript_computes_the_same_to_1e_5_for_any_number_of_rows() {
    for (name, weights) in kinds() {
        let bytes = export_policy(&weights, ExportFormat::Torchscript).unwrap();
        assert_eq!(
            bytes,
            export_policy(&weights, ExportFormat::Torchscript).unwrap(),
            "{name}: the same bytes each time"
        );
        let module = CModule::load_data(&mut &bytes[..]).unwrap();
        let network = PolicyNetwork::from_safetensors(&weights).unwrap();
        let length = network.form().state_length;
        for rows in [1, 2, 5, 64] {
            let states = drawn(rows as u64, rows * length, 3.0);
            let wanted = outputs(&network.evaluate(&states, true).unwrap());
            let input = Tensor::from_slice(&states).view([rows as i64, length as i64]);
            let got = tensors(module.forward_is(&[IValue::Tensor(input)]).unwrap());
            assert_eq!(got.len(), wanted.len(), "{name}");
            for (at, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                assert_eq!(got.size()[0], rows as i64, "{name}, output {at}");
                let got = Vec::<f32>::try_from(got.flatten(0, -1)).unwrap();
                assert_eq!(got.len(), wanted.len(), "{name}, output {at}");
                let close = got.iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-5);
                assert!(close, "{name}, output {at}, {rows} rows: {got:?} is not {wanted:?}");
            }
        }
    }
}

#[test]
fn safetensors_are_as_stored() {
    assert_eq!(export_policy(PPO, ExportFormat::Safetensors).unwrap(), PPO);
    let refused = export_policy(b"PK\x03\x04", ExportFormat::Safetensors).unwrap_err();
    assert_eq!(refused, ExportError::Load(LoadError::Pickle));
}

#[test]
fn formats_have_names() {
    for (name, format) in FORMAT_NAMES {
        assert_eq!(name.parse::<ExportFormat>().unwrap(), format);
    }
    assert_eq!(serde_json::to_string(&ExportFormat::Torchscript).unwrap(), r#""torchscript""#);
    assert_eq!(serde_json::from_str::<ExportFormat>(r#""torch""#).unwrap(), ExportFormat::Torchscript);
    let refusal = |name: &str| name.parse::<ExportFormat>().unwrap_err().to_string();
    assert_eq!(
        refusal("pickle"),
        "'pickle' is refused: a pickle can run any code when it is read; there are safetensors, torchscript, onnx"
    );
    assert_eq!(refusal("tflite"), "there is no format 'tflite': there are safetensors, torchscript, onnx");
}
