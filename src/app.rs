//! All services of the application, built once from the configuration.

mod agents;
mod background;
mod host;
mod ready;
mod talk;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::extract::FromRef;
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret as _, SecretString};

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
    supervisor::Supervisor,
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
pub use host::HostResources;
use host::{open_sandboxes, start_jq};
use ready::readiness;
use talk::Talk;
pub use talk::open_sealing;

/// The application's services. Cloning copies one pointer.
#[derive(Clone)]
pub struct App(Arc<Rooms>);

/// Services used by the routes.
pub struct Rooms {
    /// State of the HTTP layer.
    pub shared: Shared,
    /// Database of the service.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Audit log of all changes.
    pub audit: Audit,
    /// Security policies of workflows.
    pub security_policies: am_security::policies::Policies,
    /// Reviews of workflows by the security policies.
    pub reviews: Reviews,
    /// Trust scores of agents and users.
    pub trust: Trust,
    /// Service for workflows.
    pub workflows: Workflows,
    /// Service for executions.
    pub executions: Executions,
    /// Service for networks of agents.
    pub networks: Networks,
    /// Registry of agents.
    pub registry: registry::Registry,
    /// Assignments of sub-tasks to agents.
    pub assignments: Assignments,
    /// Service for plans.
    pub plans: Plans,
    /// Engine that runs executions.
    pub engine: Engine,
    /// Client of the coordinator's job queue.
    pub jobs: Jobs,
    /// Signer of receipts.
    pub signer: Arc<Signer>,
    /// Library of stored policies.
    pub library: Library,
    /// Service for training runs.
    pub training: Runs,
    /// Service for learning agents.
    pub learning: Learning,
    /// Server of the loaded policies.
    pub policies: Policies,
    /// Webhooks for events.
    pub webhooks: Webhooks,
    /// Sandboxes for commands.
    pub sandboxes: Sandboxes,
    /// Encryption of messages.
    pub sealing: Sealing,
    /// Contacts, blocks and authorizations of agents.
    pub relations: Relations,
    /// Templates of messages.
    pub templates: Templates,
    /// Payment records of messages.
    pub payments: Payments,
    /// Export and import of messages.
    pub transfer: Transfer,
    /// Channels between agents.
    pub channels: Channels,
    /// Messages between agents.
    pub messages: Messages,
    /// Delivery of messages to connected agents.
    pub delivery: Delivery,
    jq: jq::Pool,
    /// Watches over the background tasks.
    pub supervisor: Supervisor,
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

/// Error of starting the service.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened or migrated.
    #[error("the database {path}: {source}")]
    Database {
        /// Path of the database file.
        path: PathBuf,
        /// Error of the database.
        source: am_db::Error,
    },
    /// The signing key cannot be read or made.
    #[error("the signing key: {0}")]
    Key(#[from] am_core::crypto::Error),
    /// The configured API keys are invalid.
    #[error(transparent)]
    Keyring(#[from] http::caller::KeyringError),
    /// The API keys in the database cannot be read.
    #[error("the API keys: {0}")]
    Keys(#[from] am_keys::Error),
    /// The policies cannot be opened.
    #[error("the policies: {0}")]
    Policies(#[from] am_rl::Error),
    /// The security policies cannot be opened.
    #[error("the security policies: {0}")]
    Security(#[from] am_security::policies::Error),
    /// The built-in policy cannot be loaded.
    #[error("the built-in policy: {0}")]
    Libtorch(#[from] am_rl::ActError),
    /// The trust scores cannot be opened.
    #[error("trust: {0}")]
    Trust(#[from] am_security::trust::Error),
    /// The engine cannot be started.
    #[error("the engine: {0}")]
    Engine(#[from] am_orchestration::error::Error),
    /// An operation of the operating system failed.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
    /// The executable that evaluates jq programs cannot be started.
    #[error("the jq workers can't be started from {0}: {1}")]
    Jq(PathBuf, std::io::Error),
    /// The webhooks cannot be opened.
    #[error("the webhooks: {0}")]
    Webhooks(#[from] am_webhooks::Error),
    /// The keys for encrypting messages cannot be read.
    #[error("the keys of messages: {0}")]
    Sealing(#[from] sealing::SealError),
    /// The sandboxes cannot be opened.
    #[error("the sandboxes: {0}")]
    Sandboxes(#[from] sandbox::Error),
    /// The HTTP client cannot be built.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Open the database of `config`, and migrate it if `migrate` is set or the configuration says so.
///
/// # Errors
/// The missing or unexpected database objects, by name.
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

/// Return the key that signs receipts: the configured one, or one stored beside the database and made at the first
/// start.
///
/// # Errors
/// When it cannot be read or made.
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
        tracing::warn!(path = %path.display(), key_id = signer.key_id(), "{name} is not set; a signing key was created, back up this file");
    }
    Ok(signer)
}

/// Open the audit log of `db`, and the webhooks that send its signed heads and alerts.
///
/// # Errors
/// When its signing key cannot be read or made.
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
    /// Build everything and start the engine, with the host's clock and randomness.
    ///
    /// # Errors
    /// The first service that cannot be built.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, HostResources::system()?).await
    }

    /// Build everything and start the engine, with these resources of the host.
    ///
    /// # Errors
    /// The first part that can't be had.
    pub async fn start_with(config: Config, host: HostResources) -> Result<Self, StartError> {
        let HostResources { clock, ids, executables } = host;
        let config = Arc::new(config);
        let db = open_database(&config, &clock, config.migrate_on_start).await?;
        let signer = Arc::new(signer(&config)?);
        let (audit, webhooks) = open_audit(&config, (&db, &clock, &ids))?;
        let keys = Keys::open(db.clone(), clock.clone(), ids.clone(), audit.clone()).await?;
        let trust = Trust::new(db.clone(), clock.clone(), ids.clone(), audit.clone());
        // Registered before the first event that it would have to count.
        trust.begin().await?;
        let supervisor = Supervisor::default();
        let jq = start_jq(&config, &executables, &supervisor).await?;
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
            // Only configured addresses are called: redirects could lead elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let sandboxes = open_sandboxes(&config, &executables, &audit, (&db, &clock))?;
        let Talk { sealing, relations, templates, payments, transfer, channels, messages, delivery } =
            Talk::open(&config, &audit, (&db, &clock, &ids), &supervisor)?;
        let agents = Agents::open(&config, &audit, &hub, &messages, (&db, &clock), supervisor.stopping())?;
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
        supervisor.register(&mut registry);
        let metrics = Arc::new(HttpMetrics::register(&mut registry));
        let shared = Shared::new(http::Parts {
            keyring: Arc::new(Keyring::new(&config)?.with_kept(keys.clone())),
            limiter: Limiter::from_config(&config).map(Arc::new),
            readiness: readiness(&db, &engine, &jq, &supervisor),
            openapi: std::sync::OnceLock::new(),
            registry: Arc::new(registry),
            config,
            clock: clock.clone(),
            ids,
            metrics,
        });
        let rooms = Rooms {
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
            supervisor,
        };
        background::start(&rooms, &keys);
        Ok(Self(Arc::new(rooms)))
    }

    /// Release every run, within the configured grace period.
    pub async fn stop(&self) {
        let grace = self.shared.config.shutdown_grace;
        self.supervisor.stop();
        let (_, trained, called, talked) = tokio::join!(
            self.engine.stop(grace),
            tokio::time::timeout(grace, self.training.stop()),
            tokio::time::timeout(grace, self.webhooks.stop()),
            tokio::time::timeout(grace, self.delivery.stop())
        );
        if talked.is_err() {
            tracing::warn!("WebSockets were still open; unacknowledged messages will be delivered again");
        }
        if called.is_err() {
            tracing::warn!("a webhook call did not end in time; it will be repeated");
        }
        if trained.is_err() {
            tracing::warn!("a training run could not be released in time; it will resume from its last checkpoint");
        }
    }

    /// Stop the services that runs need, and close the database. No request can be answered afterwards.
    pub async fn close(&self) {
        self.sandboxes.stop();
        self.jq.shutdown().await;
        self.policies.stop();
        // After this nothing else is written.
        if let Err(error) = self.audit.seal().await {
            tracing::warn!(%error, "the last audit entries could not be signed; the next start will sign them");
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
