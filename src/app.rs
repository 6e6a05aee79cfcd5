//! What everything shares, built once from the configuration.

mod agents;
mod ready;
mod talk;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::extract::FromRef;
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::http::{self, Keyring, Shared, limit::Limiter, metrics::HttpMetrics};
use am_audit::Audit;
use am_communication::{
    channels::Channels,
    delivery::Delivery,
    messages::Messages,
    payments::Payments,
    relations::Relations,
    sealing::{self, Sealing},
    templates::Templates,
    transfer::Transfer,
};
use am_core::{
    ambient::{Clock, Ids},
    config::Config,
    crypto::Signer,
};
use am_db::{Database, Settings};
use am_events::Hub;
use am_jobs::Jobs;
use am_keys::Keys;
use am_orchestration::{
    action::Names,
    assignments::Assignments,
    engine::{Engine, Parts, Performer},
    executions::Executions,
    guard::Guard,
    jq,
    networks::Networks,
    plans::Plans,
    registry,
    review::Reviews,
    workflows::Workflows,
};
use am_rl::{
    Policies,
    learning::Learning,
    library::Library,
    runs::{self, Runs},
    serving,
};
use am_security::{
    sandbox::{self, Sandboxes},
    trust::Trust,
};
use am_webhooks::Webhooks;

use agents::Agents;
use ready::readiness;
use talk::Talk;
pub use talk::open_sealing;

/// The service's parts. One pointer to clone.
#[derive(Clone)]
pub struct App(Arc<Rooms>);

/// The rooms that routes use.
pub struct Rooms {
    /// What the HTTP floor needs.
    pub shared: Shared,
    /// The database.
    pub db: Database,
    /// The time.
    pub clock: Clock,
    /// The audit log.
    pub audit: Audit,
    /// Security policies.
    pub security_policies: am_security::policies::Policies,
    /// What policies say of workflows beforehand.
    pub reviews: Reviews,
    /// How far agents are trusted.
    pub trust: Trust,
    /// Workflows.
    pub workflows: Workflows,
    /// Executions.
    pub executions: Executions,
    /// Networks of agents.
    pub networks: Networks,
    /// The registry of agents.
    pub registry: registry::Registry,
    /// What agents are given to do.
    pub assignments: Assignments,
    /// Plans over them.
    pub plans: Plans,
    /// The engine.
    pub engine: Engine,
    /// The coordinator's queue.
    pub jobs: Jobs,
    /// Signs receipts.
    pub signer: Arc<Signer>,
    /// Kept policies.
    pub library: Library,
    /// Training runs.
    pub training: Runs,
    /// Agents that learn.
    pub learning: Learning,
    /// Policies that answer.
    pub policies: Policies,
    /// Calls to whoever wants to hear of events.
    pub webhooks: Webhooks,
    /// What commands run in.
    pub sandboxes: Sandboxes,
    /// Seals messages.
    pub sealing: Sealing,
    /// Who may write to whom.
    pub relations: Relations,
    /// Forms of messages.
    pub templates: Templates,
    /// What is recorded of the prices of messages.
    pub payments: Payments,
    /// Messages as files.
    pub transfer: Transfer,
    /// Where messages have an order.
    pub channels: Channels,
    /// Messages between agents.
    pub messages: Messages,
    /// The way of messages to sockets.
    pub delivery: Delivery,
    jq: jq::Pool,
    stopping: CancellationToken,
}

impl std::ops::Deref for App {
    type Target = Rooms;

    fn deref(&self) -> &Rooms {
        &self.0
    }
}

impl FromRef<App> for Shared {
    fn from_ref(app: &App) -> Self {
        app.shared.clone()
    }
}

