//! Runs in environments that were sent as tables, and through bridges.

use serde_json::{Value, json};
use sqlx::Connection as _;

use super::{Ground, Process, caller, kinds, principal, until, work};
use crate::{
    RlError,
    environments::{TwinBridge, cart_pole},
    own_environments::EnvironmentDraft,
    runs::{RunLabels, RunStatus, TrainingCaller, TrainingRuns, TrainingSpec},
};
use am_core::ids::TrainingRunId;
use am_db::page::PageRequest;

/// Two states; `go` earns more than `stay` only after a step that earns nothing.
fn draft(name: &str, reward: f64) -> EnvironmentDraft {
    let tables = json!({
        "states": ["near", "far"],
        "actions": ["stay", "go"],
        "transitions": [
            {"state": "near", "action": "stay", "next": "near", "reward": 0.25},
            {"state": "near", "action": "go", "next": "far"},
            {"state": "far", "action": "stay", "next": "near"},
            {"state": "far", "action": "go", "next": "near", "reward": reward},
        ],
        "start": {"near": 1},
        "discount": 0.9,
        "horizon": 10,
    });
    serde_json::from_value(json!({"name": name, "tables": tables})).unwrap()
}

fn trains(environment: &str, algorithm: &str, steps: u64, settings: Value) -> TrainingSpec {
    let algorithm = algorithm.parse().unwrap();
    TrainingSpec { environment: environment.into(), algorithm, settings: Some(settings), ..work(steps) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_algorithm_trains_in_tables_beside_their_bound() {
    let ground = Ground::new();
    let Process { library, runs, .. } = ground.process_with(1, 2).await;
    let (owner, stranger) = (caller("key_a"), caller("key_b"));
    let own = runs.environments().clone();
    let made = own.publish(&owner.principal, draft("walk", 1.0), None).await.unwrap().value;
    // Ten steps of going and coming back: five rewards of 1.
    assert_eq!((made.version.id.as_str(), made.version.solution.returns.optimum), ("walk@1", 5.0));
    let again = own.publish(&owner.principal, draft("walk", 1.0), None).await.unwrap().value;
    assert_eq!(again.latest, 1, "equal tables are no new version");
    let refused = own.publish(&stranger.principal, draft("walk", 1.0), None).await.unwrap_err();
    assert!(matches!(refused, RlError::Forbidden(_)), "{refused}");
    for name in ["CartPole-v1", "bridge", "price_optimization", "No Name"] {
        let refused = own.publish(&owner.principal, draft(name, 1.0), None).await.unwrap_err().to_string();
        assert!(refused.starts_with("name: "), "{refused}");
    }
    let dqn = json!({"warmup": 16, "batch": 8, "stream": 8, "hidden": [8, 8]});
    let all = [
        ("ppo", json!({"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]})),
        ("a2c", json!({"hidden": [8, 8]})),
        ("dqn", dqn.clone()),
        ("rainbow_dqn", dqn),
        ("sac", json!({"hidden": [8, 8], "warmup": 16, "batch": 8})),
    ];
    for (name, settings) in all {
        let asked = trains("walk", name, 96, settings);
        let algorithm = asked.algorithm;
        // Others may train in it too.
        let run = runs.create(&stranger, (None, RunLabels::default()), asked, None).await.unwrap().value;
        let run = runs.ended(&run.id).await.unwrap();
        assert_eq!(run.status, RunStatus::Completed, "{algorithm}: {:?}", run.error);
        let super::TrainingTask::Train(spec) = &run.task else { panic!() };
        assert_eq!((spec.environment.as_str(), spec.optimal_return), ("walk@1", Some(5.0)));
        assert_eq!(spec.environment_sha256.as_ref(), Some(&made.version.sha256));
        assert_eq!(spec.settings.as_ref().unwrap()["gamma"], 0.9, "the discount is a default");
        assert_eq!(run.policy, format!("walk-{}", String::from(algorithm).replace('_', "-")));
        let scores = run.scores.unwrap();
        assert_eq!(scores["reference"]["optimum"], 5.0);
        assert!(scores["expected_return"].as_f64().unwrap() <= 5.0 && scores["share_of_optimum"].is_number());
        let version = library.version(&run.reference.unwrap().parse().unwrap()).await.unwrap();
        assert_eq!(
            (version.environment.as_deref(), &version.state_names),
            (Some("walk@1"), &vec!["is_near".to_owned(), "is_far".to_owned()])
        );
        assert_eq!(version.action_names, ["stay", "go"]);
        let again = runs.evaluate(&version.reference.parse().unwrap(), None, None, 2, 1).await.unwrap();
        assert_eq!((again.environment.as_str(), again.scores.episodes.episodes), ("walk@1", 2));
    }
    let refused = own.delete(&owner.principal, "walk").await.unwrap_err();
    assert!(matches!(&refused, RlError::InUse(why) if why.contains("was made in it")), "{refused}");
    runs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_stay_and_what_is_unused_is_deleted() {
    let ground = Ground::new();
    let Process { runs, .. } = ground.process_with(1, 0).await;
    let owner = caller("key_a");
    let own = runs.environments().clone();
    own.publish(&owner.principal, draft("walk", 1.0), None).await.unwrap();
    let second = own.publish(&owner.principal, draft("walk", 2.0), None).await.unwrap().value;
    assert_eq!((second.latest, second.version.solution.returns.optimum), (2, 10.0));
    assert_eq!(own.get("walk@1").await.unwrap().version.solution.returns.optimum, 5.0);
    let (_, tables) = own.tables("walk@1").await.unwrap();
    assert_eq!(tables, draft("walk", 1.0).tables);
    let page = PageRequest { limit: 3, ..PageRequest::default() };
    let (listed, total) = own.list(&page).await.unwrap();
    assert_eq!((listed.len(), total, listed[0].place().1), (3, 13, "walk"));
    let (versions, total) = own.versions("walk", &page).await.unwrap();
    assert_eq!((versions[0].version, versions.len(), total), (2, 2, 2));
    for missing in ["walk@3", "walk@0", "other", "Walk"] {
        assert!(matches!(own.get(missing).await, Err(RlError::NotFound(_))), "{missing}");
    }
    let faulty = runs
        .create(&owner, (None, RunLabels::default()), trains("walk@3", "ppo", 64, json!({})), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(faulty.starts_with("environment: there is no environment 'walk@3'"), "{faulty}");
    // A run that waits keeps it; one that ended does not.
    let run = runs
        .create(&owner, (None, RunLabels::default()), trains("walk@1", "ppo", 64, json!({})), None)
        .await
        .unwrap()
        .value;
    let refused = own.delete(&owner.principal, "walk").await.unwrap_err();
    assert!(matches!(&refused, RlError::InUse(why) if why.contains(run.id.as_str())), "{refused}");
    runs.cancel(&owner, &run.id, None).await.unwrap();
    let stranger = own.delete(&principal("key_b"), "walk").await.unwrap_err();
    assert!(matches!(stranger, RlError::Forbidden(_)), "{stranger}");
    own.delete(&owner.principal, "walk").await.unwrap();
    assert!(matches!(own.get("walk@1").await, Err(RlError::NotFound(_))));
    runs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_tables_are_gone_ends_with_words() {
    let ground = Ground::new();
    let first = ground.process_with(1, 0).await;
    let owner = caller("key_a");
    first.runs.environments().publish(&owner.principal, draft("walk", 1.0), None).await.unwrap();
    let run = first
        .runs
        .create(&owner, (None, RunLabels::default()), trains("walk", "ppo", 64, json!({})), None)
        .await
        .unwrap()
        .value;
    first.runs.stop().await;
    first.db.close().await;
    // As when it is restored from a copy without them.
    let database = ground.0.path().join("t.db");
    let mut conn = sqlx::SqliteConnection::connect(database.to_str().unwrap()).await.unwrap();
    sqlx::query("DELETE FROM am_own_environment_versions").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let second = ground.process(2).await;
    let ended = second.runs.ended(&run.id).await.unwrap();
    assert_eq!(
        (ended.status, ended.error.as_deref()),
        (RunStatus::Failed, Some("the environment 'walk@1' was deleted"))
    );
    second.runs.stop().await;
}

fn through_bridge(steps: u64) -> TrainingSpec {
    TrainingSpec { environment: "bridge".into(), parameters: Some(cart_pole(500)), ..work(steps) }
}

/// Connect a bridge that answers as `change` makes it; dropped or aborted, it is gone.
fn connect(
    runs: &TrainingRuns,
    id: &TrainingRunId,
    change: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let peer = runs.connect_bridge(id).unwrap();
    tokio::spawn(TwinBridge::new("CartPole-v1").serve(peer, change))
}

async fn steps_beyond(runs: &TrainingRuns, owner: &TrainingCaller, id: &TrainingRunId, least: u64) {
    let mut subscription = runs.0.hub.subscribe(id);
    while runs.get(owner, id).await.unwrap().steps_done <= least {
        subscription.wait_for_wake().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_its_bridge_and_goes_on_with_another() {
    let ground = Ground::new();
    let Process { library, runs, .. } = ground.process(1).await;
    let owner = caller("key_a");
    let run = runs.create(&owner, (None, RunLabels::default()), through_bridge(4000), None).await.unwrap().value;
    assert_eq!(run.policy, "bridge-ppo");
    // It takes no place while it waits: the one behind it is trained.
    let other = runs.create(&owner, (Some("p".into()), RunLabels::default()), work(64), None).await.unwrap().value;
    assert_eq!(runs.ended(&other.id).await.unwrap().status, RunStatus::Completed);
    assert_eq!(runs.get(&owner, &run.id).await.unwrap().status, RunStatus::Queued);
    assert!(matches!(runs.bridge_spec(&caller("key_b"), &run.id).await, Err(RlError::NotFound(_))));
    assert!(matches!(runs.bridge_spec(&owner, &other.id).await, Err(RlError::InvalidState(_))), "it takes none");
    runs.bridge_spec(&owner, &run.id).await.unwrap();
    let first = connect(&runs, &run.id, Some);
    steps_beyond(&runs, &owner, &run.id, 500).await;
    first.abort();
    until(&runs, &owner, &run.id, RunStatus::Queued).await;
    let waiting = runs.get(&owner, &run.id).await.unwrap();
    assert_eq!(waiting.error.as_deref(), Some("waits for its bridge: the bridge is gone"));
    let kept = waiting.checkpoint.expect("a checkpoint is written after each rollout here").steps;
    let second = connect(&runs, &run.id, Some);
    let ended = runs.ended(&run.id).await.unwrap();
    assert_eq!((ended.status, &ended.error), (RunStatus::Completed, &None));
    assert!(kept >= 500 && ended.restarts == 0, "it went on from {kept}");
    let told = kinds(&runs, &owner, &run.id).await;
    assert!(told.iter().any(|kind| kind == "released") && told.iter().any(|kind| kind == "resumed"), "{told:?}");
    let scores = ended.scores.unwrap();
    assert_eq!((&scores["episodes"], &scores["expected_return"]), (&json!(2), &Value::Null));
    let version = library.version(&"bridge-ppo@1".parse().unwrap()).await.unwrap();
    assert_eq!((version.environment.as_deref(), version.action_names.len()), (Some("bridge"), 2));
    let refused = runs.evaluate(&"bridge-ppo@1".parse().unwrap(), None, None, 1, 1).await.unwrap_err().to_string();
    assert!(refused.starts_with("environment: is behind a bridge"), "{refused}");
    second.abort();
    assert!(matches!(runs.bridge_spec(&owner, &run.id).await, Err(RlError::InvalidState(_))), "it has ended");
    runs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_wrong_ends_its_run_and_a_silent_one_is_paused() {
    let ground = Ground::new();
    let Process { runs, .. } = ground.process(1).await;
    let owner = caller("key_a");
    let create = async || {
        runs.create(&owner, (None, RunLabels::default()), through_bridge(50_000), None).await.unwrap().value.id
    };
    let id = create().await;
    let nan = |mut answer: Vec<u8>| {
        answer[16..20].copy_from_slice(&f32::NAN.to_le_bytes());
        Some(answer)
    };
    let wrong = connect(&runs, &id, nan);
    let ended = runs.ended(&id).await.unwrap();
    let why = "the bridge: it sent an observation that is NaN, the number 0 of them";
    assert_eq!((ended.status, ended.error.as_deref()), (RunStatus::Failed, Some(why)));
    wrong.abort();
    // The second run's bridge answers nothing: it can be paused, and another run is trained meanwhile.
    let id = create().await;
    let asked = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = asked.clone();
    let silent = connect(&runs, &id, move |_| {
        told.notify_one();
        None
    });
    asked.notified().await;
    runs.pause(&owner, &id, None).await.unwrap();
    until(&runs, &owner, &id, RunStatus::Paused).await;
    let other = runs.create(&owner, (Some("p".into()), RunLabels::default()), work(64), None).await.unwrap().value;
    assert_eq!(runs.ended(&other.id).await.unwrap().status, RunStatus::Completed);
    runs.resume(&owner, &id, None).await.unwrap();
    // It is asked again, and fails by itself.
    let ended = runs.ended(&id).await.unwrap();
    assert_eq!(ended.error.as_deref(), Some("the bridge: it did not answer within 3 s"));
    silent.abort();
    let faults = TrainingSpec { parameters: Some(json!({"environment": "x"})), ..through_bridge(64) };
    let refused = runs.create(&owner, (None, RunLabels::default()), faults, None).await.unwrap_err().to_string();
    assert!(refused.starts_with("parameters: missing field"), "{refused}");
    let sac = TrainingSpec { algorithm: "sac".parse().unwrap(), settings: None, ..through_bridge(1000) };
    let refused = runs.create(&owner, (None, RunLabels::default()), sac, None).await.unwrap_err().to_string();
    assert!(refused.starts_with("algorithm: SAC takes continuous actions through a bridge"), "{refused}");
    runs.stop().await;
}
