//! Training runs as a file store of MLflow: a ZIP archive of the folder `mlruns`, which its clients read where it is unpacked.
//!
//! An experiment is a folder with `meta.yaml`, a run a folder below it with `meta.yaml` and the folders `params`, `tags` (a file for
//! each), `metrics` (a file for each, a line `time value step` for each point, the time in milliseconds) and `artifacts`
//! (mlflow/store/tracking/file_store.py and its utilities). Files of YAML hold JSON values, which YAML includes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{Cursor, Write as _},
};

use am_core::crypto::sha256_hex;
use serde_json::{Value, json};
use zip::{CompressionMethod, ZipWriter, result::ZipError, write::FileOptions};

use super::model::{RunStatus, TrainingRun};
use crate::error::RlError;

/// Maximum length of a parameter's value, in characters: what MLflow's servers take.
const MAX_PARAM_CHARACTERS: usize = 6000;
/// Number of digits of an experiment's id.
const EXPERIMENT_DIGITS: usize = 18;
/// What MLflow calls a run that was made by a program of no kind that it knows (`SourceType.LOCAL`).
const LOCAL_SOURCE: u8 = 4;

/// The files of a store, by their paths.
#[derive(Default)]
struct StoreFiles(BTreeMap<String, String>);

/// The number by which MLflow's files say how a run stands (`RunStatus` in mlflow/protos/service.proto).
fn status_number(status: RunStatus) -> u8 {
    match status {
        RunStatus::Running => 1,
        RunStatus::Queued | RunStatus::Paused => 2,
        RunStatus::Completed => 3,
        RunStatus::Failed => 4,
        RunStatus::Cancelled => 5,
    }
}

/// An id of digits that the experiment of this name always has.
fn experiment_id(name: &str) -> String {
    let digits = sha256_hex(name.as_bytes());
    let number = u64::from_str_radix(&digits[..14], 16).unwrap_or_default();
    format!("{number:0>EXPERIMENT_DIGITS$}")
}

/// An object as YAML with a line for each member.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name}: {value}");
    }
    text
}

/// A name as the name of a file: what is neither a letter nor a digit becomes `_`.
fn file_name(name: &str) -> String {
    name.replace(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')), "_")
}

/// Add the members of a value under names with points between them; a list is one value, as JSON.
fn flatten(prefix: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, value) in members {
                let name = file_name(name);
                let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                flatten(&name, value, found);
            }
        }
        Value::String(text) => {
            found.insert(prefix.to_owned(), text.clone());
        }
        other => {
            found.insert(prefix.to_owned(), other.to_string());
        }
    }
}

/// What the run was to do, by name.
fn params_of(run: &TrainingRun) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    flatten("", &serde_json::to_value(&run.task).unwrap_or_default(), &mut found);
    found.insert("policy".to_owned(), run.policy.clone());
    found.into_iter().map(|(name, value)| (name, value.chars().take(MAX_PARAM_CHARACTERS).collect())).collect()
}

/// The run's tags: `key:value` and `key=value` are a tag with a value, the others have none.
fn tags_of(run: &TrainingRun) -> BTreeMap<String, String> {
    let split = |tag: &String| {
        let (key, value) = tag.split_once([':', '=']).unwrap_or((tag.as_str(), ""));
        (key.to_owned(), value.to_owned())
    };
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in run.tags.iter().map(split) {
        // MLflow has one value for a key.
        found.entry(key).and_modify(|known| *known = format!("{known},{value}")).or_insert(value);
    }
    found.insert("mlflow.runName".to_owned(), run.name.clone().unwrap_or_else(|| run.id.to_string()));
    found.insert("mlflow.source.name".to_owned(), "agent-management".to_owned());
    found.extend(run.reference.clone().map(|reference| ("policy_version".to_owned(), reference)));
    found.extend(run.error.clone().map(|error| ("error".to_owned(), error)));
    found
}

