//! Pool of worker processes. Requests of several principals are served in turn, and no principal occupies all workers.

use am_core::boxed;
use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    evaluation::{JqError, JqOutput, JqSettings, JqStats, SchemaResult},
    process::{PendingEvaluation, WorkerCommand, WorkerFailure, WorkerPlace, WorkerProcess},
    queue::RequestQueue,
};
use am_core::ids::PrincipalId;
use am_jq_worker::protocol::{MAX_INPUT_BYTES, TaskKind};

/// Number of workers killed from outside after which their request fails: it may be the cause.
const MAX_INTERRUPTIONS: u8 = 3;

/// Pool of workers. Clones share it; the workers end with [`JqPool::shutdown`] or with the last clone.
#[derive(Clone)]
pub struct JqPool {
    inner: Arc<JqPoolInner>,
    /// Principal whose turn a request takes.
    client: PrincipalId,
}

struct JqPoolInner {
    queue: Arc<RequestQueue>,
    stats: Arc<JqStats>,
    closing: CancellationToken,
    keepers: TaskTracker,
}

impl Drop for JqPoolInner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl JqPool {
    /// Start the workers and wait until they are ready. A worker is `program` with `args` and two more arguments, and
    /// has to call [`am_jq_worker::main`]. An executable that does not start as a worker is an error.
    #[boxed]
    pub async fn start(program: PathBuf, args: Vec<String>, settings: JqSettings) -> io::Result<Self> {
        let (pool, keepers) = Self::open(program, args, settings).await?;
        keepers.into_iter().for_each(|keeper| drop(tokio::spawn(keeper)));
        Ok(pool)
    }

    /// The same as [`JqPool::start`], with the tasks that keep the workers, one each, for the caller to run. They end with
    /// [`JqPool::shutdown`].
    pub async fn open(
        program: PathBuf,
        args: Vec<String>,
        settings: JqSettings,
    ) -> io::Result<(Self, Vec<impl Future<Output = ()> + Send + 'static>)> {
        let workers = settings.workers.max(1);
        let keeper = WorkerSupervisor {
            queue: Arc::new(RequestQueue::new(workers)),
            place: WorkerPlace::Common,
            launch: Arc::new(WorkerCommand { program, args, settings }),
            stats: Arc::new(JqStats::default()),
            closing: CancellationToken::new(),
        };
        let inner = JqPoolInner {
            queue: keeper.queue.clone(),
            stats: keeper.stats.clone(),
            closing: keeper.closing.clone(),
            keepers: TaskTracker::new(),
        };
        let keepers =
            (0..workers).map(|worker| WorkerSupervisor { place: keeper.queue.place_of(worker), ..keeper.clone() });
        let started = keepers.map(async |keeper| {
            Ok::<_, io::Error>((WorkerProcess::start(&keeper.launch, keeper.place).await?, keeper))
        });
        let started = futures_util::future::try_join_all(started).await?;
        let keepers = started.into_iter().map(|(worker, keeper)| inner.keepers.track_future(keeper.run(worker)));
        let keepers = keepers.collect();
        inner.keepers.close();
        Ok((Self { inner: Arc::new(inner), client: PrincipalId::default() }, keepers))
    }

    /// Return the same pool for requests of this principal, which take turns with those of others.
    #[must_use]
    pub fn for_client(&self, client: &PrincipalId) -> Self {
        Self { inner: self.inner.clone(), client: client.clone() }
    }

    /// Evaluate `program` on `input`. An evaluation has no effect outside its worker: one whose worker is killed from
    /// outside is repeated, and dropping the future only drops the answer.
    #[boxed]
    pub async fn eval(&self, program: Arc<str>, input: Arc<RawValue>) -> Result<JqOutput, JqError> {
        self.ask(TaskKind::Jq, program, input).await
    }

    /// Validate `instance` by `schema`, a JSON Schema's text (see [`am_json_schema::CompiledSchema`]), within the
    /// same limits as a program.
    #[boxed]
    pub async fn validate(&self, schema: Arc<str>, instance: Arc<RawValue>) -> Result<SchemaResult, JqError> {
        let JqOutput { output, seconds } = self.ask(TaskKind::Schema, schema, instance).await?;
        let violations = serde_json::from_str(output.get()).map_err(|error| JqError::Program(error.to_string()))?;
        Ok(SchemaResult { violations, seconds })
    }

    /// Compile a jq program or a schema without evaluating it; return the wall-clock seconds in the worker.
    #[boxed]
    pub(super) async fn compile(&self, task: TaskKind, text: Arc<str>) -> Result<f64, JqError> {
        let none = RawValue::from_string("null".into()).map_err(|error| JqError::Program(error.to_string()))?;
        Ok(self.ask(task, text, Arc::from(none)).await?.seconds)
    }

