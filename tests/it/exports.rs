//! Exported policies in onnxruntime (PyPI), as others would run them: against the contract's vectors, and for policies that
//! were trained here against the trainer and TorchScript.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use am_rl::{
    export::{ExportFormat, export_policy},
    training::{ChosenActions, Trainer, TrainingPlan},
};
use serde_json::{Value, json};
use tch::{CModule, Device, IValue, Tensor};

use crate::{coordinator::python, kit::fixture};

/// A model, and the states that it is asked about, in batches.
struct Asked {
    weights: Vec<u8>,
    batches: Vec<Vec<Vec<f32>>>,
}

/// What onnxruntime answers for each.
fn onnxruntime(asked: &[Asked]) -> Vec<Value> {
    let place = tempfile::tempdir().unwrap();
    let mut models = Vec::new();
    for (at, one) in asked.iter().enumerate() {
        let path = place.path().join(format!("{at}.onnx"));
        fs::write(&path, export_policy(&one.weights, ExportFormat::Onnx).unwrap()).unwrap();
        models.push(json!([path, one.batches]));
    }
    let mut child = Command::new(python())
        .arg(fixture("onnx/outputs.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(json!(models).to_string().as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let answers: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(answers.len(), asked.len());
    answers
}

/// All numbers, row by row.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn close(what: &str, got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (at, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert!((got - wanted).abs() < 1e-5, "{what}, number {at}: {got} is not {wanted}");
    }
}

/// Together, and one at a time.
fn batches(states: &[Vec<f32>]) -> Vec<Vec<Vec<f32>>> {
    std::iter::once(states.to_vec()).chain(states.iter().map(|state| vec![state.clone()])).collect()
}

/// The answer's output `at` to all states: from the batch of all, and from those of one.
fn both(answer: &Value, at: usize) -> [Vec<f64>; 2] {
    let batches = answer["batches"].as_array().unwrap();
    [flat(&batches[0][at]), batches[1..].iter().flat_map(|batch| flat(&batch[at])).collect()]
}

#[test]
fn onnx_export_matches_contract_vectors() {
    let read = |name: &str| fs::read(fixture(&format!("vectors/{name}"))).unwrap();
    let names = ["ppo", "rainbow_dqn", "sac"];
    let vectors: Vec<Value> =
        names.iter().map(|name| serde_json::from_slice(&read(&format!("{name}.json"))).unwrap()).collect();
    let asked: Vec<Asked> = names
        .iter()
        .zip(&vectors)
        .map(|(name, vectors)| {
            let states: Vec<Vec<f32>> = serde_json::from_value(vectors["states"].clone()).unwrap();
            Asked { weights: read(&format!("{name}.safetensors")), batches: batches(&states) }
        })
        .collect();
    let answers = onnxruntime(&asked);
    let least: Vec<f64> =
        flat(&vectors[2]["q1"]).iter().zip(flat(&vectors[2]["q2"])).map(|(one, other)| one.min(other)).collect();
    let wanted = [
        vec![("probabilities", flat(&vectors[0]["action_probs"])), ("value", flat(&vectors[0]["values"]))],
        vec![("q", flat(&vectors[1]["q_values"]))],
        vec![("mean", flat(&vectors[2]["means"])), ("std", flat(&vectors[2]["stds"])), ("value", least)],
    ];
    for ((name, answer), wanted) in names.iter().zip(&answers).zip(&wanted) {
        assert_eq!(answer["inputs"], json!([["state", ["rows", 9]]]), "{name}");
        assert_eq!(answer["metadata"]["algorithm"], *name);
        for (at, (output, numbers)) in wanted.iter().enumerate() {
            let shape = if *output == "value" { json!(["rows"]) } else { json!(["rows", 4]) };
            assert_eq!(answer["outputs"][at], json!([output, shape]), "{name}");
            for got in both(answer, at) {
                close(&format!("{name}, {output}"), &got, numbers);
            }
        }
        assert_eq!(answer["outputs"].as_array().unwrap().len(), wanted.len(), "{name}");
    }
}

