//! Runs on a real database: to their end, paused, cancelled, and from one process to the next.

mod environments;

use serde_json::json;

use super::*;
use crate::{PolicyReference, serving};

/// A database in a directory of its own, which several processes open one after the other.
struct Ground(tempfile::TempDir);

struct Process {
    db: Database,
    library: PolicyLibrary,
    runs: TrainingRuns,
}

impl Ground {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn process(&self, seed: u64) -> Process {
        self.process_with(seed, 1).await
    }

    async fn process_with(&self, seed: u64, slots: usize) -> Process {
        let settings = am_db::DatabaseSettings { readers: 2, busy_timeout: Duration::from_secs(10) };
        let db = Database::open(&self.0.path().join("t.db"), &settings).await.unwrap();
        let (clock, ids) = (Clock::system(), IdGenerator::seeded(seed));
        am_db::migrate(&db, &clock).await.unwrap();
        let settings = serving::ServingSettings { directory: self.0.path().join("policies"), ..Default::default() };
        let policies = crate::PolicyServer::open(settings, ids.clone()).unwrap();
        let log = am_audit::AuditSettings { origin: "test".into(), every: Duration::from_secs(60) };
        let signer = am_core::crypto::Signer::from_hex(&"17".repeat(32)).unwrap();
        let webhooks =
            am_webhooks::WebhookService::new(db.clone(), clock.clone(), ids.clone(), &Default::default()).unwrap();
        let audit = am_audit::AuditLog::new(db.clone(), clock.clone(), ids.clone(), webhooks, signer, log);
        let library = PolicyLibrary::open(db.clone(), clock.clone(), ids.clone(), audit, policies).await.unwrap();
        let settings = TrainingRunSettings {
            directory: self.0.path().join("training"),
            slots,
            threads: 1,
            checkpoint_every: Duration::ZERO,
            slice: Duration::ZERO,
            quotas: TrainingQuotas {
                admin_steps: 100_000_000,
                client_steps: 50_000_000,
                miner_steps: 1000,
                open_runs: 3,
            },
            bridge: BridgeSettings { patience: Duration::from_secs(3), most: 2 },
        };
        let runs = TrainingRuns::new(db.clone(), clock, ids, StreamHub::default(), library.clone(), settings).unwrap();
        tokio::spawn(runs.clone().work());
        Process { db, library, runs }
    }

    fn files(&self, ending: &str) -> usize {
        let both = [self.0.path().join("training"), self.0.path().to_owned()].map(|place| fs::read_dir(place).unwrap());
        both.into_iter()
            .flatten()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(ending))
            .count()
    }
}

fn principal(name: &str) -> Principal {
    Principal { name: name.into(), aliases: [name.to_owned()].into(), agent: None, origin: None }
}

fn caller(name: &str) -> TrainingCaller {
    TrainingCaller { principal: principal(name), role: TrainingRole::Client }
}

