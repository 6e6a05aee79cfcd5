//! Exports of a training run, read back by the real packages: MLflow's client and TensorBoard's reader.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{RL, small};
use crate::{
    coordinator::python,
    harness::{CLIENT, MINER, TestApp},
    kit::{JsonDocument as _, fixture, get_as, post_as},
};

/// A file that the server answers, as bytes.
async fn file(server: &TestApp, path: &str, wanted_type: &str) -> Vec<u8> {
    let request = server.client().get(server.url(path)).header("x-api-key", CLIENT);
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, wanted_type));
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("attachment; filename="));
    answer.bytes().await.unwrap().to_vec()
}

/// The curve's figures of one name as `[steps, value]`.
fn column<'a>(curve: &'a [Value], figure: impl Fn(&'a Value) -> &'a Value) -> Vec<(u64, f64)> {
    let points = curve.iter().filter_map(|point| Some((point["steps"].as_u64()?, figure(point).as_f64()?)));
    points.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_run_is_what_mlflow_and_tensorboard_read() {
    let server = TestApp::start().await;
    let mut body = small(640);
    (body["name"], body["tags"], body["evaluations"]) =
        (json!("größer: \"two\""), json!(["team:pricing", "quick"]), json!(2));
    let run = post_as(&server, CLIENT, &format!("{RL}/runs?wait=50"), body).await.is(201);
    assert_eq!(run["status"], "completed", "{run}");
    let id = run.text("id");
    get_as(&server, MINER, &format!("{RL}/runs/{id}/mlflow")).await.is(404);
    let place = tempfile::tempdir().unwrap();
    let (archive, events) = (place.path().join("mlruns.zip"), place.path().join(format!("events.out.tfevents.{id}")));
    fs::write(&archive, file(&server, &format!("{RL}/runs/{id}/mlflow"), "application/zip").await).unwrap();
    let curve_file = format!("{RL}/runs/{id}/curve?format=tfevents");
    fs::write(&events, file(&server, &curve_file, "application/octet-stream").await).unwrap();
    let output = Command::new(python())
        .arg(fixture("mlflow/read.py"))
        .args([archive.to_str().unwrap(), events.to_str().unwrap(), id])
        // MLflow 3 asks to be told that the file store is meant.
        .env("MLFLOW_ALLOW_FILE_STORE", "true")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let read: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let (mlflow, tensorboard) = (&read["mlflow"], &read["tensorboard"]);
    assert_eq!((&mlflow["experiment"], &mlflow["name"]), (&run["policy"], &run["name"]));
    assert_eq!((&mlflow["status"], &mlflow["found"]), (&json!("FINISHED"), &json!([id])));
    assert!(mlflow["end_time"].as_i64().unwrap() >= mlflow["start_time"].as_i64().unwrap());
    for (name, wanted) in [
        ("algorithm", "ppo"),
        ("environment", "CartPole-v1"),
        ("seed", "3"),
        ("steps", "640"),
        ("settings.hidden", "[8,8]"),
    ] {
        assert_eq!(mlflow["params"][name], wanted, "{name}");
    }
    assert_eq!(mlflow["params"]["settings.gamma"], run["settings"]["gamma"].to_string());
    assert_eq!((&mlflow["tags"]["team"], &mlflow["tags"]["quick"]), (&json!("pricing"), &json!("")));
    assert_eq!(mlflow["tags"]["policy_version"], run["reference"]);
    let curve = run["curve"].as_array().unwrap();
    let wanted = [
        ("mean_return", column(curve, |point| &point["mean_return"])),
        ("measures/entropy", column(curve, |point| &point["measures"]["entropy"])),
        ("evaluation/mean", column(run["evaluated"].as_array().unwrap(), |point| &point["mean"])),
    ];
    for (name, wanted) in wanted {
        assert!(!wanted.is_empty(), "{name}");
        let logged: Vec<(u64, f64)> = mlflow["metrics"][name]
            .as_array()
            .unwrap_or_else(|| panic!("no {name} in {mlflow}"))
            .iter()
            .map(|point| (point[2].as_u64().unwrap(), point[1].as_f64().unwrap()))
            .collect();
        assert_eq!(logged, wanted, "{name} in MLflow, with all digits");
        assert_eq!(mlflow["metrics"][name][0][0], mlflow["start_time"]);
        let shown = tensorboard[name].as_array().unwrap();
        assert_eq!(shown.len(), wanted.len(), "{name} in TensorBoard");
        for (shown, (steps, value)) in shown.iter().zip(&wanted) {
            assert_eq!(shown[0].as_u64(), Some(*steps));
            // The format has 32 bits for a value.
            assert!((shown[1].as_f64().unwrap() - value).abs() <= value.abs() * 1e-6, "{name}: {shown} is not {value}");
        }
    }
    assert_eq!(mlflow["metrics"]["final/mean"][0][1], run["scores"]["mean"]);
}
