//! What a kind of work is: opened from its parameters or a checkpoint, advanced piece by piece, and settled at its end.

use std::{cell::RefCell, time::Instant};

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    error::WorkFault,
    model::{BackgroundWork, EndedWork},
};
use am_db::Tx;

/// A kind of work.
pub trait WorkKind: Send + Sync + 'static {
    /// Name of the kind, as it is stored.
    fn name(&self) -> &'static str;

    /// Begin the task, or go on from its checkpoint, on the task's own thread. Cheap, because it happens at each turn.
    ///
    /// # Errors
    /// [`WorkFault::Failed`] ends the task, for example when its inputs are gone.
    fn open(&self, context: &WorkContext, checkpoint: Option<&str>) -> Result<Box<dyn WorkMachine>, WorkFault>;

    /// Whether its tasks only ever wait for what others do, with pieces that compute nothing: they take no place, and begin at once.
    fn only_waits(&self) -> bool {
        false
    }

    /// Write what the kind keeps of a task's end, in the transaction that ends it, however it ended.
    fn settle<'a>(&'a self, _tx: &'a mut Tx, _ended: &'a EndedWork) -> BoxFuture<'a, am_db::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// A task under way.
pub trait WorkMachine {
    /// Do one bounded piece of work, of some milliseconds: a pause or cancellation waits for it.
    ///
    /// # Errors
    /// [`WorkFault::Failed`] ends the task, [`WorkFault::Db`] lets it go for now.
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault>;

    /// Whether it only waits at present for what others do, with pieces that compute nothing: its place is free for another task
    /// meanwhile.
    fn is_waiting(&self) -> bool {
        false
    }

    /// The whole state as text. What follows must be the same, bit for bit, whether the machine goes on or is opened from this.
    ///
    /// # Errors
    /// [`WorkFault::Failed`] when the state can't be written.
    fn checkpoint(&self) -> Result<String, WorkFault>;
}

/// What came of one piece of work.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkStep {
    /// There is more to do.
    Progress {
        /// Units done so far.
        done: u64,
        /// All units of the work.
        total: u64,
        /// Latest figures, for the task and its events.
        note: Option<Value>,
    },
    /// All is done, with this result.
    Done(Value),
}

/// What a task's work knows of its task.
pub struct WorkContext {
    task: BackgroundWork,
    runtime: tokio::runtime::Handle,
    before: f64,
    since: Instant,
    events: RefCell<Vec<(&'static str, Value)>>,
}

impl WorkContext {
    pub(crate) fn new(task: BackgroundWork, runtime: tokio::runtime::Handle, before: f64) -> Self {
        Self { task, runtime, before, since: Instant::now(), events: RefCell::default() }
    }

    /// The task, as it was when its process began it.
    pub fn task(&self) -> &BackgroundWork {
        &self.task
    }

    /// What the task is to do.
    ///
    /// # Errors
    /// [`WorkFault::Failed`] when they are those of another version of the service.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T, WorkFault> {
        serde_json::from_value(self.task.parameters.clone())
            .map_err(|error| WorkFault::Failed(format!("the task's parameters can't be read: {error}")))
    }

    /// Wait for a future, such as a read of the database.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Seconds worked so far, those in earlier processes up to the last checkpoint included.
    pub fn seconds(&self) -> f64 {
        self.before + self.since.elapsed().as_secs_f64()
    }

    /// Add an event to the task's stream. It is stored with the next report, at most a second later.
    pub fn event(&self, kind: &'static str, data: Value) {
        self.events.borrow_mut().push((kind, data));
    }

    pub(crate) fn take_events(&self) -> Vec<(&'static str, Value)> {
        self.events.take()
    }
}