fn work(steps: u64) -> TrainingSpec {
    let settings = json!({"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]});
    let request = json!({"environment": "CartPole-v1", "steps": steps, "seed": 5, "settings": settings,
        "evaluation_episodes": 2, "aliases": ["production"]});
    serde_json::from_value::<TrainingRequest>(request).unwrap().work()
}

async fn kinds(runs: &TrainingRuns, owner: &TrainingCaller, id: &am_core::ids::TrainingRunId) -> Vec<String> {
    let events = runs.events(owner, id, 0, 10_000).await.unwrap();
    let mut kinds: Vec<String> = events.into_iter().map(|event| event.kind).collect();
    kinds.dedup();
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_a_version_that_serves() {
    let ground = Ground::new();
    let Process { library, runs, .. } = ground.process(1).await;
    let owner = caller("key_a");
    let run = runs.create(&owner, (None, RunLabels::default()), work(320), None).await.unwrap().value;
    assert_eq!((run.status, run.policy.as_str()), (RunStatus::Queued, "cartpole-v1-ppo"));
    let TrainingTask::Train(whole) = run.task else { panic!() };
    assert!(whole.settings.unwrap()["gamma"].is_number(), "what was left out is written out");
    let ended = runs.ended(&run.id).await.unwrap();
    assert_eq!((ended.status, ended.error), (RunStatus::Completed, None));
    assert_eq!((ended.steps_done, ended.progress, ended.ended_by.as_deref()), (320, 1.0, Some("steps")));
    assert_eq!(ended.curve.unwrap().last().unwrap().steps, 320);
    let version = library.version(&"cartpole-v1-ppo".parse().unwrap()).await.unwrap();
    assert_eq!((version.reference.as_str(), version.source.as_str()), ("cartpole-v1-ppo@1", "trained"));
    assert_eq!((version.seed, version.environment.as_deref()), (Some(5), Some("CartPole-v1")));
    assert_eq!(version.scores.unwrap()["episodes"], 2);
    assert_eq!(library.get("cartpole-v1-ppo").await.unwrap().aliases["production"], 1);
    let reference: PolicyReference = "cartpole-v1-ppo@production".parse().unwrap();
    let decision = library.policies().act(&reference, vec![0.0; 4]).await.unwrap();
    assert!(["left", "right"].contains(&decision.action_name.unwrap().as_str()));
    let mut told = kinds(&runs, &owner, &run.id).await;
    told.retain(|kind| kind != "progress");
    assert_eq!(told, ["queued", "started", "completed"]);
    runs.stop().await;
    assert_eq!((ground.files(".checkpoint"), ground.files(".lock")), (0, 0), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_from_process_to_process_to_the_same_bits() {
    let (whole, parts) = (Ground::new(), Ground::new());
    let owner = caller("key_a");
    let first = whole.process(1).await;
    let long = || TrainingSpec { evaluations: 3, ..work(2000) };
    let run = first.runs.create(&owner, (None, RunLabels::default()), long(), None).await.unwrap().value;
    let through = first.runs.ended(&run.id).await.unwrap();
    let weights = |library: PolicyLibrary| async move {
        library.version(&"cartpole-v1-ppo@1".parse().unwrap()).await.unwrap().sha256
    };
    let wanted = weights(first.library.clone()).await;
    first.runs.stop().await;

    let mut process = parts.process(2).await;
    let run = process.runs.create(&owner, (None, RunLabels::default()), long(), None).await.unwrap().value;
    for seed in 3..6 {
        // A few events on, the process stops.
        let seen = process.runs.events(&owner, &run.id, 0, 10_000).await.unwrap().len() as i64;
        let mut follower = process.runs.follow(&run.id, seen);
        follower.next().await.unwrap();
        process.runs.stop().await;
        process.db.close().await;
        process = parts.process(seed).await;
    }
    let ended = process.runs.ended(&run.id).await.unwrap();
    assert_eq!(ended.status, RunStatus::Completed, "{:?}", ended.error);
    assert_eq!(weights(process.library.clone()).await, wanted);
    assert_eq!((ended.curve, ended.scores), (through.curve, through.scores));
    assert_eq!(ended.evaluated, through.evaluated);
    let told = kinds(&process.runs, &owner, &run.id).await;
    assert!(told.iter().any(|kind| kind == "released") && told.iter().any(|kind| kind == "resumed"), "{told:?}");
    process.runs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_paused_resumed_and_cancelled() {
    let ground = Ground::new();
    let Process { library, runs, .. } = ground.process(1).await;
    let owner = caller("key_a");
    // So long that it does not end by itself.
    let run =
        runs.create(&owner, (Some("p".into()), RunLabels::default()), work(50_000_000), None).await.unwrap().value;
    let second = runs.create(&owner, (Some("q".into()), RunLabels::default()), work(64), None).await.unwrap().value;
    let until = async |wanted: RunStatus| {
        let mut subscription = runs.0.hub.subscribe(&run.id);
        loop {
            let run = runs.get(&owner, &run.id).await.unwrap();
            if run.status == wanted {
                return run;
            }
            tokio::select! {
                () = subscription.wait_for_wake() => {}
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    };
    until(RunStatus::Running).await;
    assert_eq!(runs.get(&owner, &second.id).await.unwrap().status, RunStatus::Queued, "there is one slot");
    let stranger = runs.pause(&caller("key_b"), &run.id, None).await;
    assert!(matches!(stranger, Err(RlError::NotFound(_))));
    runs.pause(&owner, &run.id, None).await.unwrap();
    let paused = until(RunStatus::Paused).await;
    assert_eq!(paused.checkpoint.unwrap().steps, paused.steps_done, "it can go on from where it is");
    assert!(matches!(runs.pause(&owner, &run.id, None).await, Err(RlError::InvalidState(_))));
    // The slot is free for the other one.
    assert_eq!(runs.ended(&second.id).await.unwrap().status, RunStatus::Completed);
    runs.resume(&owner, &run.id, None).await.unwrap();
    let running = until(RunStatus::Running).await;
    assert!(running.steps_done >= paused.steps_done);
    runs.cancel(&owner, &run.id, None).await.unwrap();
    let cancelled = runs.ended(&run.id).await.unwrap();
    assert_eq!((cancelled.status, cancelled.version), (RunStatus::Cancelled, None));
    assert!(matches!(runs.cancel(&owner, &run.id, None).await, Err(RlError::InvalidState(_))));
    assert!(library.get("p").await.is_err(), "nothing came of it");
    runs.stop().await;
    assert_eq!(ground.files(".checkpoint"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_a_limit_and_what_does_not_fit_is_named() {
    let ground = Ground::new();
    let Process { runs, .. } = ground.process(1).await;
    let owner = caller("key_a");
    let short = TrainingSpec { max_seconds: Some(0.2), ..work(50_000_000) };
    let run = runs.create(&owner, (Some("p".into()), RunLabels::default()), short, None).await.unwrap().value;
    let ended = runs.ended(&run.id).await.unwrap();
    assert_eq!((ended.status, ended.ended_by.as_deref()), (RunStatus::Completed, Some("max_seconds")));
    assert!(ended.steps_done < 50_000_000 && ended.version == Some(1));
    let refused = async |policy: &str, work: TrainingSpec| {
        runs.create(&owner, (Some(policy.into()), RunLabels::default()), work, None).await.unwrap_err().to_string()
    };
    let wrong = TrainingSpec { settings: Some(json!({"gama": 1})), ..work(10) };
    assert!(refused("p", wrong).await.starts_with("settings.gama: unknown field"));
    assert!(
        refused("p", TrainingSpec { environment: "Tetris".into(), ..work(10) })
            .await
            .starts_with("environment: there is no")
    );
    assert!(refused("P", work(10)).await.starts_with("policy: 'P' is not a policy name"));
    assert!(refused("p", work(0)).await.starts_with("steps: 0 is not from 1"));
    assert!(
        refused("p", TrainingSpec { evaluation_episodes: 0, ..work(10) }).await.starts_with("evaluation_episodes: ")
    );
    assert!(refused("p", TrainingSpec { max_seconds: Some(0.0), ..work(10) }).await.starts_with("max_seconds: "));
    assert!(
        refused("p", TrainingSpec { aliases: vec!["latest".into()], ..work(10) })
            .await
            .starts_with("aliases: 'latest'")
    );
    assert!(refused("marketplace-ppo", work(10)).await.contains("another owner's"));
    runs.stop().await;
}

/// Wait until the run has this status.
async fn until(runs: &TrainingRuns, owner: &TrainingCaller, id: &am_core::ids::TrainingRunId, wanted: RunStatus) {
    let mut subscription = runs.0.hub.subscribe(id);
    while runs.get(owner, id).await.unwrap().status != wanted {
        tokio::select! {
            () = subscription.wait_for_wake() => {}
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_run_makes_place_for_another_owners() {
    let ground = Ground::new();
    let Process { runs, .. } = ground.process(1).await;
    let (greedy, other) = (caller("key_a"), caller("key_b"));
    let mut endless = Vec::new();
    for policy in ["p", "q", "r"] {
        endless.push(
            runs.create(&greedy, (Some(policy.into()), RunLabels::default()), work(50_000_000), None)
                .await
                .unwrap()
                .value
                .id,
        );
    }
    until(&runs, &greedy, &endless[0], RunStatus::Running).await;
    let short = runs.create(&other, (Some("s".into()), RunLabels::default()), work(64), None).await.unwrap().value;
    let ended = tokio::time::timeout(Duration::from_secs(60), runs.ended(&short.id)).await;
    assert_eq!(ended.expect("a turn is never without progress").unwrap().status, RunStatus::Completed);
    // It goes on from where it was; the owner's other runs wait for it.
    let yields = async || {
        let told = runs.events(&greedy, &endless[0], 0, 10_000).await.unwrap();
        assert!(told.iter().any(|event| event.kind == "resumed" && event.data["steps"].as_u64() > Some(0)));
        let released: Vec<_> = told.iter().filter(|event| event.kind == "released").collect();
        assert!(released.iter().all(|event| event.data["yielded"] == true));
        released.len()
    };
    let reached = async |beyond: u64| {
        let mut subscription = runs.0.hub.subscribe(&endless[0]);
        loop {
            let steps = runs.get(&greedy, &endless[0]).await.unwrap().steps_done;
            if steps > beyond {
                return steps;
            }
            tokio::select! {
                () = subscription.wait_for_wake() => {}
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    };
    let again = reached(reached(0).await).await;
    let before = yields().await;
    assert!(before >= 1);
    reached(again + 320).await;
    assert_eq!(yields().await, before, "it does not yield to runs of its own owner");
    for id in &endless {
        runs.cancel(&greedy, id, None).await.unwrap();
    }
    runs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_makes_place_is_not_waited_for() {
    let ground = Ground::new();
    let Process { runs, .. } = ground.process(1).await;
    let drive = |id: &str| {
        let handle = Arc::new(ControlHandle::new("a".into()));
        runs.0.driven().insert(id.into(), handle.clone());
        handle
    };
    let first = drive("1");
    assert!(!runs.has_place());
    first.ask_to_yield();
    assert!(runs.has_place(), "while the first writes its checkpoint");
    let second = drive("2");
    assert!(!runs.has_place());
    second.ask_to_yield();
    assert!(!runs.has_place(), "each that leaves needs memory");
    runs.0.driven().clear();
    assert!(runs.has_place());
    runs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_role_and_of_a_principal_are_named() {
    let ground = Ground::new();
    let Process { db, runs, .. } = ground.process_with(1, 0).await;
    let miner = TrainingCaller { role: TrainingRole::Miner, ..caller("key_m") };
    let refused = runs.create(&miner, (None, RunLabels::default()), work(1001), None).await.unwrap_err().to_string();
    assert_eq!(refused, "steps: 1001 is more than the 1000 that a run of yours may have (TRAINING_MAX_STEPS_MINER)");
    let mut queued = Vec::new();
    for _ in 0..3 {
        queued.push(runs.create(&miner, (None, RunLabels::default()), work(1000), None).await.unwrap().value.id);
    }
    let refused = runs.create(&miner, (None, RunLabels::default()), work(64), None).await;
    assert!(matches!(&refused, Err(RlError::Quota(why)) if why.contains("TRAINING_MAX_OPEN_RUNS")), "{refused:?}");
    // What a workflow's step asks for is stored as failed: the step has to end.
    let new = NewTrainingRun {
        id: "train_000000000001".into(),
        owner_id: "key_m".into(),
        policy: "p".into(),
        labels: RunLabels::default(),
        task: TrainingTask::Train(work(64)),
        feedback: None,
        limits: runs.limits(TrainingRole::Admin),
    };
    let (now, stored) = (runs.0.now(), new.clone());
    db.write(async move |tx: &mut Tx| enqueue_run(tx, &stored, now).await).await.unwrap();
    let failed = runs.get(&miner, &new.id).await.unwrap();
    assert_eq!(failed.status, RunStatus::Failed);
    assert!(failed.error.unwrap().contains("TRAINING_MAX_OPEN_RUNS"));
    // A paused run counts; one that has ended does not.
    runs.pause(&miner, &queued[0], None).await.unwrap();
    assert!(runs.create(&miner, (None, RunLabels::default()), work(64), None).await.is_err());
    // An admin may end what is another's.
    let admin = TrainingCaller { role: TrainingRole::Admin, ..caller("key_a") };
    assert!(matches!(runs.cancel(&caller("key_c"), &queued[0], None).await, Err(RlError::NotFound(_))));
    assert_eq!(runs.cancel(&admin, &queued[0], None).await.unwrap().value.status, RunStatus::Cancelled);
    runs.create(&miner, (None, RunLabels::default()), work(64), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_claimed_three_times_without_progress_is_given_up() {
    let ground = Ground::new();
    let Process { db, runs, .. } = ground.process_with(1, 0).await;
    let owner = caller("key_a");
    let id = runs.create(&owner, (None, RunLabels::default()), work(1000), None).await.unwrap().value.id;
    let checkpoint = async |steps: u64| {
        let (id, now) = (id.clone(), runs.0.now());
        let kept = Some(CheckpointRef { file: "f".into(), sha256: String::new(), steps });
        let progress = store::RunProgress { steps, seconds: 1.0, record: None, kept };
        db.write(async move |tx: &mut Tx| {
            store::mark_running(tx, &id, 0, 0.0, now).await?;
            store::save_progress(tx, &id, &progress).await
        })
        .await
        .unwrap();
    };
    for _ in 0..2 {
        assert!(runs.claim(&id).await.unwrap().is_some());
    }
    // A checkpoint is progress; one that is no further than those before is none.
    checkpoint(100).await;
    assert!(runs.claim(&id).await.unwrap().is_some());
    checkpoint(50).await;
    assert!(runs.claim(&id).await.unwrap().is_some());
    assert!(runs.claim(&id).await.unwrap().is_none(), "the third");
    let failed = runs.get(&owner, &id).await.unwrap();
    assert_eq!((failed.status, failed.checkpoint), (RunStatus::Failed, None));
    assert!(failed.error.unwrap().starts_with("given up: claimed 3 times without progress"));
    let told = runs.events(&owner, &id, 0, 100).await.unwrap();
    assert_eq!((told.last().unwrap().kind.as_str(), &told.last().unwrap().data["claims"]), ("failed", &json!(3)));
    assert!(runs.claim(&id).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_begins_anew_says_so_and_why() {
    let ground = Ground::new();
    let owner = caller("key_a");
    let first = ground.process(1).await;
    let id = first.runs.create(&owner, (None, RunLabels::default()), work(50_000_000), None).await.unwrap().value.id;
    until(&first.runs, &owner, &id, RunStatus::Running).await;
    first.runs.stop().await;
    let kept = first.runs.get(&owner, &id).await.unwrap().checkpoint.unwrap();
    first.db.close().await;
    let path = ground.0.path().join("training").join(&kept.file);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let second = ground.process(2).await;
    until(&second.runs, &owner, &id, RunStatus::Running).await;
    let told = second.runs.events(&owner, &id, 0, 10_000).await.unwrap();
    assert!(told.iter().all(|event| event.kind != "resumed"));
    let anew = told.iter().find(|event| event.kind == "restarted").unwrap();
    assert_eq!(anew.data["steps"], 0);
    let run = second.runs.get(&owner, &id).await.unwrap();
    assert_eq!((run.restarts, anew.data["reason"].as_str()), (1, run.restart_reason.as_deref()));
    assert!(run.restart_reason.unwrap().ends_with("cannot be used: the checkpoint's file has changed"));
    second.runs.cancel(&owner, &id, None).await.unwrap();
    second.runs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_evaluated_weights_become_the_version() {
    let ground = Ground::new();
    let Process { library, runs, .. } = ground.process(1).await;
    let owner = caller("key_a");
    let mut earlier = 0;
    for seed in 0..8 {
        let spec = TrainingSpec { evaluations: 6, seed, ..work(960) };
        let run = runs.create(&owner, (Some("p".into()), RunLabels::default()), spec, None).await.unwrap().value;
        let run = runs.ended(&run.id).await.unwrap();
        assert_eq!((run.status, run.evaluated.len()), (RunStatus::Completed, 6), "{:?}", run.error);
        let most = run.evaluated.iter().map(|point| point.mean).fold(f64::MIN, f64::max);
        let best = run.evaluated.iter().rev().find(|point| point.mean == most).unwrap();
        let version = library.version(&run.reference.unwrap().parse().unwrap()).await.unwrap();
        assert_eq!(version.training.unwrap()["weights_after_steps"], best.steps);
        earlier += u32::from(best.steps < 960);
    }
    assert!(earlier > 0, "the last were the best each time: nothing was tested");
    runs.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_moved_only_to_what_is_better_beyond_chance() {
    let ground = Ground::new();
    let Process { library, runs, .. } = ground.process(1).await;
    let owner = caller("key_a");
    let gated =
        |steps: u64| TrainingSpec { promote_if: Some(PromotionGate::Better), evaluation_episodes: 10, ..work(steps) };
    let refused = async |spec: TrainingSpec| {
        runs.create(&owner, (None, RunLabels::default()), spec, None).await.unwrap_err().to_string()
    };
    let few = TrainingSpec { evaluation_episodes: 9, ..gated(64) };
    assert!(refused(few).await.starts_with("evaluation_episodes: must be 10 or more"));
    assert!(refused(TrainingSpec { aliases: Vec::new(), ..gated(64) }).await.starts_with("promote_if: needs aliases"));
    let mut decided = Vec::new();
    for _ in 0..2 {
        let run = runs.create(&owner, (Some("p".into()), RunLabels::default()), gated(320), None).await.unwrap().value;
        let run = runs.ended(&run.id).await.unwrap();
        assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
        decided.push(run.promotion.unwrap().remove(0));
    }
    assert!(decided[0].promoted && decided[0].current.is_none(), "there was none before");
    // The same policy again is no better.
    assert!(!decided[1].promoted && decided[1].difference == Some(0.0), "{:?}", decided[1]);
    let policy = library.get("p").await.unwrap();
    assert_eq!((policy.aliases["production"], policy.latest), (1, 2));
    runs.stop().await;
}
