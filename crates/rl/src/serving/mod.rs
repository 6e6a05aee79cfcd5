//! Inference: every loaded version has its own thread.

mod action_selection;
mod metrics;
mod model_worker;
mod policy_catalog;
#[cfg(test)]
mod tests;
mod traffic_split;
mod version_pool;

use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use rand::SeedableRng;

use self::{
    action_selection::{SamplingRng, select_action},
    metrics::ServingMetrics,
    model_worker::InferenceResult,
    policy_catalog::PolicyCatalog,
    traffic_split::{AnsweredBy, SplitStats},
    version_pool::{LoadedVersion, VersionPool},
};
pub use self::{
    policy_catalog::{ServedPolicy, ServedVersion},
    traffic_split::{CanaryVersion, ShadowVersion, SplitComparison, TrafficSplit, VersionStats},
    version_pool::{read_weights, weights_path},
};
use super::{
    builtin,
    model::{ActError, ActionMode, PolicyDecision, PolicyReference, VersionSelector},
    network::PolicyNetwork,
};
use am_core::ambient::IdGenerator;
use am_core::boxed;

/// Maximum number of states per call.
pub const MAX_STATES: usize = 4096;

/// Settings of inference.
#[derive(Debug, Clone)]
pub struct ServingSettings {
    /// Directory of the weights files.
    pub directory: PathBuf,
    /// Limit of the loaded parameters, in bytes.
    pub memory: usize,
    /// Default of exact mode, in which a state gets the same bits in any batch.
    pub exact: bool,
    /// Maximum time for which a batch waits for further requests while calls arrive together; at most 200 µs is
    /// sensible.
    pub window: Duration,
    /// Most bytes of uploaded weights of one owner.
    pub upload_quota: u64,
}

impl Default for ServingSettings {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("policies"),
            memory: 256 << 20,
            exact: true,
            window: Duration::ZERO,
            upload_quota: 1 << 30,
        }
    }
}

/// A query to a policy.
#[derive(Debug, Clone, Default)]
pub struct PolicyQuery {
    /// States, 1 to [`MAX_STATES`].
    pub states: Vec<Vec<f64>>,
    /// Method of choosing actions.
    pub mode: ActionMode,
    /// Exact mode, in which a state gets the same bits in any batch; `None`: as configured.
    pub exact: Option<bool>,
}

/// Server of the loaded policies. Clones are cheap and share the state; the threads end with the last clone or at
/// [`PolicyServer::stop`].
#[derive(Clone)]
pub struct PolicyServer(Arc<PolicyServerInner>);

struct PolicyServerInner {
    settings: ServingSettings,
    ids: IdGenerator,
    catalogue: RwLock<PolicyCatalog>,
    pool: Arc<VersionPool>,
    /// Split statistics by policy name.
    tallies: Mutex<HashMap<String, SplitStats>>,
    metrics: ServingMetrics,
}

/// Route of a call: the version that answers, and the shadow.
struct CallRoute {
    version: Arc<ServedVersion>,
    by: AnsweredBy,
    shadow: Option<Arc<ServedVersion>>,
    tally: Option<SplitStats>,
}

impl PolicyServer {
    /// Create the server with the built-in policy, load it and warm it up. Blocks for a fraction of a second.
    ///
    /// # Errors
    /// [`ActError::Runtime`] when libtorch cannot be used.
    pub fn open(settings: ServingSettings, ids: IdGenerator) -> Result<Self, ActError> {
        let metrics = ServingMetrics::default();
        let catalogue = PolicyCatalog::builtin(PolicyNetwork::from_safetensors(builtin::BUILTIN_BYTES)?.form().clone());
        let pool = VersionPool::new(settings.directory.clone(), settings.memory, settings.window, metrics.clone());
        let reference = PolicyReference::at(builtin::BUILTIN_NAME, builtin::BUILTIN_VERSION);
        pool.load(catalogue.resolve(&reference)?.1)?;
        let catalogue = RwLock::new(catalogue);
        let tallies = Mutex::default();
        Ok(Self(Arc::new(PolicyServerInner { settings, ids, catalogue, pool: Arc::new(pool), tallies, metrics })))
    }

