//! Tasks on a real database: to their end, paused, cancelled, and from one process to the next.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::*;
use am_db::{idempotency::IdempotentResult, principal::Principal};
use futures_util::future::BoxFuture;

/// A database in a directory of its own, which several processes open one after the other.
struct Ground(tempfile::TempDir);

struct Process {
    db: Database,
    tasks: BackgroundTasks,
}

/// Adds numbers that its state makes, one at a time. It stops before number `stops_at`, until it is told to go on.
#[derive(Default)]
struct AddingKind {
    opened: AtomicU64,
    settled: Mutex<Vec<(WorkStatus, Option<Value>)>>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct AddingMachine {
    state: u64,
    sum: f64,
    at: u64,
    numbers: u64,
    nap: u64,
    waits: bool,
}

impl WorkMachine for AddingMachine {
    fn advance(&mut self, context: &WorkContext) -> std::result::Result<WorkStep, WorkFault> {
        if context.task().parameters["dies"] == true {
            return Err(WorkFault::Db(am_db::DatabaseError::TimedOut));
        }
        if context.task().parameters["fails_at"] == self.at {
            return Err(WorkFault::Failed("the number is gone".into()));
        }
        if context.task().parameters["panics_at"] == self.at {
            panic!("a fault in the work");
        }
        std::thread::sleep(Duration::from_millis(self.nap));
        if context.task().parameters["stands"] == true {
            return Ok(WorkStep::Progress { done: 1, total: self.numbers, note: None });
        }
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.sum += (self.state >> 11) as f64 / 2f64.powi(53);
        self.at += 1;
        if self.at == self.numbers {
            return Ok(WorkStep::Done(json!({"sum": self.sum})));
        }
        Ok(WorkStep::Progress { done: self.at, total: self.numbers, note: Some(json!({"sum": self.sum})) })
    }

    fn is_waiting(&self) -> bool {
        self.waits
    }

    fn checkpoint(&self) -> std::result::Result<String, WorkFault> {
        serde_json::to_string(self).map_err(|error| WorkFault::Failed(error.to_string()))
    }
}

impl WorkKind for AddingKind {
    fn name(&self) -> &'static str {
        "adding"
    }

    fn open(
        &self,
        context: &WorkContext,
        checkpoint: Option<&str>,
    ) -> std::result::Result<Box<dyn WorkMachine>, WorkFault> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let task = context.task();
        let (numbers, nap) =
            (task.parameters["numbers"].as_u64().unwrap(), task.parameters["nap"].as_u64().unwrap_or(0));
        let machine = match checkpoint {
            Some(text) => serde_json::from_str(text).map_err(|error| WorkFault::Failed(error.to_string()))?,
            None => {
                let waits = task.parameters["waits"] == true;
                AddingMachine { state: task.seed, sum: 0.0, at: 0, numbers, nap, waits }
            }
        };
        Ok(Box::new(machine))
    }

    fn settle<'a>(&'a self, _: &'a mut Tx, ended: &'a EndedWork) -> BoxFuture<'a, am_db::Result<()>> {
        self.settled.lock().push((ended.status, ended.result.clone()));
        Box::pin(async { Ok(()) })
    }
}

impl Ground {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn process(&self, seed: u64, slots: usize) -> (Process, Arc<AddingKind>) {
        let settings = am_db::DatabaseSettings { readers: 2, busy_timeout: Duration::from_secs(10) };
        let db = Database::open(&self.0.path().join("t.db"), &settings).await.unwrap();
        let (clock, ids) = (Clock::system(), IdGenerator::seeded(seed));
        am_db::migrate(&db, &clock).await.unwrap();
        let log = am_audit::AuditSettings { origin: "test".into(), every: Duration::from_secs(60) };
        let signer = am_core::crypto::Signer::from_hex(&"17".repeat(32)).unwrap();
        let webhooks =
            am_webhooks::WebhookService::new(db.clone(), clock.clone(), ids.clone(), &Default::default()).unwrap();
        let audit = AuditLog::new(db.clone(), clock.clone(), ids.clone(), webhooks, signer, log);
        let settings = BackgroundSettings {
            slots,
            checkpoint_every: Duration::ZERO,
            slice: Duration::from_millis(50),
            open_tasks: 4,
        };
        let tasks = BackgroundTasks::new(db.clone(), clock, ids, audit, StreamHub::default(), settings);
        let kind = Arc::new(AddingKind::default());
        tasks.register_kind(kind.clone());
        tokio::spawn(tasks.clone().work());
        (Process { db, tasks }, kind)
    }
}

