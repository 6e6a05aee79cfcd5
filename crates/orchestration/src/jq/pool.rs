//! The workers, and the queue before them.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::value::RawValue;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::process::{Failure, Request, Worker};
use am_jq_worker::protocol::{MAX_INPUT, Task};
use am_jq_worker::schema::Violation;

/// Requests that may wait; beyond it callers of [`Pool::eval`] wait for a place.
const QUEUE: usize = 1024;
/// Requests that are handed to a worker at once.
const BATCH: usize = 16;
/// No further request joins a batch that has this many bytes of input.
const BATCH_BYTES: usize = 1 << 20;
/// A request is given up when this many workers were killed from outside under it: it may be the reason.
const INTERRUPTIONS: u8 = 3;

/// How much an evaluation may take, and how many run at once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Worker processes, at least 1.
    pub workers: usize,
    /// For one evaluation.
    pub timeout: Duration,
    /// The largest output, in bytes of JSON.
    pub max_output: usize,
    /// Address space of one worker beyond what the executable itself maps, in MiB. A quarter of it (1 to 256 MiB)
    /// is stack.
    pub memory_mb: u64,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program failed; in jq's words, or those of its own `error`.
    #[error("{0}")]
    Program(String),
    /// The evaluation took too long and was killed.
    #[error("the program ran longer than {} s", .limit.as_secs_f64())]
    Timeout {
        /// What was allowed.
        limit: Duration,
    },
    /// The output is too long.
    #[error("the output is larger than {limit} bytes")]
    OutputTooLarge {
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// The input is too long.
    #[error("the input is larger than {limit} bytes")]
    InputTooLarge {
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// The worker died of the program.
    #[error("the program ran out of memory or stack")]
    Crashed,
    /// No worker could be started. Another attempt may succeed.
    #[error("no jq worker: {0}")]
    NoWorker(String),
    /// The pool was shut down.
    #[error("the jq workers are shut down")]
    PoolClosed,
}

/// What came out.
#[derive(Debug)]
pub struct Evaluated {
    /// The program's one output.
    pub output: Box<RawValue>,
    /// Wall-clock seconds that the worker took, from the input's text to the output's.
    pub seconds: f64,
}

/// What a schema says of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The first ten; none: the instance is valid.
    pub violations: Vec<Violation>,
    /// Wall-clock seconds that the worker took.
    pub seconds: f64,
}

/// What the pool counts, since its start.
#[derive(Debug, Default)]
pub struct Stats {
    evaluations: AtomicU64,
    timeouts: AtomicU64,
    crashes: AtomicU64,
    respawns: AtomicU64,
    waiting: AtomicUsize,
}

impl Stats {
    /// Evaluations that a worker answered, also with an error.
    pub fn evaluations(&self) -> u64 {
        self.evaluations.load(Relaxed)
    }

    /// Evaluations that were killed for their time.
    pub fn timeouts(&self) -> u64 {
        self.timeouts.load(Relaxed)
    }

    /// Evaluations that took their worker down.
    pub fn crashes(&self) -> u64 {
        self.crashes.load(Relaxed)
    }

    /// Workers started in place of another.
    pub fn respawns(&self) -> u64 {
        self.respawns.load(Relaxed)
    }

    /// Evaluations that are asked for and not answered yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    pub(super) fn count_evaluation(&self) {
        self.evaluations.fetch_add(1, Relaxed);
    }
}

/// How a worker is started.
pub(super) struct Launch {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub settings: Settings,
}

/// The workers. Clones share them; they end with [`Pool::shutdown`] or with the last clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<Request>,
    stats: Arc<Stats>,
    closing: CancellationToken,
    keepers: TaskTracker,
}