    /// Register the metrics of inference.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Return the directory of the weights files.
    pub fn directory(&self) -> &Path {
        &self.0.settings.directory
    }

    /// Return the most bytes of uploaded weights that one owner may have.
    pub fn upload_quota(&self) -> u64 {
        self.0.settings.upload_quota
    }

    /// Insert or replace a policy. If its split or its serving version has changed, its statistics restart: they are those of
    /// other versions.
    pub fn put(&self, name: &str, entry: ServedPolicy) {
        let mut catalogue = self.0.catalogue.write();
        let serving = |policy: &ServedPolicy| policy.serving_version();
        let same = |old: &ServedPolicy| old.split == entry.split && serving(old) == serving(&entry);
        let changed = !catalogue.get(name).is_some_and(|old| same(old));
        catalogue.put(name.to_owned(), entry);
        if changed {
            self.tallies().remove(name);
        }
    }

    /// Return the version that `reference` names.
    ///
    /// # Errors
    /// When the policy, version or alias does not exist.
    pub fn resolve(&self, reference: &PolicyReference) -> Result<Arc<ServedVersion>, ActError> {
        let catalogue = self.0.catalogue.read();
        Ok(catalogue.resolve(reference)?.1.clone())
    }

    /// Return the action for `state`, greedily and in exact mode. The version that `reference` names answers; a canary
    /// does not.
    ///
    /// # Errors
    /// [`ActError::Overloaded`] at once when the queue is full, and the other variants of [`ActError`].
    pub fn act(
        &self,
        reference: &PolicyReference,
        state: Vec<f64>,
    ) -> impl Future<Output = Result<PolicyDecision, ActError>> + Send + use<> {
        let (policies, version) = (self.clone(), self.resolve(reference));
        async move {
            let version = version?;
            let chosen = CallRoute { version, by: AnsweredBy::Serving, shadow: None, tally: None };
            let ask = PolicyQuery { states: vec![state], exact: Some(true), mode: ActionMode::Greedy };
            policies.answer(chosen, ask).await?.pop().ok_or(ActError::Stopped)
        }
    }

    /// Return the decisions for several states. If `reference` names no version, the split decides which version
    /// answers.
    ///
    /// # Errors
    /// As [`PolicyServer::act`].
    #[boxed]
    pub async fn act_all(
        &self,
        reference: &PolicyReference,
        ask: PolicyQuery,
    ) -> Result<Vec<PolicyDecision>, ActError> {
        let chosen = self.choose(reference)?;
        self.answer(chosen, ask).await
    }

    fn choose(&self, reference: &PolicyReference) -> Result<CallRoute, ActError> {
        let catalogue = self.0.catalogue.read();
        let (entry, version) = catalogue.resolve(reference)?;
        let mut chosen = CallRoute { version: version.clone(), by: AnsweredBy::Serving, shadow: None, tally: None };
        if entry.split.is_none() || reference.pick != VersionSelector::Serving {
            return Ok(chosen);
        }
        let tally = self.tallies().entry(reference.name.clone()).or_default().clone();
        if let Some(canary) = &entry.split.canary
            && let Some(second) = entry.versions.get(&canary.version)
            && second.has_same_interface(version)
            && tally.next(canary.share) == AnsweredBy::Canary
        {
            (chosen.version, chosen.by) = (second.clone(), AnsweredBy::Canary);
        }
        let shadow = entry.split.shadow.filter(|_| chosen.by == AnsweredBy::Serving);
        let second = shadow.and_then(|shadow| entry.versions.get(&shadow.version));
        // The serving version may have changed since the split was set.
        chosen.shadow = second.filter(|second| second.has_same_interface(version)).cloned();
        chosen.tally = Some(tally);
        Ok(chosen)
    }