    async fn ask(&self, task: TaskKind, text: Arc<str>, input: Arc<RawValue>) -> Result<JqOutput, JqError> {
        if input.get().len() > MAX_INPUT_BYTES {
            return Err(JqError::InputTooLarge { limit: MAX_INPUT_BYTES });
        }
        if text.len() > task.max_text() {
            return Err(JqError::Program(format!(
                "a text of {} bytes, at most {} are taken",
                text.len(),
                task.max_text()
            )));
        }
        let _waiting = WaitingGuard::new(&self.inner.stats);
        let (reply, answer) = oneshot::channel();
        let request = PendingEvaluation { task, text, input, reply, interrupted: 0 };
        self.inner.queue.push(&self.client, request);
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or(Err(JqError::PoolClosed)),
            () = self.inner.closing.cancelled() => Err(JqError::PoolClosed),
        }
    }

    /// Return the counters.
    pub fn stats(&self) -> &JqStats {
        &self.inner.stats
    }

    /// End the workers at once and wait until they are gone. Pending and later evaluations get [`JqError::PoolClosed`].
    #[boxed]
    pub async fn shutdown(&self) {
        self.inner.closing.cancel();
        self.inner.queue.clear();
        self.inner.keepers.wait().await;
    }
}

/// Counts a caller while it waits.
struct WaitingGuard<'a>(&'a JqStats);

impl<'a> WaitingGuard<'a> {
    fn new(stats: &'a JqStats) -> Self {
        stats.waiting.fetch_add(1, Relaxed);
        Self(stats)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// Task that supervises one worker.
#[derive(Clone)]
struct WorkerSupervisor {
    queue: Arc<RequestQueue>,
    place: WorkerPlace,
    launch: Arc<WorkerCommand>,
    stats: Arc<JqStats>,
    closing: CancellationToken,
}

impl WorkerSupervisor {
    async fn run(self, worker: WorkerProcess) {
        let mut worker = Some(worker);
        let closing = self.closing.clone();
        let _ = closing.run_until_cancelled(self.work(&mut worker)).await;
        if let Some(mut worker) = worker {
            let _ = worker.end().await;
        }
    }

    /// Serve requests until the pool is closed.
    async fn work(&self, worker: &mut Option<WorkerProcess>) {
        loop {
            if worker.is_none() {
                // Respawn at once, so that the next request finds a worker; if that fails, it is retried with the next
                // request.
                *worker = self.respawn().await.ok();
            }
            let mut batch = self.queue.take(self.place).await;
            let began = Instant::now();
            self.answer(&mut batch.requests, worker).await;
            batch.charge(began.elapsed());
        }
    }

    async fn answer(&self, batch: &mut VecDeque<PendingEvaluation>, slot: &mut Option<WorkerProcess>) {
        while !batch.is_empty() {
            let worker = match slot {
                Some(worker) => worker,
                None => match self.respawn().await {
                    Ok(worker) => slot.insert(worker),
                    Err(error) => {
                        let why = error.to_string();
                        batch
                            .drain(..)
                            .for_each(|request| drop(request.reply.send(Err(JqError::NoWorker(why.clone())))));
                        return;
                    }
                },
            };
            if let Err(failure) = worker.evaluate(batch, &self.launch, &self.stats).await {
                let _ = worker.end().await;
                let fresh = worker.answered == 0;
                *slot = None;
                self.fail_current(batch, failure, fresh);
            }
        }
    }

    /// Answer the request that was being evaluated, or leave it to be repeated: by a fresh worker if this one may have
    /// run out of memory because of earlier requests. The requests behind it are not affected.
    fn fail_current(&self, batch: &mut VecDeque<PendingEvaluation>, failure: WorkerFailure, fresh: bool) {
        let Some(mut request) = batch.pop_front() else { return };
        let error = match failure {
            // It may have been stopped from outside, and is tried once more.
            WorkerFailure::Starved if request.interrupted == 0 => {
                request.interrupted += 1;
                return batch.push_front(request);
            }
            WorkerFailure::Timeout | WorkerFailure::Starved => {
                self.stats.timeouts.fetch_add(1, Relaxed);
                JqError::Timeout { limit: self.launch.settings.timeout }
            }
            WorkerFailure::Killed if request.interrupted + 1 < MAX_INTERRUPTIONS => {
                request.interrupted += 1;
                return batch.push_front(request);
            }
            WorkerFailure::Crashed if !fresh => return batch.push_front(request),
            WorkerFailure::Killed | WorkerFailure::Crashed => {
                self.stats.crashes.fetch_add(1, Relaxed);
                JqError::Crashed
            }
        };
        let _ = request.reply.send(Err(error));
    }

    async fn respawn(&self) -> io::Result<WorkerProcess> {
        let worker = WorkerProcess::start(&self.launch, self.place).await?;
        self.stats.respawns.fetch_add(1, Relaxed);
        Ok(worker)
    }
}