impl Pool {
    /// Starts the workers and waits until they are ready. A worker is `program` with `args` and two more, and has to
    /// call [`super::worker::main`]. An executable that does not come up as a worker is an error here.
    pub async fn start(program: PathBuf, args: Vec<String>, settings: Settings) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let keeper = Keeper {
            queue: Arc::new(Mutex::new(receiver)),
            launch: Arc::new(Launch { program, args, settings }),
            stats: Arc::new(Stats::default()),
            closing: CancellationToken::new(),
        };
        let inner = Inner {
            queue: sender,
            stats: keeper.stats.clone(),
            closing: keeper.closing.clone(),
            keepers: TaskTracker::new(),
        };
        let workers = (0..keeper.launch.settings.workers.max(1)).map(|_| Worker::start(&keeper.launch));
        for worker in futures_util::future::try_join_all(workers).await? {
            inner.keepers.spawn(keeper.clone().run(worker));
        }
        inner.keepers.close();
        Ok(Self(Arc::new(inner)))
    }

    /// Evaluates `program` on `input`. An evaluation has no effect outside of its worker: one whose worker is killed
    /// from outside is run again, and dropping the future only drops the answer.
    pub async fn eval(&self, program: Arc<str>, input: Arc<RawValue>) -> Result<Evaluated, Error> {
        self.ask(Task::Jq, program, input).await
    }

    /// What in `instance` breaks `schema`, a JSON Schema's text: [`am_jq_worker::schema::Schema`], within the
    /// same limits as a program.
    pub async fn validate(&self, schema: Arc<str>, instance: Arc<RawValue>) -> Result<Verdict, Error> {
        let Evaluated { output, seconds } = self.ask(Task::Schema, schema, instance).await?;
        let violations = serde_json::from_str(output.get()).map_err(|error| Error::Program(error.to_string()))?;
        Ok(Verdict { violations, seconds })
    }

    async fn ask(&self, task: Task, text: Arc<str>, input: Arc<RawValue>) -> Result<Evaluated, Error> {
        if input.get().len() > MAX_INPUT {
            return Err(Error::InputTooLarge { limit: MAX_INPUT });
        }
        if text.len() > task.max_text() {
            return Err(Error::Program(format!(
                "a text of {} bytes, at most {} are taken",
                text.len(),
                task.max_text()
            )));
        }
        let _waiting = Waiting::new(&self.0.stats);
        let (reply, answer) = oneshot::channel();
        let request = Request { task, text, input, reply, interrupted: 0 };
        self.0.queue.send(request).await.map_err(|_| Error::PoolClosed)?;
        answer.await.unwrap_or(Err(Error::PoolClosed))
    }

    /// What has been counted.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// Ends the workers at once and waits until they are gone. Whoever waits for an evaluation gets
    /// [`Error::PoolClosed`], and so does whoever asks later.
    pub async fn shutdown(&self) {
        self.0.closing.cancel();
        self.0.keepers.wait().await;
    }
}

/// Counts a caller for as long as it waits.
struct Waiting<'a>(&'a Stats);

impl<'a> Waiting<'a> {
    fn new(stats: &'a Stats) -> Self {
        stats.waiting.fetch_add(1, Relaxed);
        Self(stats)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// The task that owns one worker.
#[derive(Clone)]
struct Keeper {
    queue: Arc<Mutex<mpsc::Receiver<Request>>>,
    launch: Arc<Launch>,
    stats: Arc<Stats>,
    closing: CancellationToken,
}

impl Keeper {
    async fn run(self, worker: Worker) {
        let mut worker = Some(worker);
        let closing = self.closing.clone();
        let _ = closing.run_until_cancelled(self.work(&mut worker)).await;
        if let Some(mut worker) = worker {
            let _ = worker.end().await;
        }
    }

    /// Until all pools are dropped.
    async fn work(&self, worker: &mut Option<Worker>) {
        let mut batch = VecDeque::with_capacity(BATCH);
        loop {
            if worker.is_none() {
                // At once, so that the next request finds it ready; one that fails is tried again with a request.
                *worker = self.respawn().await.ok();
            }
            if !self.take(&mut batch).await {
                return;
            }
            self.answer(&mut batch, worker).await;
        }
    }

    /// Waits for requests and takes this worker's share of those that are there.
    async fn take(&self, batch: &mut VecDeque<Request>) -> bool {
        let mut queue = self.queue.lock().await;
        let Some(first) = queue.recv().await else { return false };
        let share = 1 + (queue.len() / self.launch.settings.workers.max(1)).min(BATCH - 1);
        let mut bytes = first.input.get().len();
        batch.push_back(first);
        while batch.len() < share && bytes < BATCH_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.input.get().len();
            batch.push_back(next);
        }
        batch.retain(|request| !request.reply.is_closed());
        true
    }

    async fn answer(&self, batch: &mut VecDeque<Request>, slot: &mut Option<Worker>) {
        while !batch.is_empty() {
            let worker = match slot {
                Some(worker) => worker,
                None => match self.respawn().await {
                    Ok(worker) => slot.insert(worker),
                    Err(error) => {
                        let why = error.to_string();
                        batch.drain(..).for_each(|request| drop(request.reply.send(Err(Error::NoWorker(why.clone())))));
                        return;
                    }
                },
            };
            if let Err(failure) = worker.evaluate(batch, &self.launch, &self.stats).await {
                let _ = worker.end().await;
                *slot = None;
                self.blame(batch, failure);
            }
        }
    }

    /// Answers the request that was being evaluated, or leaves it to be evaluated again. The ones behind it are innocent.
    fn blame(&self, batch: &mut VecDeque<Request>, failure: Failure) {
        let Some(mut request) = batch.pop_front() else { return };
        let error = match failure {
            Failure::Timeout => {
                self.stats.timeouts.fetch_add(1, Relaxed);
                Error::Timeout { limit: self.launch.settings.timeout }
            }
            Failure::Killed if request.interrupted + 1 < INTERRUPTIONS => {
                request.interrupted += 1;
                return batch.push_front(request);
            }
            Failure::Killed | Failure::Crashed => {
                self.stats.crashes.fetch_add(1, Relaxed);
                Error::Crashed
            }
        };
        let _ = request.reply.send(Err(error));
    }

    async fn respawn(&self) -> io::Result<Worker> {
        let worker = Worker::start(&self.launch).await?;
        self.stats.respawns.fetch_add(1, Relaxed);
        Ok(worker)
    }
}
