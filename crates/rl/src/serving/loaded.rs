//! The versions that are loaded, each behind its thread: made when first asked for, the least recently used ones let go
//! when they take more memory than they may.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use tch::TchError;
use tokio::sync::oneshot;

use super::{
    catalogue::Version,
    metrics::Metrics,
    worker::{Answer, Model, Worker},
};
use crate::{
    builtin,
    model::ActError,
    network::{Evaluation, Network},
};
use am_core::crypto::sha256_hex;

/// A version that answers.
pub(super) struct Loaded {
    worker: Worker,
    size: usize,
}

impl Loaded {
    /// Puts states, one after the other, into the queue.
    pub(super) fn ask(&self, states: Vec<f32>, exact: bool) -> Result<oneshot::Receiver<Answer>, ActError> {
        self.worker.ask(states, exact)
    }
}

/// Where weights lie: `DIRECTORY/<sha256>.safetensors`.
pub fn weights_path(directory: &Path, sha256: &str) -> PathBuf {
    directory.join(format!("{sha256}.safetensors"))
}

/// The file of this hash, if it is whole.
///
/// # Errors
/// [`ActError::Storage`].
pub fn read_weights(directory: &Path, sha256: &str) -> Result<Vec<u8>, ActError> {
    if sha256 == builtin::BUILTIN_SHA256 {
        return Ok(builtin::BYTES.to_vec());
    }
    let path = weights_path(directory, sha256);
    let bytes = fs::read(&path).map_err(|error| ActError::Storage(format!("{}: {error}", path.display())))?;
    let found = sha256_hex(&bytes);
    match found == sha256 {
        true => Ok(bytes),
        false => Err(ActError::Storage(format!("{}: its SHA-256 is {found}", path.display()))),
    }
}

/// The loaded versions.
pub(super) struct Pool {
    directory: PathBuf,
    memory: usize,
    window: Duration,
    metrics: Metrics,
    present: Mutex<Present>,
    /// One is loaded at a time: a second caller finds it there.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Present {
    /// By `name@version`.
    loaded: HashMap<String, Used>,
    /// Counts uses.
    now: u64,
    stopped: bool,
}

struct Used {
    version: Arc<Loaded>,
    last: u64,
}

impl Present {
    fn use_of(&mut self, reference: &str) -> Option<Arc<Loaded>> {
        self.now += 1;
        let used = self.loaded.get_mut(reference)?;
        used.last = self.now;
        Some(used.version.clone())
    }

    /// Take out the least recently used until what is there fits into `memory`, but not the last one.
    fn shrink(&mut self, memory: usize) -> Vec<(String, Arc<Loaded>)> {
        let mut out = Vec::new();
        while self.loaded.len() > 1 && self.size() > memory {
            let oldest = self.loaded.iter().min_by_key(|(_, used)| used.last).map(|(name, _)| name.clone());
            out.extend(oldest.and_then(|name| self.loaded.remove(&name).map(|used| (name, used.version))));
        }
        out
    }

    fn size(&self) -> usize {
        self.loaded.values().map(|used| used.version.size).sum()
    }
}

impl Pool {
    pub(super) fn new(directory: PathBuf, memory: usize, window: Duration, metrics: Metrics) -> Self {
        Self { directory, memory, window, metrics, present: Mutex::default(), loading: tokio::sync::Mutex::default() }
    }

    fn present(&self) -> std::sync::MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version, loaded.
    pub(super) async fn get(self: &Arc<Self>, version: &Arc<Version>) -> Result<Arc<Loaded>, ActError> {
        if let Some(found) = self.find(&version.reference)? {
            return Ok(found);
        }
        let _one = self.loading.lock().await;
        if let Some(found) = self.find(&version.reference)? {
            return Ok(found);
        }
        let (pool, version) = (self.clone(), version.clone());
        let loaded = tokio::task::spawn_blocking(move || pool.load(&version)).await;
        loaded.unwrap_or_else(|error| Err(ActError::Runtime(error.to_string())))
    }

    fn find(&self, reference: &str) -> Result<Option<Arc<Loaded>>, ActError> {
        let mut present = self.present();
        if present.stopped { Err(ActError::Stopped) } else { Ok(present.use_of(reference)) }
    }

    /// Reads, checks, starts and warms up a version, then makes room. Blocks.
    pub(super) fn load(&self, version: &Version) -> Result<Arc<Loaded>, ActError> {
        let network = Network::from_safetensors(&read_weights(&self.directory, &version.sha256)?)?;
        let size = network.size();
        let metrics = self.metrics.of(&version.name, version.version);
        let worker = Worker::start(Served(network), self.window, metrics)?;
        let loaded = Arc::new(Loaded { worker, size });
        let out = {
            let mut present = self.present();
            if present.stopped {
                return Err(ActError::Stopped);
            }
            present.now += 1;
            let used = Used { version: loaded.clone(), last: present.now };
            present.loaded.insert(version.reference.clone(), used);
            let out = present.shrink(self.memory);
            self.metrics.loaded.set(present.loaded.len() as i64);
            self.metrics.memory.set(present.size() as i64);
            out
        };
        for (reference, version) in out {
            tracing::info!(policy = reference, bytes = version.size, "a policy was unloaded to make room");
            drop(version);
        }
        Ok(loaded)
    }

    /// The references of what is loaded.
    pub(super) fn names(&self) -> Vec<String> {
        self.present().loaded.keys().cloned().collect()
    }

    /// Answers what waits, then ends the threads. Nothing is loaded any more.
    pub(super) fn stop(&self) {
        let all: Vec<_> = {
            let mut present = self.present();
            present.stopped = true;
            present.loaded.drain().map(|(_, used)| used.version).collect()
        };
        all.iter().for_each(|version| version.worker.stop());
    }
}

struct Served(Network);

impl Model for Served {
    fn prepare(&mut self) -> Result<(), ActError> {
        // libtorch refuses to be told of its pool between operations a second time.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tch::set_num_interop_threads(1));
        // Threads inside one operation cost these small matrices more than they save. OpenMP keeps this by thread.
        tch::set_num_threads(1);
        if self.0.settle().map_err(torch)? {
            tracing::warn!("this processor's matrix kernel is not the same for each row: one state at a time");
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.0.form().state_length
    }

    fn evaluate(&mut self, states: &[f32], exact: bool) -> Result<Vec<Evaluation>, ActError> {
        self.0.evaluate(states, exact).map_err(torch)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn torch(error: TchError) -> ActError {
    ActError::Runtime(error.to_string())
}
