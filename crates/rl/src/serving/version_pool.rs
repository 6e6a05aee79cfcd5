//! Pool of loaded versions, each on its own thread. A version is loaded at its first use; the least recently used ones
//! are unloaded when the pool exceeds its memory limit.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Duration,
};

use parking_lot::Mutex;
use tch::TchError;
use tokio::sync::oneshot;

use super::{
    metrics::ServingMetrics,
    model_worker::{InferenceResult, ModelWorker, ServingModel},
    policy_catalog::ServedVersion,
};
use crate::{
    builtin,
    model::ActError,
    network::{NetworkOutput, PolicyNetwork},
};
use am_core::crypto::sha256_hex;

/// A loaded version.
pub(super) struct LoadedVersion {
    worker: ModelWorker,
    size: usize,
}

impl LoadedVersion {
    /// Queue concatenated states for evaluation.
    pub(super) fn ask(&self, states: Vec<f32>, exact: bool) -> Result<oneshot::Receiver<InferenceResult>, ActError> {
        self.worker.ask(states, exact)
    }
}

/// Path of a weights file: `DIRECTORY/<sha256>.safetensors`.
pub fn weights_path(directory: &Path, sha256: &str) -> PathBuf {
    directory.join(format!("{sha256}.safetensors"))
}

/// Read the file of this hash and verify it.
///
/// # Errors
/// [`ActError::Storage`] when it is missing or its hash differs.
pub fn read_weights(directory: &Path, sha256: &str) -> Result<Vec<u8>, ActError> {
    if sha256 == builtin::BUILTIN_SHA256 {
        return Ok(builtin::BUILTIN_BYTES.to_vec());
    }
    let path = weights_path(directory, sha256);
    let bytes = fs::read(&path).map_err(|error| ActError::Storage(format!("{}: {error}", path.display())))?;
    let found = sha256_hex(&bytes);
    match found == sha256 {
        true => Ok(bytes),
        false => Err(ActError::Storage(format!("{}: its SHA-256 is {found}", path.display()))),
    }
}

/// Pool of loaded versions.
pub(super) struct VersionPool {
    directory: PathBuf,
    memory: usize,
    window: Duration,
    metrics: ServingMetrics,
    present: Mutex<PoolState>,
    /// Serialises loading: a second caller finds the version loaded.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct PoolState {
    /// Versions by `name@version`.
    loaded: HashMap<String, PoolEntry>,
    /// Counter of uses.
    now: u64,
    stopped: bool,
}

struct PoolEntry {
    version: Arc<LoadedVersion>,
    last: u64,
}

impl PoolState {
    fn touch(&mut self, reference: &str) -> Option<Arc<LoadedVersion>> {
        self.now += 1;
        let used = self.loaded.get_mut(reference)?;
        used.last = self.now;
        Some(used.version.clone())
    }

    /// Remove the least recently used versions until the rest fits into `memory`, but not the last one.
    fn shrink(&mut self, memory: usize) -> Vec<(String, Arc<LoadedVersion>)> {
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

impl VersionPool {
    pub(super) fn new(directory: PathBuf, memory: usize, window: Duration, metrics: ServingMetrics) -> Self {
        Self { directory, memory, window, metrics, present: Mutex::default(), loading: tokio::sync::Mutex::default() }
    }

    fn present(&self) -> parking_lot::MutexGuard<'_, PoolState> {
        self.present.lock()
    }

    /// Return the version, loading it if needed.
    pub(super) async fn get(self: &Arc<Self>, version: &Arc<ServedVersion>) -> Result<Arc<LoadedVersion>, ActError> {
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

    fn find(&self, reference: &str) -> Result<Option<Arc<LoadedVersion>>, ActError> {
        let mut present = self.present();
        if present.stopped { Err(ActError::Stopped) } else { Ok(present.touch(reference)) }
    }

    /// Read, verify, start and warm up a version, then free memory. Blocks.
    pub(super) fn load(&self, version: &ServedVersion) -> Result<Arc<LoadedVersion>, ActError> {
        let network = PolicyNetwork::from_safetensors(&read_weights(&self.directory, &version.sha256)?)?;
        let size = network.size();
        let metrics = self.metrics.of(&version.name, version.version);
        let worker = ModelWorker::start(TorchModel(network), self.window, metrics)?;
        let loaded = Arc::new(LoadedVersion { worker, size });
        let out = {
            let mut present = self.present();
            if present.stopped {
                return Err(ActError::Stopped);
            }
            present.now += 1;
            let used = PoolEntry { version: loaded.clone(), last: present.now };
            present.loaded.insert(version.reference.clone(), used);
            let out = present.shrink(self.memory);
            self.metrics.loaded.set(present.loaded.len() as i64);
            self.metrics.memory.set(present.size() as i64);
            out
        };
        for (reference, version) in out {
            tracing::info!(policy = reference, bytes = version.size, "unloaded a policy to free memory");
            drop(version);
        }
        Ok(loaded)
    }

    /// Return the references of the loaded versions.
    pub(super) fn names(&self) -> Vec<String> {
        self.present().loaded.keys().cloned().collect()
    }

    /// Answer queued requests, then end the threads. Nothing is loaded afterwards.
    pub(super) fn stop(&self) {
        let all: Vec<_> = {
            let mut present = self.present();
            present.stopped = true;
            present.loaded.drain().map(|(_, used)| used.version).collect()
        };
        all.iter().for_each(|version| version.worker.stop());
    }
}

struct TorchModel(PolicyNetwork);

impl ServingModel for TorchModel {
    fn prepare(&mut self) -> Result<(), ActError> {
        // libtorch accepts the setting of its thread pool between operations only once.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tch::set_num_interop_threads(1));
        // Threads inside one operation cost these small matrices more than they save. OpenMP keeps this setting per
        // thread.
        tch::set_num_threads(1);
        if self.0.settle().map_err(runtime_error)? {
            tracing::warn!("this processor's matrix kernel treats rows differently; evaluating one state per pass");
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.0.form().state_length
    }

    fn evaluate(&mut self, states: &[f32], exact: bool) -> Result<Vec<NetworkOutput>, ActError> {
        self.0.evaluate(states, exact).map_err(runtime_error)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn runtime_error(error: TchError) -> ActError {
    ActError::Runtime(error.to_string())
}
