//! Policies: their library, what became of their calls, and their training.

use super::StartError;
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
};
use am_db::Database;
use am_events::StreamHub;
use am_rl::{
    PolicyServer,
    library::PolicyLibrary,
    outcomes::{CallSigner, OutcomeService},
    runs::{self, TrainingRuns},
    serving,
};

/// Open the library of policies, and load those that serve.
pub(super) async fn open_library(
    config: &Config,
    audit: &AuditLog,
    db: &Database,
    clock: &Clock,
    ids: &IdGenerator,
) -> Result<PolicyLibrary, StartError> {
    let settings = serving::ServingSettings {
        directory: config.data_dir.join("policies"),
        memory: config.rl.policy_memory_mb << 20,
        exact: config.rl.deterministic,
        window: config.rl.batch_window,
        upload_quota: config.rl.upload_quota_mb << 20,
    };
    let policies = PolicyServer::open(settings, ids.clone())?;
    let library = PolicyLibrary::open(db.clone(), clock.clone(), ids.clone(), audit.clone(), policies).await?;
    library.warm_up().await?;
    Ok(library)
}

/// The ids of calls are made with a secret of this service's processes. Without its file, ids that were given out are no longer
/// known.
pub(super) fn open_outcomes(
    config: &Config,
    library: &PolicyLibrary,
    db: &Database,
    clock: &Clock,
    ids: &IdGenerator,
) -> Result<OutcomeService, StartError> {
    let (secret, _) = am_core::crypto::load_or_create_secret(&config.data_dir.join("policy-calls.hex"))?;
    let signer = CallSigner::new(&secret);
    Ok(OutcomeService::new(db.clone(), clock.clone(), ids.clone(), library.clone(), signer))
}

/// Open the training runs.
pub(super) fn open_training(
    config: &Config,
    hub: &StreamHub,
    library: &PolicyLibrary,
    db: &Database,
    clock: &Clock,
    ids: &IdGenerator,
) -> Result<TrainingRuns, StartError> {
    let settings = runs::TrainingRunSettings {
        directory: config.data_dir.join("training"),
        slots: config.rl.training_slots,
        threads: config.rl.training_threads,
        checkpoint_every: config.rl.checkpoint_every,
        slice: config.rl.training_slice,
        quotas: runs::TrainingQuotas {
            admin_steps: config.rl.training_admin_steps,
            client_steps: config.rl.training_client_steps,
            miner_steps: config.rl.training_miner_steps,
            open_runs: config.rl.training_open_runs,
        },
        bridge: runs::BridgeSettings { patience: config.rl.training_bridge_step, most: config.rl.training_bridges },
    };
    Ok(TrainingRuns::new(db.clone(), clock.clone(), ids.clone(), hub.clone(), library.clone(), settings)?)
}