/// The figures of a run by name, each with the steps after which it was measured.
fn metrics_of(run: &TrainingRun) -> BTreeMap<String, Vec<(u64, f64)>> {
    let mut found: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    let mut add = |name: String, steps: u64, figure: Option<f64>| {
        if let Some(figure) = figure.filter(|figure| figure.is_finite()) {
            found.entry(name).or_default().push((steps, figure));
        }
    };
    for point in run.curve.iter().flatten() {
        add("episodes".into(), point.steps, Some(point.episodes as f64));
        add("mean_return".into(), point.steps, point.mean_return);
        add("mean_length".into(), point.steps, point.mean_length);
        for (name, figure) in &point.measures {
            add(format!("measures/{name}"), point.steps, Some(*figure));
        }
    }
    for point in &run.evaluated {
        add("evaluation/mean".into(), point.steps, Some(point.mean));
        add("evaluation/expected_return".into(), point.steps, point.expected_return);
    }
    for (name, figure) in run.scores.iter().filter_map(Value::as_object).flatten() {
        add(format!("final/{name}"), run.steps_done, figure.as_f64());
    }
    found
}

impl StoreFiles {
    fn add(&mut self, path: String, content: String) {
        self.0.insert(path, content);
    }

    /// Add the experiment of a policy, which begins with the first of its runs.
    fn add_experiment(&mut self, policy: &str, runs: &[TrainingRun]) {
        let id = experiment_id(policy);
        let times = || runs.iter().filter(move |run| run.policy == policy);
        let begun = times().map(|run| run.created_at).min();
        let changed = times().map(|run| run.updated_at).max();
        let meta = json!({
            "artifact_location": format!("mlruns/{id}"),
            "creation_time": begun.map(|at| at.0.timestamp_millis()),
            "experiment_id": id,
            "last_update_time": changed.map(|at| at.0.timestamp_millis()),
            "lifecycle_stage": "active",
            "name": policy,
        });
        self.add(format!("mlruns/{id}/meta.yaml"), yaml(&meta));
    }

    fn add_run(&mut self, run: &TrainingRun) {
        let experiment = experiment_id(&run.policy);
        let folder = format!("mlruns/{experiment}/{}", run.id);
        let started = run.started_at.unwrap_or(run.created_at).0.timestamp_millis();
        let meta = json!({
            "artifact_uri": format!("{folder}/artifacts"),
            "end_time": run.ended_at.map(|at| at.0.timestamp_millis()),
            "entry_point_name": "",
            "experiment_id": experiment,
            "lifecycle_stage": "active",
            "run_id": run.id,
            "run_name": run.name.clone().unwrap_or_else(|| run.id.to_string()),
            "run_uuid": run.id,
            "source_name": "",
            "source_type": LOCAL_SOURCE,
            "source_version": "",
            "start_time": started,
            "status": status_number(run.status),
            "tags": [],
            "user_id": am_db::owner::PrincipalName::from_stored(&run.owner_id).as_str(),
        });
        self.add(format!("{folder}/meta.yaml"), yaml(&meta));
        for (name, value) in params_of(run) {
            self.add(format!("{folder}/params/{name}"), value);
        }
        for (name, value) in tags_of(run) {
            self.add(format!("{folder}/tags/{name}"), value);
        }
        for (name, points) in metrics_of(run) {
            let mut lines = String::new();
            for (steps, figure) in points {
                let _ = writeln!(lines, "{started} {figure} {steps}");
            }
            self.add(format!("{folder}/metrics/{name}"), lines);
        }
    }
}