impl Process {
    async fn submit(&self, owner: &str, parameters: Value) -> Result<BackgroundWork> {
        let (tasks, owner_id) = (self.tasks.clone(), owner.into());
        let new = NewWork {
            id: tasks.new_id(),
            kind: "adding",
            owner_id,
            subject: "numbers".into(),
            parameters,
            seed: 7,
            limited: true,
        };
        let now = tasks.0.now();
        self.db.write(async move |tx: &mut Tx| tasks.submit(tx, new, now).await).await
    }

    async fn ended(&self, task: &BackgroundWork) -> BackgroundWork {
        self.tasks.wait(&task.id, Duration::from_secs(30)).await.unwrap()
    }

    async fn event_kinds(&self, task: &BackgroundWork) -> Vec<String> {
        let events = self.tasks.events(&caller(&task.owner_id), &task.id, 0, 1000).await.unwrap();
        let mut kinds: Vec<String> = events.into_iter().map(|event| event.kind).collect();
        kinds.dedup();
        kinds
    }

    /// Wait until the task has come on since `from`.
    async fn came_on(&self, task: &BackgroundWork, from: u64) -> BackgroundWork {
        let mut subscription = self.tasks.0.hub.subscribe(&task.id);
        loop {
            let found = self.tasks.get(&caller(&task.owner_id), &task.id).await.unwrap();
            if found.done > from || found.status.is_final() {
                return found;
            }
            subscription.wait_for_wake().await;
        }
    }
}

fn caller(name: &str) -> WorkCaller {
    let principal = Principal { name: name.into(), aliases: [name.to_owned()].into(), agent: None, origin: None };
    WorkCaller { principal, is_admin: false }
}

