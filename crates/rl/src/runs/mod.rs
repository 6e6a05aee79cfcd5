//! Training runs: background work that survives its process.
//!
//! A run belongs to whoever holds the lock on its file, which the kernel gives back however the process dies. Another
//! process then finds it running by nobody, and goes on from its last checkpoint.

mod control;
mod driver;
mod evaluation;
mod follow;
mod handle;
mod lessons;
mod lock;
mod metrics;
mod model;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{driver::Driver, handle::Handle, lock::Lock, metrics::Metrics};
pub use self::{
    evaluation::{Scores, score, score_weights},
    lessons::Teaching,
    model::{
        Kept, Lesson, NewRun, Point, Request, RunFilter, RunStatus, Task, TrainingRun, Wish, Work, is_run_id, run_id,
    },
};
use super::{
    error::{Error, Result},
    library::{Library, blocking, check_aliases},
    model::PolicyReference,
};
use am_audit::{Audit, EventType};
use am_core::ambient::{Clock, Ids};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    page::Page,
    principal::Principal,
};
use am_events::Hub;

/// How often runs are looked for that nobody told this process of.
const LOOK: Duration = Duration::from_secs(1);
/// The most episodes of an evaluation.
pub const MOST_EPISODES: usize = 1000;

/// What a version reached.
#[derive(Clone, Debug)]
pub struct Measured {
    /// `name@version`.
    pub policy: String,
    /// Where.
    pub environment: String,
    /// What.
    pub scores: Scores,
}

/// How runs are trained.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Checkpoints.
    pub directory: PathBuf,
    /// Runs that this process trains at once; 0: none.
    pub slots: usize,
    /// Threads inside one operation of a run.
    pub threads: u32,
    /// How much training a crash may cost.
    pub checkpoint_every: Duration,
}

/// Training runs. Cheap to clone.
#[derive(Clone)]
pub struct Runs(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    hub: Hub,
    library: Library,
    settings: Settings,
    metrics: Metrics,
    /// Those that this process drives.
    driven: Mutex<HashMap<String, Arc<Handle>>>,
    wake: Notify,
    /// A run is driven no more.
    left: Notify,
    stop: CancellationToken,
    evaluating: tokio::sync::Mutex<()>,
}

