//! All services of the application, built once from the configuration.

mod agent_services;
mod allocation_policies;
mod background;
mod database;
mod deployments;
mod host;
mod learning;
mod market;
mod messaging;
mod performance;
mod readiness_checks;
mod refusal_entries;
mod signing;
mod start_error;

use std::sync::Arc;

use axum::extract::FromRef;
use prometheus_client::registry::Registry;

use crate::http::{
    self, HttpState, Keyring, metrics::HttpMetrics, rate_limit::CallerRateLimiter, refusals::RefusalWatch,
    request_turns::RequestTurns,
};
use am_audit::{AuditLog, WitnessService};
use am_background::{BackgroundSettings, BackgroundTasks};
use am_communication::{
    channels::ChannelService, delivery::DeliveryService, encryption::EncryptionService, messages::MessageService,
    payments::PaymentRecords, relations::AgentRelations, templates::TemplateService, transfer::TransferService,
};
use am_core::{
    ambient::Clock,
    config::{Config, JobClockSetting},
    crypto::Signer,
    supervisor::Supervisor,
};
use am_creativity::CreativityService;
use am_db::Database;
use am_deployment::DeploymentService;
use am_events::StreamHub;
use am_jobs::JobQueue;
use am_keys::ApiKeyService;
use am_ledger::LedgerService;
use am_marketplace::Marketplace;
use am_orchestration::{
    action::ActionCatalog,
    assignments::AssignmentService,
    bulk::BulkService,
    engine::{ActionExecutor, Engine, EngineParts},
    executions::ExecutionService,
    guard::PolicyGuard,
    jq,
    networks::NetworkService,
    plans::PlanService,
    registry,
    review::PolicyReview,
    workflows::WorkflowService,
};
use am_portfolio::{PortfolioService, SettlementSetup};
use am_proofs::{CircuitKeyStore, KEY_DIRECTORY, ProofParts, ProofService};
use am_retention::{RetentionService, RetentionSettings};
use am_rl::{
    PolicyServer, learning::LearningService, library::PolicyLibrary, outcomes::OutcomeService, runs::TrainingRuns,
};
use am_security::{
    sandbox::{self, SandboxService},
    trust::TrustService,
};
use am_webhooks::WebhookService;

use agent_services::AgentServices;
pub use database::open_database;
use database::open_for_service;
pub use host::HostResources;
use host::{JqWorkers, open_sandboxes, start_jq};
use learning::{open_library, open_outcomes, open_training};
use messaging::Messaging;
pub use messaging::open_sealing;
pub use performance::PerformanceServices;
use readiness_checks::build_readiness;
pub use signing::{open_audit, receipt_signer};
pub use start_error::StartError;

/// The application's services. Cloning copies one pointer.
#[derive(Clone)]
pub struct App(Arc<Services>);