/// A policy that has learnt a little.
fn trained(plan: Value) -> Box<dyn Trainer> {
    tch::set_num_threads(1);
    let plan: TrainingPlan = serde_json::from_value(plan).unwrap();
    let mut trainer = plan.make_trainer(Device::Cpu).unwrap();
    trainer.advance().unwrap();
    trainer.advance().unwrap();
    trainer
}

/// States of irregular numbers.
fn states(count: usize, length: usize) -> Vec<Vec<f32>> {
    let number = |at: usize| ((at as f32) * 0.7).sin() * 3.0;
    (0..count).map(|row| (0..length).map(|column| number(row * length + column)).collect()).collect()
}

/// The outputs of the exported TorchScript, one after the other.
fn torchscript(weights: &[u8], states: &[Vec<f32>]) -> Vec<Vec<f64>> {
    fn tensors(value: IValue) -> Vec<Tensor> {
        match value {
            IValue::Tensor(one) => vec![one],
            IValue::Tuple(all) => all.into_iter().flat_map(tensors).collect(),
            other => panic!("{other:?}"),
        }
    }
    let module = CModule::load_data(&mut &export_policy(weights, ExportFormat::Torchscript).unwrap()[..]).unwrap();
    let input = Tensor::from_slice(&states.concat()).view([states.len() as i64, -1]);
    let outputs = tensors(module.forward_is(&[IValue::Tensor(input)]).unwrap());
    let numbers = |output: &Tensor| Vec::<f64>::try_from(output.flatten(0, -1).to_kind(tch::Kind::Double)).unwrap();
    outputs.iter().map(numbers).collect()
}

#[test]
fn onnx_export_matches_trained_policy() {
    let small = json!({"hidden": [24, 16], "rollout": 32, "epochs": 1, "normalize_observations": true});
    let rainbow = json!({"hidden": [24, 16], "stream": 12, "warmup": 64, "v_min": -50.0, "v_max": 0.0});
    let plans = [
        ("CartPole-v1", "ppo", small, 4),
        ("Acrobot-v1", "rainbow_dqn", rainbow, 6),
        ("Acrobot-v1", "dqn", json!({"hidden": [24, 16], "stream": 12, "warmup": 64}), 6),
        ("Pendulum-v1", "sac", json!({"hidden": [24, 16], "warmup": 32, "batch": 16}), 3),
    ];
    let mut trainers = Vec::new();
    let mut asked = Vec::new();
    for (environment, algorithm, settings, length) in plans {
        let plan = json!({"environment": environment, "algorithm": algorithm, "steps": 1000, "settings": settings});
        let trainer = trained(plan);
        asked.push(Asked { weights: trainer.weights().unwrap(), batches: batches(&states(40, length)) });
        trainers.push((algorithm, trainer));
    }
    let answers = onnxruntime(&asked);
    for (((algorithm, trainer), asked), answer) in trainers.iter().zip(&asked).zip(&answers) {
        let states = &asked.batches[0];
        let wanted = torchscript(&asked.weights, states);
        assert_eq!(answer["outputs"].as_array().unwrap().len(), wanted.len());
        for (at, wanted) in wanted.iter().enumerate() {
            for got in both(answer, at) {
                close(&format!("{algorithm}, output {at}"), &got, wanted);
            }
        }
        // The first output decides, as in the trainer.
        let first = both(answer, 0)[0].clone();
        let rows: Vec<&[f64]> = first.chunks(first.len() / states.len()).collect();
        let mut chosen = ChosenActions::Discrete(Vec::new());
        trainer.greedy(&states.concat(), &mut chosen).unwrap();
        match chosen {
            ChosenActions::Discrete(all) => {
                let highest =
                    |row: &[f64]| (1..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best });
                assert_eq!(all, rows.iter().map(|row| highest(row) as i64).collect::<Vec<_>>(), "{algorithm}");
            }
            // Pendulum's torque is within 2 of 0.
            ChosenActions::Continuous(all) => {
                let scaled: Vec<f64> = rows.iter().flat_map(|row| row.iter().map(|mean| 2.0 * mean.tanh())).collect();
                let all: Vec<f64> = all.iter().map(|number| f64::from(*number)).collect();
                close(algorithm, &scaled, &all);
            }
        }
    }
}