/// The runs, with their curves, as an archive of MLflow's file store. Each policy is an experiment. Points have no times of their own,
/// so that each metric carries the start of its run; settings are parameters, and tags of the form `key:value` are tags with a value.
///
/// # Errors
/// [`RlError::Storage`] when the archive can't be written.
pub fn mlflow_store(runs: &[TrainingRun]) -> Result<Vec<u8>, RlError> {
    let mut files = StoreFiles::default();
    let policies: BTreeSet<&str> = runs.iter().map(|run| run.policy.as_str()).collect();
    policies.into_iter().for_each(|policy| files.add_experiment(policy, runs));
    runs.iter().for_each(|run| files.add_run(run));
    let failed = |error: ZipError| RlError::Storage("the archive".to_owned(), error.into());
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = FileOptions::default().compression_method(CompressionMethod::Stored);
    // MLflow looks for the folder of artifacts, which is empty.
    for run in runs {
        let folder = format!("mlruns/{}/{}/artifacts", experiment_id(&run.policy), run.id);
        archive.add_directory(folder, options).map_err(failed)?;
    }
    for (path, content) in files.0 {
        archive.start_file(path, options).map_err(failed)?;
        archive.write_all(content.as_bytes()).map_err(|error| RlError::Storage("the archive".to_owned(), error))?;
    }
    Ok(archive.finish().map_err(failed)?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn run() -> TrainingRun {
        let value = json!({
            "id": "train_0123456789ab", "run_id": "train_0123456789ab", "owner_id": "key_1", "policy": "p", "name": "first: \"try\"",
            "tags": ["team:pricing", "team:growth", "quick"], "kind": "train", "environment": "CartPole-v1", "parameters": null,
            "algorithm": "ppo", "settings": {"hidden": [8, 8], "learning_rate": 0.001}, "steps": 10, "seed": 3, "max_seconds": null,
            "evaluation_episodes": 2, "aliases": [], "status": "completed", "wish": null, "steps_done": 12, "progress": 1.0,
            "seconds": 1.5, "steps_per_second": 8.0, "episodes": 1, "mean_return": 9.0, "measures": {},
            "curve": [{"steps": 5, "episodes": 0, "mean_return": null, "mean_length": null, "measures": {"loss": 1e-7}},
                {"steps": 12, "episodes": 1, "mean_return": 9.0, "mean_length": 9.5, "measures": {}}],
            "evaluated": [{"steps": 12, "mean": 8.0, "expected_return": null}],
            "checkpoint": null, "version": 4, "reference": "p@4", "scores": {"mean": 8.5, "reference": null}, "ended_by": "steps",
            "error": null, "created_at": "2027-01-15T08:00:00Z", "started_at": "2027-01-15T08:00:01Z",
            "ended_at": "2027-01-15T08:00:03Z", "updated_at": "2027-01-15T08:00:03Z",
        });
        serde_json::from_value(value).unwrap()
    }

    fn files(archive: Vec<u8>) -> BTreeMap<String, String> {
        let mut archive = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
        let mut found = BTreeMap::new();
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at).unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            found.insert(entry.name().to_owned(), content);
        }
        found
    }

    #[test]
    fn a_run_is_a_folder_of_its_experiment() {
        let archive = mlflow_store(&[run()]).unwrap();
        assert_eq!(archive, mlflow_store(&[run()]).unwrap(), "the same run is the same archive");
        let found = files(archive);
        let folder = format!("mlruns/{}/train_0123456789ab", experiment_id("p"));
        let file =
            |path: &str| found.get(&format!("{folder}/{path}")).unwrap_or_else(|| panic!("{path}: {found:?}")).as_str();
        assert!(file("meta.yaml").contains("run_name: \"first: \\\"try\\\"\"\n"), "{}", file("meta.yaml"));
        assert!(file("meta.yaml").contains("status: 3\n") && file("meta.yaml").contains("end_time: 1800000003000\n"));
        assert_eq!((file("params/settings.learning_rate"), file("params/settings.hidden")), ("0.001", "[8,8]"));
        assert_eq!((file("params/environment"), file("params/seed")), ("CartPole-v1", "3"));
        assert_eq!((file("tags/team"), file("tags/quick")), ("pricing,growth", ""));
        assert_eq!(file("tags/policy_version"), "p@4");
        assert_eq!(file("metrics/mean_return"), "1800000001000 9 12\n");
        assert_eq!(file("metrics/measures/loss"), "1800000001000 0.0000001 5\n");
        assert_eq!(file("metrics/episodes"), "1800000001000 0 5\n1800000001000 1 12\n");
        assert_eq!(
            (file("metrics/evaluation/mean"), file("metrics/final/mean")),
            ("1800000001000 8 12\n", "1800000001000 8.5 12\n")
        );
        assert!(!found.keys().any(|path| path.ends_with("params/parameters") || path.ends_with("final/reference")));
        let experiment = &found[&format!("mlruns/{}/meta.yaml", experiment_id("p"))];
        assert!(
            experiment.contains("name: \"p\"\n") && experiment.contains("creation_time: 1800000000000\n"),
            "{experiment}"
        );
        assert!(found.contains_key(&format!("{folder}/artifacts/")));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let mut found = BTreeMap::new();
        flatten("", &json!({"..": {"/etc/x": 1, "a.b": "c"}}), &mut found);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["__._etc_x", "__.a_b"]);
    }

    #[test]
    fn experiments_have_ids_of_their_own() {
        assert_eq!(experiment_id("p").len(), EXPERIMENT_DIGITS);
        assert!(experiment_id("p").bytes().all(|byte| byte.is_ascii_digit()));
        assert_ne!(experiment_id("p"), experiment_id("q"));
    }
}