/// Services used by the routes.
pub struct Services {
    /// State of the HTTP layer.
    pub shared: HttpState,
    /// Database of the service.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Audit log of all changes.
    pub audit: AuditLog,
    /// Accounts, entries, holds and budgets.
    pub ledger: LedgerService,
    /// Security policies of workflows.
    pub security_policies: am_security::policies::SecurityPolicies,
    /// Reviews of workflows by the security policies.
    pub reviews: PolicyReview,
    /// Trust scores of agents and users.
    pub trust: TrustService,
    /// Service for workflows.
    pub workflows: WorkflowService,
    /// Service for executions.
    pub executions: ExecutionService,
    /// Operations on many executions.
    pub bulk: BulkService,
    /// Service for networks of agents.
    pub networks: NetworkService,
    /// Registry of agents.
    pub registry: registry::AgentRegistry,
    /// Assignments of sub-tasks to agents.
    pub assignments: AssignmentService,
    /// Service for plans.
    pub plans: PlanService,
    /// Engine that runs executions.
    pub engine: Engine,
    /// Client of the coordinator's job queue.
    pub jobs: JobQueue,
    /// Signer of receipts.
    pub signer: Arc<Signer>,
    /// Library of stored policies.
    pub library: PolicyLibrary,
    /// Service for training runs.
    pub training: TrainingRuns,
    /// Long work that outlives its request.
    pub tasks: BackgroundTasks,
    /// Service for outcomes of policies' calls.
    pub outcomes: OutcomeService,
    /// Service for learning agents.
    pub learning: LearningService,
    /// Server of the loaded policies.
    pub policies: PolicyServer,
    /// Webhooks for events.
    pub webhooks: WebhookService,
    /// Sandboxes for commands.
    pub sandboxes: SandboxService,
    /// Encryption of messages.
    pub sealing: EncryptionService,
    /// Contacts, blocks and authorizations of agents.
    pub relations: AgentRelations,
    /// Templates of messages.
    pub templates: TemplateService,
    /// Payment records of messages.
    pub payments: PaymentRecords,
    /// Export and import of messages.
    pub transfer: TransferService,
    /// Channels between agents.
    pub channels: ChannelService,
    /// Messages between agents.
    pub messages: MessageService,
    /// Delivery of messages to connected agents.
    pub delivery: DeliveryService,
    /// Portfolios of agents.
    pub portfolios: PortfolioService,
    /// Creative capabilities, ideas and synthesis.
    pub creativity: CreativityService,
    /// Proofs of executions that others can verify.
    pub proofs: ProofService,
    /// Deployments: processes that serve workflows.
    pub deployments: DeploymentService,
    /// Removal of what is old or was deleted, and its archives.
    pub retention: RetentionService,
    /// Marketplace of agents' services.
    pub market: Marketplace,
    /// How agents perform: profiles, resources, optimisation and what belongs to them.
    pub performance: PerformanceServices,
    jq: jq::JqPool,
    texts: jq::TextChecker,
    /// Watches over the background tasks.
    pub supervisor: Supervisor,
}

impl std::ops::Deref for App {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0
    }
}