/// Why the service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the database {path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: am_db::Error,
    },
    /// The signing key.
    #[error("the signing key: {0}")]
    Key(#[from] am_core::crypto::Error),
    /// The API keys.
    #[error(transparent)]
    Keyring(#[from] http::caller::KeyringError),
    /// Those in the database.
    #[error("the API keys: {0}")]
    Keys(#[from] am_keys::Error),
    /// The policies.
    #[error("the policies: {0}")]
    Policies(#[from] am_rl::Error),
    /// The security policies.
    #[error("the security policies: {0}")]
    Security(#[from] am_security::policies::Error),
    /// libtorch.
    #[error("the built-in policy: {0}")]
    Libtorch(#[from] am_rl::ActError),
    /// Trust.
    #[error("trust: {0}")]
    Trust(#[from] am_security::trust::Error),
    /// The engine.
    #[error("the engine: {0}")]
    Engine(#[from] am_orchestration::error::Error),
    /// The operating system.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
    /// The executable that evaluates jq programs.
    #[error("the jq workers can't be started from {0}: {1}")]
    Jq(PathBuf, std::io::Error),
    /// The webhooks.
    #[error("the webhooks: {0}")]
    Webhooks(#[from] am_webhooks::Error),
    /// The keys of messages.
    #[error("the keys of messages: {0}")]
    Sealing(#[from] sealing::SealError),
    /// Sandboxes.
    #[error("the sandboxes: {0}")]
    Sandboxes(#[from] sandbox::Error),
    /// The HTTP client.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Open the database of `config`, and migrate it if that is configured.
///
/// # Errors
/// What does not fit, by name.
pub async fn open_database(config: &Config, clock: &Clock, migrate: bool) -> Result<Database, StartError> {
    let failed = |source| StartError::Database { path: config.database.clone(), source };
    let settings = Settings { readers: config.db_readers, busy_timeout: config.db_busy_timeout };
    let db = Database::open(&config.database, &settings).await.map_err(failed)?;
    if migrate {
        let report = am_db::migrate(&db, clock).await.map_err(failed)?;
        tracing::info!(created = report.created.len(), adopted = report.adopted.len(), applied = ?report.applied, "database migrated");
    } else {
        let mut conn = db.read().await.map_err(failed)?;
        am_db::check(&mut conn).await.map_err(failed)?;
    }
    Ok(db)
}

/// The key that signs receipts: configured, or made beside the database on the first start.
///
/// # Errors
/// When it can't be read or made.
pub fn signer(config: &Config) -> Result<Signer, StartError> {
    signing_key(config, config.receipt_signing_key.as_ref(), "RECEIPT_SIGNING_KEY_HEX", "receipt-signing-key.hex")
}

fn signing_key(config: &Config, set: Option<&SecretString>, name: &str, file: &str) -> Result<Signer, StartError> {
    if let Some(key) = set {
        return Ok(Signer::from_hex(key.expose_secret())?);
    }
    std::fs::create_dir_all(&config.data_dir).map_err(|error| StartError::System("the data directory", error))?;
    let path = config.data_dir.join(file);
    let (signer, created) = Signer::load_or_create(&path)?;
    if created {
        tracing::warn!(path = %path.display(), key_id = signer.key_id(), "{name} is not set; a signing key was made, keep the file");
    }
    Ok(signer)
}

/// The audit log of `db`, and the webhooks by which its heads and alerts go out.
///
/// # Errors
/// When its signing key can't be had.
pub fn open_audit(
    config: &Config,
    (db, clock, ids): (&Database, &Clock, &Ids),
) -> Result<(Audit, Webhooks), StartError> {
    let webhooks = Webhooks::new(db.clone(), clock.clone(), ids.clone(), &config.webhooks)?;
    let set = config.audit.signing_key.as_ref();
    let signer = signing_key(config, set, "AUDIT_SIGNING_KEY_HEX", "audit-signing-key.hex")?;
    let settings = am_audit::Settings { origin: config.audit.origin.clone(), every: config.audit.every };
    let audit = Audit::new((db.clone(), clock.clone(), ids.clone()), webhooks.clone(), signer, settings);
    Ok((audit, webhooks))
}

impl App {
    /// Build everything and start the engine.
    ///
    /// # Errors
    /// The first part that can't be had.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (clock, config) = (Clock::system(), Arc::new(config));
        let ids = Ids::system().map_err(|error| StartError::System("randomness", error))?;
        let db = open_database(&config, &clock, config.migrate_on_start).await?;
        let signer = Arc::new(signer(&config)?);
        let (audit, webhooks) = open_audit(&config, (&db, &clock, &ids))?;
        let keys = Keys::open(db.clone(), clock.clone(), ids.clone(), audit.clone()).await?;
        let trust = Trust::new(db.clone(), clock.clone(), ids.clone(), audit.clone());
        // Before anything is done that it would have to count.
        trust.begin().await?;
        let jq = start_jq(&config).await?;
        let settings =
            am_jobs::Settings { poll: config.engine.job_poll, private_addresses: config.services.private_addresses };
        let jobs = Jobs::new((db.clone(), clock.clone(), ids.clone()), audit.clone(), webhooks.clone(), settings);
        let hub = Hub::default();
        let library = open_library(&config, &audit, (&db, &clock, &ids)).await?;
        let policies = library.policies().clone();
        let training = open_training(&config, &hub, &library, (&db, &clock, &ids))?;
        let endpoints = Arc::new(config.http_endpoints.clone());
        let names = Names { endpoints: endpoints.clone(), policies: policies.clone() };
        let http = reqwest::Client::builder()
            // Only configured addresses are called: a redirect would lead elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let sandboxes = open_sandboxes(&config, &audit, (&db, &clock))?;
        let stopping = CancellationToken::new();
        let Talk { sealing, relations, templates, payments, transfer, channels, messages, delivery } =
            Talk::open(&config, &audit, (&db, &clock, &ids), &stopping)?;
        let agents = Agents::open(&config, &audit, &hub, &messages, (&db, &clock), &stopping)?;
        let performer = Performer {
            jq: jq.clone(),
            sandboxes: sandboxes.clone(),
            assignments: agents.assignments.clone(),
            policies: policies.clone(),
            jobs: jobs.clone(),
            training: training.clone(),
            http,
            endpoints,
            config: config.engine.clone(),
        };
        let security_policies =
            am_security::policies::Policies::open(db.clone(), clock.clone(), ids.clone(), audit.clone()).await?;
        let guard = Guard::new(db.clone(), clock.clone(), audit.clone(), security_policies.clone(), names.clone());
        let engine = Engine::open(Parts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            config: config.engine.clone(),
            names: names.clone(),
            policies: security_policies.clone(),
            performer,
            signer: signer.clone(),
            hub: hub.clone(),
        })
        .await?;
        let workflows =
            Workflows::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), names.clone(), guard.clone());
        let executions = Executions::new(db.clone(), clock.clone(), audit.clone(), engine.clone(), guard.clone(), hub);
        let networks =
            Networks::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), workflows.clone(), executions.clone());
        let plans = agents.plans((&executions, names), (&db, &clock, &ids), &audit);
        let reviews = Reviews::new(db.clone(), guard, workflows.clone(), executions.clone());
        let learning = Learning::new(db.clone(), clock.clone(), ids.clone(), library.clone(), training.clone());
        let mut registry = Registry::default();
        db.register(&mut registry);
        jobs.register(&mut registry);
        policies.register(&mut registry);
        training.register(&mut registry);
        engine.register(&mut registry);
        webhooks.register(&mut registry);
        sandboxes.register(&mut registry);
        agents.assignments.register(&mut registry);
        messages.register(&mut registry);
        delivery.register(&mut registry);
        let metrics = Arc::new(HttpMetrics::register(&mut registry));
        let shared = Shared::new(http::Parts {
            keyring: Arc::new(Keyring::new(&config)?.with_kept(keys.clone())),
            limiter: Limiter::from_config(&config).map(Arc::new),
            readiness: readiness(&db, &engine, &jq),
            openapi: std::sync::OnceLock::new(),
            registry: Arc::new(registry),
            config,
            clock: clock.clone(),
            ids,
            metrics,
        });
        engine.spawn();
        webhooks.spawn();
        tokio::spawn(library.clone().watch(stopping.clone()));
        tokio::spawn(training.clone().work());
        tokio::spawn(security_policies.clone().watch(stopping.clone()));
        tokio::spawn(audit.clone().work(stopping.clone()));
        tokio::spawn(sandboxes.clone().work(stopping.clone()));
        tokio::spawn(keys.watch(stopping.clone()));
        tokio::spawn(agents.assignments.clone().work(stopping.clone()));
        tokio::spawn(trust.clone().work(stopping.clone()));
        tokio::spawn(messages.clone().work(stopping.clone()));
        Ok(Self(Arc::new(Rooms {
            shared,
            security_policies,
            reviews,
            audit,
            trust,
            workflows,
            executions,
            networks,
            registry: agents.registry,
            assignments: agents.assignments,
            plans,
            engine,
            jobs,
            signer,
            learning,
            db,
            clock,
            library,
            training,
            policies,
            webhooks,
            sandboxes,
            sealing,
            relations,
            templates,
            payments,
            transfer,
            channels,
            messages,
            delivery,
            jq,
            stopping,
        })))
    }

    /// Let go of every run, within the configured grace.
    pub async fn stop(&self) {
        let grace = self.shared.config.shutdown_grace;
        self.stopping.cancel();
        let (_, trained, called, talked) = tokio::join!(
            self.engine.stop(grace),
            tokio::time::timeout(grace, self.training.stop()),
            tokio::time::timeout(grace, self.webhooks.stop()),
            tokio::time::timeout(grace, self.delivery.stop())
        );
        if talked.is_err() {
            tracing::warn!("sockets were still open; what was not acknowledged is delivered again");
        }
        if called.is_err() {
            tracing::warn!("a webhook call did not end in time; it is made again");
        }
        if trained.is_err() {
            tracing::warn!(
                "a training run could not be let go in time; the next start goes on from its last checkpoint"
            );
        }
    }

    /// End what runs were driven with, and close the database. Nothing is answered after this.
    pub async fn close(&self) {
        self.sandboxes.stop();
        self.jq.shutdown().await;
        self.policies.stop();
        // Nothing is written any more but this.
        if let Err(error) = self.audit.seal().await {
            tracing::warn!(%error, "the audit log could not be sealed; the next start does it");
        }
        self.db.close().await;
    }
}

async fn open_library(
    config: &Config,
    audit: &Audit,
    (db, clock, ids): (&Database, &Clock, &Ids),
) -> Result<Library, StartError> {
    let settings = serving::Settings {
        directory: config.data_dir.join("policies"),
        memory: config.rl.policy_memory_mb << 20,
        exact: config.rl.deterministic,
        window: config.rl.batch_window,
    };
    let policies = Policies::open(settings, ids.clone())?;
    let library = Library::open(db.clone(), clock.clone(), ids.clone(), audit.clone(), policies).await?;
    library.warm_up().await?;
    Ok(library)
}

fn open_training(
    config: &Config,
    hub: &Hub,
    library: &Library,
    (db, clock, ids): (&Database, &Clock, &Ids),
) -> Result<Runs, StartError> {
    let settings = runs::Settings {
        directory: config.data_dir.join("training"),
        slots: config.rl.training_slots,
        threads: config.rl.training_threads,
        checkpoint_every: config.rl.checkpoint_every,
    };
    Ok(Runs::new(db.clone(), clock.clone(), ids.clone(), hub.clone(), library.clone(), settings)?)
}

/// An executable of this service's, which stands beside the one that runs.
fn beside(name: &str) -> Result<PathBuf, StartError> {
    let own = std::env::current_exe().map_err(|error| StartError::System("the executable's own path", error))?;
    Ok(own.with_file_name(name))
}

fn open_sandboxes(config: &Config, audit: &Audit, (db, clock): (&Database, &Clock)) -> Result<Sandboxes, StartError> {
    let database = config.database.parent().map(std::path::Path::to_owned);
    let places = sandbox::Places {
        helper: beside("agent-management-sandbox")?,
        directory: config.sandbox.directory.clone().unwrap_or_else(|| config.data_dir.join("sandboxes")),
        hidden: std::iter::once(config.data_dir.clone()).chain(database).collect(),
    };
    Ok(Sandboxes::open(db.clone(), clock.clone(), audit.clone(), places, config.sandbox.clone())?)
}

async fn start_jq(config: &Config) -> Result<jq::Pool, StartError> {
    let program = beside("agent-management-jq")?;
    let settings = jq::Settings {
        workers: config.engine.jq_workers,
        timeout: config.engine.jq_timeout,
        max_output: config.engine.jq_max_output,
        memory_mb: config.engine.jq_memory_mb,
    };
    jq::Pool::start(program.clone(), Vec::new(), settings).await.map_err(|error| StartError::Jq(program, error))
}