impl Inner {
    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Remove the checkpoints of a run that has ended, also those that no row names.
    fn clean(&self, id: &str) {
        let Ok(entries) = fs::read_dir(&self.settings.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let own = name.to_str().is_some_and(|name| name.starts_with(id) && name.contains(".checkpoint"));
            if own {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn audit(&self) -> &Audit {
        self.library.audit()
    }

    fn driven(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Handle>>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runs {
    /// Runs in `db`, whose policies are `library`'s. Nothing is trained until [`Runs::work`].
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn new(db: Database, clock: Clock, ids: Ids, hub: Hub, library: Library, settings: Settings) -> Result<Self> {
        fs::create_dir_all(&settings.directory)
            .map_err(|error| Error::Storage(format!("{}", settings.directory.display()), error))?;
        let (metrics, driven, wake, left, stop, evaluating) = Default::default();
        Ok(Self(Arc::new(Inner {
            db,
            clock,
            ids,
            hub,
            library,
            settings,
            metrics,
            driven,
            wake,
            left,
            stop,
            evaluating,
        })))
    }

    /// Add the room's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// A run's id that is taken by nobody.
    pub fn new_id(&self) -> String {
        run_id(&self.0.ids.hex(12))
    }

    /// Queue a run of `caller`'s for a policy of theirs, or a new one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what can't be trained, [`Error::Forbidden`] for another owner's policy.
    pub async fn create(
        &self,
        caller: &Principal,
        policy: Option<String>,
        work: Work,
        once: Option<Once>,
    ) -> Result<Done<TrainingRun>> {
        let work = checked(work)?;
        let policy = policy.unwrap_or_else(|| default_policy(&work));
        self.0.library.may_publish(caller, &policy).await?;
        self.queue(caller, policy, Task::Train(work), None, once).await
    }

    async fn queue(
        &self,
        caller: &Principal,
        policy: String,
        task: Task,
        feedback: Option<String>,
        once: Option<Once>,
    ) -> Result<Done<TrainingRun>> {
        let owner_id = caller.name.to_string();
        let (new, now) = (NewRun { id: self.new_id(), owner_id, policy, task, feedback }, self.0.now());
        let audit = self.0.audit().clone();
        let entry = told(now, "queued").by(caller).execution(&new.id).data("policy", json!(new.policy));
        let entry = entry.change(None, Some(json!({"status": RunStatus::Queued})));
        let done = self
            .0
            .db
            .write_once(&self.0.clock, once, async move |tx: &mut Tx| {
                store::insert(tx, &new, now).await?;
                audit.append(tx, vec![entry]).await?;
                store::get(tx.conn().await?, &new.id).await?.ok_or_else(|| unknown(&new.id))
            })
            .await?;
        self.wake();
        Ok(done)
    }

    /// Look for runs to train now.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// One of `caller`'s runs.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn get(&self, caller: &Principal, id: &str) -> Result<TrainingRun> {
        let run = store::get(&mut *self.0.db.read().await?, id).await?.ok_or_else(|| unknown(id))?;
        allowed(caller, run)
    }

    /// A page of `caller`'s runs, newest first, and how many there are in all.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, caller: &Principal, filter: &RunFilter, page: &Page) -> Result<(Vec<TrainingRun>, i64)> {
        store::list(&mut *self.0.db.read().await?, caller, filter, page).await
    }

    /// One change of a run's state, with its entry in the audit log.
    async fn change<F>(
        &self,
        caller: &Principal,
        id: &str,
        action: &'static str,
        once: Option<Once>,
        change: F,
    ) -> Result<Done<TrainingRun>>
    where
        F: AsyncFnOnce(&mut Tx, &TrainingRun, Timestamp) -> Result<()> + Send + 'static,
    {
        let (caller, id, now, hub) = (caller.clone(), id.to_owned(), self.0.now(), self.0.hub.clone());
        let audit = self.0.audit().clone();
        let done = self
            .0
            .db
            .write_once::<_, Error, _>(&self.0.clock, once, async move |tx: &mut Tx| {
                let found = store::get(tx.conn().await?, &id).await?.ok_or_else(|| unknown(&id))?;
                let found = allowed(&caller, found)?;
                change(tx, &found, now).await?;
                let changed = store::get(tx.conn().await?, &id).await?.ok_or_else(|| unknown(&id))?;
                let state = |run: &TrainingRun| Some(json!({"status": run.status, "asked": run.wish}));
                let event = match changed.status {
                    RunStatus::Cancelled => EventType::ExecutionCancelled,
                    _ => EventType::WorkflowUpdated,
                };
                let entry = am_audit::Entry::new(event, now).of("training_run", action).by(&caller).execution(&id);
                audit.append(tx, vec![entry.change(state(&found), state(&changed))]).await?;
                tx.after_commit(move || hub.wake(&id));
                Ok(changed)
            })
            .await?;
        let run = &done.value;
        if run.status.is_final() {
            self.0.clean(&run.id);
        }
        self.told(&run.id, run.wish);
        Ok(done)
    }

    /// Something was asked of a run in the database: let its driver know, if it is here.
    pub fn told(&self, id: &str, wish: Option<Wish>) {
        if let Some(handle) = self.0.driven().get(id) {
            handle.ask(wish);
        }
        self.wake();
    }

    /// A run as it is when it has ended, or when `wait` is over.
    ///
    /// # Errors
    /// As [`Runs::get`].
    pub async fn wait(&self, caller: &Principal, id: &str, wait: Duration) -> Result<TrainingRun> {
        // A run that does not end in time is answered as it stands.
        let _ = tokio::time::timeout(wait, self.ended(id)).await;
        self.get(caller, id).await
    }

    /// The run, once it has ended. A database that can't be read for a moment is no reason to give up.
    pub async fn ended(&self, id: &str) -> Result<TrainingRun> {
        let mut subscription = self.0.hub.subscribe(id);
        loop {
            match self.look(id).await {
                Ok(Some(run)) => return Ok(run),
                Err(error @ Error::NotFound(_)) => return Err(error),
                Ok(None) => {}
                Err(error) => tracing::warn!(run = id, %error, "could not look at a training run; trying again"),
            }
            // Another process may drive it: then nothing wakes us.
            tokio::select! {
                () = subscription.woken() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look(&self, id: &str) -> Result<Option<TrainingRun>> {
        let run = {
            let mut conn = self.0.db.read().await?;
            match store::status(&mut conn, id).await?.ok_or_else(|| unknown(id))? {
                status if status.is_final() => store::get(&mut conn, id).await?,
                _ => return Ok(None),
            }
        };
        // Whoever hears of a version may ask for it at once.
        if run.as_ref().is_some_and(|run| run.version.is_some()) {
            self.0.library.refresh().await?;
        }
        Ok(run)
    }

    /// What a version reaches in whole episodes of an environment; of the one that it was trained on where none is named.
    /// One at a time: an evaluation computes for up to some seconds.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the environment is not known or does not fit.
    pub async fn evaluate(
        &self,
        reference: &PolicyReference,
        environment: Option<String>,
        parameters: Option<Value>,
        episodes: usize,
        seed: u64,
    ) -> Result<Measured> {
        if !(1..=MOST_EPISODES).contains(&episodes) {
            return Err(Error::invalid("episodes", format!("must be from 1 to {MOST_EPISODES}")));
        }
        let (record, weights) = self.0.library.weights(reference).await?;
        let Some(environment) = environment.or(record.environment) else {
            return Err(Error::invalid("environment", "is missing: the policy was not trained on one"));
        };
        let _one = self.0.evaluating.lock().await;
        let named = environment.clone();
        let scores = blocking(move || score_weights(&weights, named, parameters, episodes, seed));
        Ok(Measured { policy: record.reference, environment, scores: scores.await? })
    }

    /// Train what waits, as many runs at once as there are slots, until the room is stopped.
    pub async fn work(self) {
        if let Err(error) = self.sweep().await {
            tracing::warn!(%error, "could not look for checkpoints that nobody needs");
        }
        loop {
            if let Err(error) = self.take_up().await {
                tracing::warn!(%error, "could not look for training runs");
            }
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Remove the checkpoints of runs that have ended: their process died before it could.
    async fn sweep(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(&self.0.settings.directory) else { return Ok(()) };
        let mut conn = self.0.db.read().await?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.split_once(".checkpoint")?.0.split('.').next()) else {
                continue;
            };
            if store::status(&mut conn, id).await?.is_none_or(RunStatus::is_final) {
                self.0.clean(id);
            }
        }
        Ok(())
    }

    async fn take_up(&self) -> Result<()> {
        if self.0.driven().len() >= self.0.settings.slots {
            return Ok(());
        }
        let open = store::open(&mut *self.0.db.read().await?).await?;
        for id in open {
            if self.0.driven().len() >= self.0.settings.slots || self.0.stop.is_cancelled() {
                return Ok(());
            }
            if self.0.driven().contains_key(&id) {
                continue;
            }
            let Some(lock) = self.lock(&id) else { continue };
            // Read under the lock: whoever held it before may have ended the run.
            let run = store::get(&mut *self.0.db.read().await?, &id).await?;
            if let Some(run) = run.filter(|run| matches!(run.status, RunStatus::Queued | RunStatus::Running)) {
                self.drive(run, lock)?;
            }
        }
        Ok(())
    }

    fn drive(&self, run: TrainingRun, lock: Lock) -> Result<()> {
        let handle = Arc::new(Handle::default());
        handle.ask(run.wish);
        self.0.driven().insert(run.id.clone(), handle.clone());
        let driver = Driver::new(self.0.clone(), tokio::runtime::Handle::current(), handle, run);
        let spawned = thread::Builder::new().name("training".to_owned()).spawn(move || {
            driver.drive();
            drop(lock);
        });
        spawned.map(drop).map_err(|error| Error::Storage("a thread".into(), error))
    }

    /// Let every run go with a checkpoint; returns when that is done.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        loop {
            // The place is taken before the look, so that no end falls between the two.
            let mut left = std::pin::pin!(self.0.left.notified());
            left.as_mut().enable();
            if self.0.driven().is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// Store a run in the transaction of what asks for it; [`Runs::wake`] begins it after. The work is checked already.
///
/// # Errors
/// As the database.
pub async fn enqueue(tx: &mut Tx, new: &NewRun, now: Timestamp) -> Result<()> {
    store::insert(tx, new, now).await
}

/// End a run that nobody wants any more, at its next report if it is being trained. False: it has ended already.
///
/// # Errors
/// As the database.
pub async fn withdraw(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool> {
    match store::get(tx.conn().await?, id).await? {
        Some(run) if !run.status.is_final() => withdraw_run(tx, &run, now).await.map(|()| true),
        _ => Ok(false),
    }
}

/// What the audit log gets to know of a change of a run for which it has no word.
fn told(now: Timestamp, action: &str) -> am_audit::Entry {
    am_audit::Entry::new(EventType::WorkflowUpdated, now).of("training_run", action)
}

async fn withdraw_run(tx: &mut Tx, run: &TrainingRun, now: Timestamp) -> Result<()> {
    if run.status == RunStatus::Running {
        return store::wish(tx, &run.id, Some(Wish::Cancel)).await;
    }
    store::release(tx, &run.id, RunStatus::Cancelled, &store::Ending::default(), now).await?;
    store::tell(tx, &run.id, "cancelled", serde_json::json!({}), now).await
}

/// The work with every setting written out, if it can be done.
///
/// # Errors
/// [`Error::Invalid`] with what is wrong.
pub fn checked(work: Work) -> Result<Work> {
    if !(1..=MOST_EPISODES).contains(&work.evaluation_episodes) {
        return Err(Error::invalid("evaluation_episodes", format!("must be from 1 to {MOST_EPISODES}")));
    }
    if work.max_seconds.is_some_and(|seconds| !(seconds > 0.0 && seconds.is_finite())) {
        return Err(Error::invalid("max_seconds", "must be more than 0"));
    }
    check_aliases("aliases", &work.aliases)?;
    let plan = work.plan().whole().map_err(Error::of_plan)?;
    plan.check().map_err(Error::of_plan)?;
    Ok(Work { settings: plan.settings, ..work })
}

/// The policy that a run is for where none is named: `cartpole-v1-ppo`.
pub fn default_policy(work: &Work) -> String {
    format!("{}-{}", work.environment.to_lowercase(), String::from(work.algorithm).replace('_', "-"))
}

fn allowed(caller: &Principal, run: TrainingRun) -> Result<TrainingRun> {
    match caller.owns(&run.owner_id) {
        true => Ok(run),
        false => Err(Error::Forbidden("the training run is another owner's".into())),
    }
}

fn unknown(id: &str) -> Error {
    Error::NotFound(format!("there is no training run '{id}'"))
}