fn expected(numbers: u64) -> Value {
    let (mut state, mut sum) = (7u64, 0.0);
    for _ in 0..numbers {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sum += (state >> 11) as f64 / 2f64.powi(53);
    }
    json!({"sum": sum})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_ends_with_its_result_and_tells_its_kind() {
    let ground = Ground::new();
    let (process, kind) = ground.process(1, 1).await;
    let task = process.submit("key_a", json!({"numbers": 20})).await.unwrap();
    assert_eq!((task.status, task.progress), (WorkStatus::Queued, None));
    let ended = process.ended(&task).await;
    assert_eq!((ended.status, ended.result, ended.progress), (WorkStatus::Completed, Some(expected(20)), Some(1.0)));
    assert_eq!(process.event_kinds(&task).await, ["queued", "started", "progress", "completed"]);
    assert_eq!(*kind.settled.lock(), [(WorkStatus::Completed, Some(expected(20)))]);
    let stranger = process.tasks.get(&caller("key_b"), &task.id).await;
    assert!(matches!(stranger, Err(WorkError::NotFound(_))));
    process.tasks.stop().await;
    let files = std::fs::read_dir(ground.0.path()).unwrap();
    let locks = files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".lock")).count();
    assert_eq!(locks, 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_from_process_to_process_to_the_same_result() {
    let ground = Ground::new();
    let (first, _) = ground.process(1, 1).await;
    let task = first.submit("key_a", json!({"numbers": 400, "nap": 1})).await.unwrap();
    first.came_on(&task, 0).await;
    first.tasks.stop().await;
    let found = first.tasks.get(&caller("key_a"), &task.id).await.unwrap();
    assert!(found.status == WorkStatus::Queued && found.done < 400, "{found:?}");
    let (second, kind) = ground.process(2, 1).await;
    let ended = second.ended(&task).await;
    assert_eq!((ended.status, ended.result), (WorkStatus::Completed, Some(expected(400))));
    assert_eq!(kind.opened.load(Ordering::Relaxed), 1);
    let kinds = second.event_kinds(&task).await;
    assert!(kinds.contains(&"released".to_owned()) && kinds.contains(&"resumed".to_owned()), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_why_and_what_never_comes_on_is_given_up() {
    let ground = Ground::new();
    let (process, kind) = ground.process(1, 1).await;
    let failing = process.submit("key_a", json!({"numbers": 9, "fails_at": 3})).await.unwrap();
    let ended = process.ended(&failing).await;
    assert_eq!((ended.status, ended.error.as_deref()), (WorkStatus::Failed, Some("the number is gone")));
    let panicking = process.submit("key_a", json!({"numbers": 9, "panics_at": 3})).await.unwrap();
    let ended = process.ended(&panicking).await;
    assert!(ended.error.unwrap().contains("internal error"));
    let dying = process.submit("key_a", json!({"numbers": 9, "dies": true})).await.unwrap();
    let ended = process.ended(&dying).await;
    assert!(ended.error.unwrap().starts_with("given up: claimed 3 times without progress"));
    assert_eq!(kind.settled.lock().len(), 3, "each end is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_paused_resumed_and_cancelled_within_a_second() {
    let ground = Ground::new();
    let (process, kind) = ground.process(1, 1).await;
    let owner = caller("key_a");
    let task = process.submit("key_a", json!({"numbers": 1_000_000, "nap": 1})).await.unwrap();
    process.came_on(&task, 0).await;
    process.tasks.pause(&owner, &task.id, None).await.unwrap();
    let mut subscription = process.tasks.0.hub.subscribe(&task.id);
    let paused = loop {
        let found = process.tasks.get(&owner, &task.id).await.unwrap();
        if found.status == WorkStatus::Paused {
            break found;
        }
        subscription.wait_for_wake().await;
    };
    let refused = process.tasks.pause(&owner, &task.id, None).await;
    assert!(matches!(refused, Err(WorkError::InvalidState(text)) if text.contains("paused")));
    let IdempotentResult { value: queued, .. } = process.tasks.resume(&owner, &task.id, None).await.unwrap();
    assert_eq!(queued.status, WorkStatus::Queued);
    process.came_on(&task, paused.done).await;
    let asked = std::time::Instant::now();
    process.tasks.cancel(&owner, &task.id, None).await.unwrap();
    let ended = process.ended(&task).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!((ended.status, ended.result), (WorkStatus::Cancelled, None));
    assert_eq!(*kind.settled.lock(), [(WorkStatus::Cancelled, None)]);
    assert!(matches!(process.tasks.cancel(&owner, &task.id, None).await, Err(WorkError::InvalidState(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_share_the_place_and_a_principal_has_a_limit() {
    let ground = Ground::new();
    let (process, _) = ground.process(1, 1).await;
    let long = process.submit("key_a", json!({"numbers": 1_000_000, "nap": 1})).await.unwrap();
    for _ in 0..3 {
        process.submit("key_a", json!({"numbers": 1_000_000, "nap": 1})).await.unwrap();
    }
    assert!(matches!(process.submit("key_a", json!({"numbers": 1})).await, Err(WorkError::Quota(_))));
    process.came_on(&long, 0).await;
    let other = process.submit("key_b", json!({"numbers": 100, "nap": 1})).await.unwrap();
    let ended = process.ended(&other).await;
    assert_eq!(
        (ended.status, ended.result),
        (WorkStatus::Completed, Some(expected(100))),
        "it did not wait for the others"
    );
    let kinds = process.event_kinds(&long).await;
    assert!(kinds.contains(&"released".to_owned()), "{kinds:?}");
    process.tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_only_waits_holds_no_place() {
    let ground = Ground::new();
    let (process, _) = ground.process(1, 1).await;
    let waiting = process.submit("key_a", json!({"numbers": 1_000_000, "nap": 1, "waits": true})).await.unwrap();
    process.came_on(&waiting, 0).await;
    for _ in 0..2 {
        let task = process.submit("key_a", json!({"numbers": 20})).await.unwrap();
        assert_eq!(process.ended(&task).await.status, WorkStatus::Completed);
    }
    assert_eq!(process.tasks.get(&caller("key_a"), &waiting.id).await.unwrap().status, WorkStatus::Running);
    process.tasks.stop().await;
    let released = process.tasks.get(&caller("key_a"), &waiting.id).await.unwrap();
    assert_eq!(released.status, WorkStatus::Queued, "it is let go with the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_writes_only_what_changes() {
    let ground = Ground::new();
    let (process, kind) = ground.process(1, 1).await;
    let parameters = json!({"numbers": 1_000_000, "nap": 5, "waits": true, "stands": true});
    let waiting = process.submit("key_a", parameters).await.unwrap();
    process.came_on(&waiting, 0).await;
    let mut subscription = process.tasks.0.hub.subscribe(&waiting.id);
    let mut written = 0;
    while tokio::time::timeout(Duration::from_secs(3), subscription.wait_for_wake()).await.is_ok() {
        written += 1;
        assert!(written < 3, "it writes though nothing changes");
    }
    process.tasks.cancel(&caller("key_a"), &waiting.id, None).await.unwrap();
    assert_eq!(process.ended(&waiting).await.status, WorkStatus::Cancelled);
    assert_eq!(*kind.settled.lock(), [(WorkStatus::Cancelled, None)]);
}