    fn tallies(&self) -> parking_lot::MutexGuard<'_, HashMap<String, SplitStats>> {
        self.0.tallies.lock()
    }

    async fn answer(&self, chosen: CallRoute, ask: PolicyQuery) -> Result<Vec<PolicyDecision>, ActError> {
        let CallRoute { version, by, shadow, tally } = chosen;
        if ask.mode != ActionMode::Greedy && matches!(version.form.algorithm.as_str(), "rainbow_dqn" | "dqn") {
            return Err(ActError::NoDistribution(version.reference.clone()));
        }
        let input = flatten_states(&ask.states, version.form.state_length)?;
        let exact = ask.exact.unwrap_or(self.0.settings.exact);
        let shadowed = shadow.map(|shadow| (shadow, input.clone()));
        let begun = Instant::now();
        let answered = self.ask(&version, input, exact).await;
        if let Some(tally) = &tally {
            match &answered {
                Ok(evaluations) => tally.answered(by, version.version, evaluations, begun.elapsed().as_secs_f64()),
                Err(_) => tally.failed(by),
            }
        }
        let evaluations = answered?;
        if let (Some((shadow, input)), Some(tally)) = (shadowed, tally) {
            let (policies, serving, version) = (self.clone(), evaluations.clone(), version.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                let followed = policies.ask(&shadow, input, exact).await;
                let seconds = begun.elapsed().as_secs_f64();
                let form = &version.form;
                tally.followed(form, &serving, followed.as_ref().ok().map(|followed| (followed.as_slice(), seconds)));
            });
        }
        let mut generator = match ask.mode {
            ActionMode::Greedy => None,
            ActionMode::Sample { seed } => {
                Some(SamplingRng::seed_from_u64(seed.unwrap_or_else(|| self.0.ids.number())))
            }
        };
        evaluations.iter().map(|evaluation| select_action(&version, evaluation, generator.as_mut())).collect()
    }

    async fn ask(&self, version: &Arc<ServedVersion>, states: Vec<f32>, exact: bool) -> InferenceResult {
        let loaded: Arc<LoadedVersion> = self.0.pool.get(version).await?;
        loaded.ask(states, exact)?.await.map_err(|_| ActError::Stopped)?
    }

    /// Load and warm up the version that `reference` names.
    ///
    /// # Errors
    /// As [`PolicyServer::act`].
    #[boxed]
    pub async fn load(&self, reference: &PolicyReference) -> Result<(), ActError> {
        self.0.pool.get(&self.resolve(reference)?).await.map(drop)
    }

    /// Return the statistics of a policy's split; `None` if it has no split.
    ///
    /// # Errors
    /// When the policy does not exist.
    pub fn comparison(&self, name: &str) -> Result<Option<SplitComparison>, ActError> {
        let catalogue = self.0.catalogue.read();
        let (entry, serving) =
            catalogue.resolve(&PolicyReference { name: name.to_owned(), pick: VersionSelector::Serving })?;
        if entry.split.is_none() {
            return Ok(None);
        }
        let tally = self.tallies().entry(name.to_owned()).or_default().clone();
        Ok(Some(tally.comparison(&entry.split, serving.version)))
    }

    /// Return the loaded versions, as `name@version`.
    pub fn loaded(&self) -> Vec<String> {
        self.0.pool.names()
    }

    /// Answer queued requests and end the threads; returns when they have ended. Later requests get
    /// [`ActError::Stopped`].
    pub fn stop(&self) {
        self.0.pool.stop();
    }
}

/// Concatenate the states, as 32-bit floats.
fn flatten_states(states: &[Vec<f64>], expected: usize) -> Result<Vec<f32>, ActError> {
    if !(1..=MAX_STATES).contains(&states.len()) {
        return Err(ActError::Count { most: MAX_STATES, got: states.len() });
    }
    let mut flat = Vec::with_capacity(states.len() * expected);
    for (row, state) in states.iter().enumerate() {
        if state.len() != expected {
            return Err(ActError::Dimension { row, expected, got: state.len() });
        }
        for (position, number) in state.iter().enumerate() {
            let narrow = *number as f32;
            if !narrow.is_finite() {
                return Err(ActError::NotFinite { row, position });
            }
            flat.push(narrow);
        }
    }
    Ok(flat)
}
