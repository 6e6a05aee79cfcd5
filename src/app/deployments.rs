//! Construction of deployments, and what they need of the engine: snapshots of workflows, and runs of them.

use std::{path::Path, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::Value;

use super::StartError;
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::{Config, SupervisorKind},
    ids::WorkflowId,
};
use am_db::{Database, principal::Principal};
use am_deployment::{
    DeploymentError, DeploymentParts, DeploymentService, DeploymentSettings, InstanceSupervisor, PortRange,
    ProcessSettings, ProcessSupervisor, SnapshotAnswer, SnapshotRun, SystemdBusAddress, SystemdSettings,
    SystemdSupervisor, WorkflowSnapshot, WorkflowSource,
};
use am_orchestration::{
    error::OrchestrationError,
    executions::{ExecutionRequest, ExecutionService},
    workflows::{Workflow, WorkflowService},
};
use am_webhooks::WebhookService;

/// Build the service for deployments.
pub(super) async fn open_deployments(
    config: &Config,
    executables: &Path,
    workflows: DeployedWorkflows,
    (db, clock, ids): (&Database, &Clock, &IdGenerator),
    (audit, webhooks): (&AuditLog, &WebhookService),
) -> Result<DeploymentService, StartError> {
    let settings = &config.deployments;
    let directory = settings.directory.clone().unwrap_or_else(|| config.data_dir.join("deployments"));
    let supervisor: Arc<dyn InstanceSupervisor> = match settings.supervisor {
        SupervisorKind::Process => Arc::new(ProcessSupervisor::new(ProcessSettings {
            program: executables.join("agent-management-agent"),
            directory: directory.join("supervisor"),
            user: settings.user,
            allow_root: settings.allow_root,
        })),
        SupervisorKind::Systemd => {
            let bus = match settings.systemd_bus.as_str() {
                "system" => SystemdBusAddress::System,
                "session" => SystemdBusAddress::Session,
                address => SystemdBusAddress::At(address.to_owned()),
            };
            let supervisor = SystemdSupervisor::connect(SystemdSettings { bus, directory: directory.join("systemd") });
            Arc::new(supervisor.await.map_err(StartError::Supervisor)?)
        }
    };
    let (low, high) = settings.ports;
    Ok(DeploymentService::new(DeploymentParts {
        db: db.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        audit: audit.clone(),
        webhooks: webhooks.clone(),
        workflows: Arc::new(workflows),
        supervisor,
        settings: DeploymentSettings {
            ports: PortRange { low, high },
            directory,
            service_url: settings.service_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned()),
            most_of_owner: i64::from(settings.most_of_owner),
            hold: settings.hold,
            drain: settings.drain,
        },
    })?)
}

/// Takes snapshots of workflows, and runs them.
pub(super) struct DeployedWorkflows {
    executions: ExecutionService,
    workflows: WorkflowService,
}

impl DeployedWorkflows {
    /// By these services.
    pub(super) fn new(executions: &ExecutionService, workflows: &WorkflowService) -> Self {
        Self { executions: executions.clone(), workflows: workflows.clone() }
    }

    async fn take(&self, caller: &Principal, id: &WorkflowId) -> Result<WorkflowSnapshot, String> {
        let workflow = self.workflows.get(caller, id).await;
        let workflow = workflow.map_err(|_| "is no workflow that you may run".to_owned())?;
        // The coordinator stores workflows unchecked.
        self.workflows.compiled(&workflow).await.map_err(|error| format!("can't be run: {error}"))?;
        let etag = workflow.etag();
        let workflow = serde_json::to_value(&workflow).map_err(|error| error.to_string())?;
        Ok(WorkflowSnapshot { workflow, etag })
    }

    async fn run_once(&self, run: SnapshotRun) -> Result<SnapshotAnswer, DeploymentError> {
        let caller = Principal::named(run.owner_id.as_str());
        let unreadable =
            |error: serde_json::Error| DeploymentError::Refused(format!("The snapshot can't be read: {error}"));
        let workflow: Workflow = serde_json::from_value(run.workflow).map_err(unreadable)?;
        let request = ExecutionRequest { inputs: run.inputs, wait: Some(run.wait), ..ExecutionRequest::default() };
        let done = self.executions.execute_snapshot(&caller, &self.workflows, &workflow, request, run.once).await;
        let done = done.map_err(refusal_of)?;
        let (execution, replayed) = (done.value.execution, done.replayed);
        let result: Option<Value> = execution.final_result.parse().map_err(unreadable)?;
        Ok(SnapshotAnswer {
            instance_id: String::new(),
            revision: 0,
            execution_id: execution.id.to_string(),
            status: execution.status.to_string(),
            result: result.unwrap_or_default(),
            error: execution.error_message,
            replayed,
        })
    }
}

fn refusal_of(error: OrchestrationError) -> DeploymentError {
    match error {
        OrchestrationError::Db(error) => error.into(),
        error => DeploymentError::Refused(error.to_string()),
    }
}

impl WorkflowSource for DeployedWorkflows {
    fn snapshot<'a>(
        &'a self,
        caller: &'a Principal,
        workflow: &'a WorkflowId,
    ) -> BoxFuture<'a, Result<WorkflowSnapshot, String>> {
        self.take(caller, workflow).boxed()
    }

    fn run(&self, run: SnapshotRun) -> BoxFuture<'_, Result<SnapshotAnswer, DeploymentError>> {
        self.run_once(run).boxed()
    }
}
