//! Construction of the services that say how agents perform. Each subject has its own service, and a field here.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use am_audit::AuditLog;
use am_background::BackgroundTasks;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
    crypto::Signer,
    supervisor::Supervisor,
};
use am_db::Database;
use am_orchestration::{
    executions::ExecutionService,
    jq::{JqPool, TextChecker},
    workflows::WorkflowService,
};
use am_performance::{
    capabilities::CapabilityService,
    comparison::ComparisonService,
    meta::MetaService,
    optimisation::{OptimisationParts, OptimisationService},
    profiles::{MinerNames, ProfileService},
    resources::ResourceService,
    suites::{SuiteParts, SuiteService},
    sweeps::SweepService,
};
use am_rl::{library::PolicyLibrary, runs::TrainingRuns};

/// What runs and checks workflows, and the policies that they ask, with their trainings.
pub(super) struct ExecutionParts<'a> {
    executions: &'a ExecutionService,
    workflows: &'a WorkflowService,
    library: &'a PolicyLibrary,
    training: &'a TrainingRuns,
    jq: &'a JqPool,
    texts: &'a TextChecker,
    /// What receipts are signed by.
    signer: &'a Arc<Signer>,
    /// How miners are named.
    miners: MinerNames,
}

impl<'a> ExecutionParts<'a> {
    pub(super) fn new(
        (executions, workflows): (&'a ExecutionService, &'a WorkflowService),
        (library, training): (&'a PolicyLibrary, &'a TrainingRuns),
        (jq, texts): (&'a JqPool, &'a TextChecker),
        (signer, miners): (&'a Arc<Signer>, MinerNames),
    ) -> Self {
        Self { executions, workflows, library, training, jq, texts, signer, miners }
    }
}

/// The services of the performance group.
#[derive(Clone)]
pub struct PerformanceServices {
    /// Profiles of agents.
    pub profiles: ProfileService,
    /// Models of meta-learning.
    pub meta: MetaService,
    /// Optimisation of policies and workflows.
    pub optimisation: OptimisationService,
    /// Trainings of a policy with settings that are tried one after the other.
    pub sweeps: SweepService,
    /// Comparison of policies' versions.
    pub comparison: ComparisonService,
    /// Resources of agents and the capacity of hosts.
    pub resources: ResourceService,
    /// Suites by which workflows and policies are evaluated.
    pub suites: SuiteService,
    /// What agents can do, and what shows it.
    pub capabilities: CapabilityService,
}

impl PerformanceServices {
    /// Build them. Nothing happens by itself before [`PerformanceServices::start`].
    pub(super) fn open(
        config: &Config,
        db: &Database,
        clock: &Clock,
        ids: &IdGenerator,
        audit: &AuditLog,
        tasks: &BackgroundTasks,
        runs: &ExecutionParts<'_>,
    ) -> Self {
        let profiles = ProfileService::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), runs.miners.clone());
        let meta = MetaService::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), tasks.clone());
        let resources = ResourceService::new(db.clone(), clock.clone(), ids.clone(), audit.clone());
        let parts = SuiteParts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            executions: runs.executions.clone(),
            workflows: runs.workflows.clone(),
            library: runs.library.clone(),
            jq: runs.jq.clone(),
            texts: runs.texts.clone(),
        };
        let suites = SuiteService::new(parts, tasks.clone());
        runs.library.check_aliases_by(Arc::new(suites.clone()));
        let capabilities = CapabilityService::new(
            (db.clone(), clock.clone(), ids.clone()),
            audit.clone(),
            (runs.executions.clone(), runs.signer.clone()),
        );
        let optimisation = OptimisationService::new(OptimisationParts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            tasks: tasks.clone(),
            library: runs.library.clone(),
            workflows: runs.workflows.clone(),
            executions: runs.executions.clone(),
            parallel: config.engine.max_parallel_steps,
        });
        let sweeps = SweepService::new(
            (db.clone(), clock.clone(), ids.clone()),
            audit.clone(),
            tasks.clone(),
            (runs.library.clone(), runs.training.clone()),
        );
        let comparison = ComparisonService::new(
            (db.clone(), clock.clone()),
            audit.clone(),
            tasks.clone(),
            (runs.library.clone(), runs.training.clone()),
        );
        Self { profiles, meta, optimisation, sweeps, comparison, resources, suites, capabilities }
    }

    /// Register their metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.profiles.register(registry);
        self.resources.register(registry);
    }

    /// Start what they do by themselves.
    pub(super) fn start(&self, supervisor: &Supervisor) {
        supervisor.start("profiles", |stop| self.profiles.clone().work(stop));
        supervisor.start("suites", |stop| self.suites.clone().work(stop));
        supervisor.start("resources", |stop| self.resources.clone().sweep_loop(stop));
    }
}