impl FromRef<App> for HttpState {
    fn from_ref(app: &App) -> Self {
        app.shared.clone()
    }
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
        let starting = open_for_service(&config, &clock).await?;
        let db = starting.db.clone();
        let signer = Arc::new(receipt_signer(&config)?);
        let (audit, webhooks) = open_audit(&config, &db, &clock, &ids).await?;
        let ledger = LedgerService::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), webhooks.clone());
        ledger.load_budgets().await?;
        let witnesses = WitnessService::new(audit.clone(), &config.audit.witnesses)?;
        let keys = ApiKeyService::open(db.clone(), clock.clone(), ids.clone(), audit.clone()).await?;
        let trust = TrustService::new(db.clone(), clock.clone(), ids.clone(), audit.clone());
        // Registered before the first event that it would have to count.
        trust.begin().await?;
        let supervisor = Supervisor::default();
        let JqWorkers { jq, texts } = start_jq(&config, &executables, &supervisor).await?;
        let settings = am_jobs::JobSettings {
            poll: config.engine.job_poll,
            private_addresses: config.services.private_addresses,
            constraints: config.services.constraints,
            client_ids: config.services.client_ids.clone(),
            finds_clock: config.services.job_clock == JobClockSetting::Auto,
        };
        let keyring = Arc::new(
            Keyring::new(&config)?
                .with_tokens(config.jwt_secret.as_ref(), clock.clone())
                .with_stored_keys(keys.clone()),
        );
        let known = keyring.clone();
        let names = am_jobs::ShownNames::new(move |name| known.shown(name));
        let (time, random) = (clock.clone(), ids.clone());
        let jobs =
            JobQueue::new(db.clone(), time, random, (audit.clone(), ledger.clone()), webhooks.clone(), settings, names);
        let hub = StreamHub::default();
        let library = open_library(&config, &audit, &db, &clock, &ids).await?;
        let policies = library.policies().clone();
        let training = open_training(&config, &hub, &library, &db, &clock, &ids)?;
        let settings = BackgroundSettings {
            slots: config.background.slots,
            checkpoint_every: config.background.checkpoint_every,
            slice: config.background.slice,
            open_tasks: config.background.open_tasks,
        };
        let tasks = BackgroundTasks::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), hub.clone(), settings);
        let endpoints = Arc::new(config.http_endpoints.clone());
        let names = ActionCatalog {
            endpoints: endpoints.clone(),
            policies: policies.clone(),
            ceilings: sandbox::SandboxCeilings::from_config(&config.sandbox),
            library: library.clone(),
            texts: texts.clone(),
            must_exist: true,
        };
        let sandboxes = open_sandboxes(&config, &executables, &audit, &db, &clock)?;
        let Messaging { sealing, relations, templates, payments, transfer, channels, messages, delivery } =
            Messaging::start(&config, (&audit, &ledger), &db, &clock, &ids, &supervisor)?;
        let agents =
            AgentServices::start(&config, (&audit, &ledger), &hub, &messages, &db, &clock, supervisor.stopping())?;
        let performer = ActionExecutor {
            jq: jq.clone(),
            sandboxes: sandboxes.clone(),
            assignments: agents.assignments.clone(),
            policies: policies.clone(),
            jobs: jobs.clone(),
            training: training.clone(),
            http: host::endpoint_client()?,
            endpoints,
            config: config.engine.clone(),
        };
        let security_policies =
            am_security::policies::SecurityPolicies::open(db.clone(), clock.clone(), ids.clone(), audit.clone())
                .await?;
        let guard =
            PolicyGuard::new(db.clone(), clock.clone(), audit.clone(), security_policies.clone(), names.clone());
        let engine = Engine::open(EngineParts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            ledger: ledger.clone(),
            config: config.engine.clone(),
            names: names.clone(),
            policies: security_policies.clone(),
            performer,
            signer: signer.clone(),
            hub: hub.clone(),
        })
        .await?;
        let workflows =
            WorkflowService::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), names.clone(), guard.clone());
        let executions =
            ExecutionService::new(db.clone(), clock.clone(), audit.clone(), engine.clone(), guard.clone(), hub);
        let networks = NetworkService::new(
            db.clone(),
            clock.clone(),
            ids.clone(),
            audit.clone(),
            workflows.clone(),
            executions.clone(),
        );
        let bulk = agent_services::open_bulk(&executions, &workflows, &db, &clock, &ids, &audit);
        let plans = agents.plans(&executions, names, &db, &clock, &ids, &audit);
        let reviews = PolicyReview::new(db.clone(), guard, workflows.clone(), executions.clone());
        let outcomes = open_outcomes(&config, &library, &db, &clock, &ids)?;
        let learning = LearningService::new(db.clone(), clock.clone(), ids.clone(), library.clone(), training.clone());
        let retention = RetentionSettings::from_config(&config.retention, &config.data_dir);
        let retention = RetentionService::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), retention);
        let runner = market::WorkflowRuns::new(&executions, &workflows, &signer);
        let market = market::open_market(&config, &ledger, runner, &db, &clock, &ids, &audit);
        let settlement = SettlementSetup::open(&config.portfolios.settlement).await?;
        let portfolios = PortfolioService::new(
            db.clone(),
            clock.clone(),
            ids.clone(),
            audit.clone(),
            ledger.clone(),
            config.portfolios.clone(),
            (Arc::new(allocation_policies::LibraryPolicies(library.clone())), settlement),
        )?;
        let known = keyring.clone();
        let miners = am_performance::profiles::MinerNames::new(move |name| known.shown(name));
        let runs = performance::ExecutionParts::new(
            (&executions, &workflows),
            (&library, &training),
            (&jq, &texts),
            (&signer, miners),
        );
        let performance = PerformanceServices::open(&config, &db, &clock, &ids, &audit, &tasks, &runs);
        let proofs = ProofService::new(ProofParts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            tasks: tasks.clone(),
            executions: executions.clone(),
            workflows: workflows.clone(),
            library: library.clone(),
            jq: jq.clone(),
            signer: signer.clone(),
            keys: CircuitKeyStore::new(config.data_dir.join(KEY_DIRECTORY)),
        });
        let creativity = CreativityService::new(
            (db.clone(), clock.clone(), ids.clone()),
            audit.clone(),
            tasks.clone(),
            &config.creativity,
        )?;
        let deployments = deployments::open_deployments(
            &config,
            &executables,
            deployments::DeployedWorkflows::new(&executions, &workflows),
            (&db, &clock, &ids),
            (&audit, &webhooks),
        )
        .await?;
        let mut registry = Registry::default();
        deployments.register(&mut registry);
        creativity.register(&mut registry);
        performance.register(&mut registry);
        portfolios.register(&mut registry);
        retention.register(&mut registry);
        market.register(&mut registry);
        db.register(&mut registry);
        jobs.register(&mut registry);
        policies.register(&mut registry);
        training.register(&mut registry);
        tasks.register(&mut registry);
        engine.register(&mut registry);
        webhooks.register(&mut registry);
        audit.register(&mut registry);
        witnesses.register(&mut registry);
        sandboxes.register(&mut registry);
        agents.assignments.register(&mut registry);
        messages.register(&mut registry);
        delivery.register(&mut registry);
        supervisor.register(&mut registry);
        let metrics = Arc::new(HttpMetrics::register(&mut registry));
        let shared = HttpState::new(http::HttpStateParts {
            keyring,
            limiter: CallerRateLimiter::from_config(&config).map(Arc::new),
            refusals: RefusalWatch::default(),
            turns: RequestTurns::new(config.requests_active as usize),
            readiness: build_readiness(&db, &engine, &jq, &audit, &supervisor),
            openapi: std::sync::OnceLock::new(),
            known_names: std::sync::OnceLock::new(),
            registry: Arc::new(registry),
            config,
            clock: clock.clone(),
            ids,
            metrics,
        });
        let services = Services {
            shared,
            ledger,
            security_policies,
            reviews,
            audit,
            trust,
            workflows,
            executions,
            bulk,
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
            tasks,
            outcomes,
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
            portfolios,
            creativity,
            proofs,
            deployments,
            retention,
            market,
            performance,
            jq,
            texts,
            supervisor,
        };
        background::start(&services, &keys, &witnesses);
        starting.finish();
        Ok(Self(Arc::new(services)))
    }

    /// Release every run, within the configured grace period.
    pub async fn stop(&self) {
        let grace = self.shared.config.shutdown_grace;
        self.supervisor.stop();
        let (_, trained, worked, called, talked) = tokio::join!(
            self.engine.stop(grace),
            tokio::time::timeout(grace, self.training.stop()),
            tokio::time::timeout(grace, self.tasks.stop()),
            tokio::time::timeout(grace, self.webhooks.stop()),
            tokio::time::timeout(grace, self.delivery.stop())
        );
        if talked.is_err() {
            tracing::warn!("WebSockets were still open; unacknowledged messages will be delivered again");
        }
        if called.is_err() {
            tracing::warn!("a webhook call did not end in time; it will be repeated");
        }
        if worked.is_err() {
            tracing::warn!("a background task could not be released in time; it will go on from its last checkpoint");
        }
        if trained.is_err() {
            tracing::warn!("a training run could not be released in time; it will resume from its last checkpoint");
        }
    }

    /// Stop the services that runs need, and close the database. No request can be answered afterwards.
    pub async fn close(&self) {
        self.sandboxes.stop();
        self.jq.shutdown().await;
        self.texts.shutdown().await;
        self.policies.stop();
        self.creativity.stop();
        // After this nothing else is written.
        if let Err(error) = self.audit.seal().await {
            tracing::warn!(%error, "the last audit entries could not be signed; the next start will sign them");
        }
        self.db.close().await;
    }
}
