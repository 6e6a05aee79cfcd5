//! Construction of the registry, the assignments, the plans, and of operations on many executions.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::StartError;
use am_audit::AuditLog;
use am_communication::messages::MessageService;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::{AgentsConfig, Config},
};
use am_db::Database;
use am_events::StreamHub;
use am_ledger::LedgerService;
use am_orchestration::{
    action::ActionCatalog,
    assignments::AssignmentService,
    bulk::{BulkService, BulkServiceParts},
    executions::ExecutionService,
    plans::{PlanService, PlanServiceParts},
    registry::AgentRegistry,
    workflows::WorkflowService,
};

/// Services for agents.
pub(super) struct AgentServices {
    pub registry: AgentRegistry,
    pub assignments: AssignmentService,
    settings: AgentsConfig,
}

impl AgentServices {
    /// Build the services and start their background tasks.
    pub fn start(
        config: &Config,
        (audit, ledger): (&AuditLog, &LedgerService),
        hub: &StreamHub,
        messages: &MessageService,
        db: &Database,
        clock: &Clock,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let settings = config.agents.clone();
        let registry =
            AgentRegistry::new(db.clone(), clock.clone(), audit.clone(), hub.clone(), settings.clone(), stop.clone());
        let courier = Arc::new(messages.clone());
        let (audit, ledger, hub) = (audit.clone(), ledger.clone(), hub.clone());
        let (db, clock) = (db.clone(), clock.clone());
        let assignments = AssignmentService::new(db, clock, audit, ledger, hub, settings.clone(), courier)?;
        Ok(Self { registry, assignments, settings })
    }

    /// Build the service for plans.
    pub fn plans(
        &self,
        executions: &ExecutionService,
        names: ActionCatalog,
        db: &Database,
        clock: &Clock,
        ids: &IdGenerator,
        audit: &AuditLog,
    ) -> PlanService {
        PlanService::new(PlanServiceParts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            registry: self.registry.clone(),
            executions: executions.clone(),
            names,
            settings: self.settings.clone(),
        })
    }
}

/// Build the service for operations on many executions.
pub(super) fn open_bulk(
    executions: &ExecutionService,
    workflows: &WorkflowService,
    db: &Database,
    clock: &Clock,
    ids: &IdGenerator,
    audit: &AuditLog,
) -> BulkService {
    BulkService::new(BulkServiceParts {
        db: db.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        audit: audit.clone(),
        executions: executions.clone(),
        workflows: workflows.clone(),
    })
}
