//! Networks of agents: an agent is a workflow, and a task given to a network runs as one workflow composed of its
//! agents'.

mod compose;
mod model;
mod store;

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

pub use model::{
    AgentNetwork, AgentRunStats, CoordinationStrategy, NetworkActivity, NetworkAgent, NetworkDraft, NetworkObjective,
    NetworkOptimization, NetworkStatus,
};

use super::{
    definition::CompileError,
    engine::RunRequest,
    error::{OrchestrationError, Result},
    executions::{ExecutionService, Observed},
    guard::ExecutionConstraints,
    model::VerificationLevel,
    run::Execution,
    workflows::{CompiledWorkflow, WorkflowService},
};
use am_audit::{AuditEntry, AuditLog, EventType, SecurityLevel};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::{NetworkId, TraceId, WorkflowId},
    money::Money,
    validation::Violation,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};

/// Task given to a network.
#[derive(Clone, Debug, Default)]
pub struct NetworkTask {
    /// Inputs of the agents' workflows: the task and its priority.
    pub inputs: Map<String, Value>,
    /// W3C trace id of the request.
    pub trace_id: Option<TraceId>,
    /// Time for which the answer waits for the end of the execution; `None`: not at all.
    pub wait: Option<Duration>,
}

/// Service for networks. Cheap to clone.
#[derive(Clone)]
pub struct NetworkService {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    workflows: WorkflowService,
    executions: ExecutionService,
}

impl NetworkService {
    /// Create the service on `db`; agents are `workflows`.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        workflows: WorkflowService,
        executions: ExecutionService,
    ) -> Self {
        Self { db, clock, ids, audit, workflows, executions }
    }

    /// Store a network. Its agents need not exist yet.
    ///
    /// # Errors
    /// [`OrchestrationError::Invalid`] with every fault.
    #[boxed]
    pub async fn create(
        &self,
        owner: &Principal,
        draft: NetworkDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AgentNetwork>> {
        draft.check().map_err(OrchestrationError::Invalid)?;
        let now = Timestamp(self.clock.now());
        let network = AgentNetwork {
            // The suffix keeps two networks made in the same second apart, which collide in the monolith.
            id: format!("network_{}_{}", now.0.format("%Y%m%d_%H%M%S"), self.ids.hex(6)).into(),
            owner_id: owner.id(),
            name: draft.name,
            description: draft.description,
            agents: draft.agents,
            coordination_strategy: draft.strategy,
            status: "created".into(),
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit.clone();
        let entry = AuditEntry::new(EventType::WorkflowCreated, now)
            .of("network", "created")
            .by(owner)
            .workflow(network.id.as_str())
            .change(None, Some(json!({"name": network.name, "agents": network.agent_ids()})));
        self.db
            .write_idempotent(&self.clock, once, async move |tx: &mut Tx| {
                store::insert(tx, &network).await?;
                audit.append(tx, vec![entry]).await?;
                Ok(network)
            })
            .await
    }

    /// Return a network of `caller`.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for another owner's too.
    #[boxed]
    pub async fn get(&self, caller: &Principal, id: &NetworkId) -> Result<AgentNetwork> {
        let found = store::get(&mut *self.db.read().await?, id).await?;
        caller.own(found, |network| &network.owner_id).ok_or(OrchestrationError::NotFound("Network"))
    }

    /// Return a page of `caller`'s networks, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn list(&self, caller: &Principal, page: &PageRequest) -> Result<(Vec<AgentNetwork>, i64)> {
        store::list(&mut *self.db.read_list().await?, caller, page).await
    }

    /// Run a task on a network, and answer with the execution as a client observes it.
    ///
    /// # Errors
    /// [`OrchestrationError::Conflict`] when an agent is not a workflow that `caller` may run.
    #[boxed]
    pub async fn execute(
        &self,
        caller: &Principal,
        id: &NetworkId,
        task: NetworkTask,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Observed>> {
        let wait = task.wait;
        let begun = match self.executions.started(once.as_ref()).await? {
            Some(started) => started,
            None => self.begin(caller, id, task, once).await?,
        };
        self.executions.observe_begun(caller, begun, wait).await
    }

    async fn begin(
        &self,
        caller: &Principal,
        id: &NetworkId,
        task: NetworkTask,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Execution>> {
        let NetworkTask { inputs, trace_id, .. } = task;
        let network = self.get(caller, id).await?;
        let (mut agents, mut security) = (Vec::new(), SecurityLevel::Internal);
        for agent in network.agent_ids() {
            let workflow = self.workflows.get(caller, &agent).await.map_err(|error| match error {
                OrchestrationError::NotFound(_) => {
                    OrchestrationError::Conflict(format!("agent {agent:?} is no workflow that you may run"))
                }
                other => other,
            })?;
            security = security.max(workflow.terms().security);
            agents.push(compose::ComposedAgent { id: agent, definition: workflow.definition()? });
        }
        if agents.is_empty() {
            return Err(OrchestrationError::Conflict("the network has no agents".into()));
        }
        let task = inputs.get("task").cloned().unwrap_or(Value::Null);
        let definition = compose::compose_definition(&agents, &network, &task);
        let plan = Arc::new(definition.checked(self.workflows.names()).await.map_err(|error| match error {
            CompileError::Faults(faults) => invalid_agents_error(&faults),
            other => other.into(),
        })?);
        let step_ids = plan.steps.iter().map(|step| step.key.as_str().into()).collect();
        // A network has no limits of its own; it gets those of the policies.
        let seconds = self.executions.time_limit(security).unwrap_or(0);
        let level = VerificationLevel::Basic;
        let budget = self.executions.cost_limit(security).unwrap_or(Money::ZERO);
        let terms = ExecutionConstraints {
            security,
            level,
            requires_verification: true,
            max_execution_time: seconds,
            max_cost_budget: budget,
        };
        let inputs = Value::Object(inputs);
        let workflow_id = WorkflowId::from(network.id.into_string());
        self.executions.admit(caller, &workflow_id, terms, &plan, &inputs).await?;
        let start = RunRequest {
            workflow_id,
            client: caller.clone(),
            compiled: CompiledWorkflow { plan, step_ids },
            inputs,
            level,
            security,
            max_execution_time: seconds,
            max_cost_budget: budget,
            trace_id,
            condition: None,
        };
        self.executions.begin(start, once).await
    }

    /// Return a network and its status, computed from its executions.
    ///
    /// # Errors
    /// As [`NetworkService::get`].
    #[boxed]
    pub async fn standing(&self, caller: &Principal, id: &NetworkId) -> Result<(AgentNetwork, NetworkStatus)> {
        let network = self.get(caller, id).await?;
        let standing = store::network_status(&mut *self.db.read_list().await?, id).await?;
        Ok((network, standing))
    }

    /// Reorder a network's agents by measured figures; the first agent, which coordinates, stays. Agents without
    /// figures keep their order behind the others.
    ///
    /// # Errors
    /// As [`NetworkService::get`].
    #[boxed]
    pub async fn optimize(
        &self,
        caller: &Principal,
        id: &NetworkId,
        objective: NetworkObjective,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<NetworkOptimization>> {
        let (caller, id) = (caller.clone(), id.clone());
        let (now, audit) = (Timestamp(self.clock.now()), self.audit.clone());
        if let Some(done) = self.db.answered(&self.clock, once.as_ref()).await? {
            return Ok(done);
        }
        // Measured before the write lock is taken: it takes as long as there are executions.
        let mut figures = HashMap::new();
        for agent in self.get(&caller, &id).await?.agent_ids() {
            let conn = &mut *self.db.read_list().await?;
            let measured = store::agent_run_stats(conn, &caller, agent.clone()).await?;
            figures.insert(agent, measured);
        }
        self.db
            .write_idempotent(&self.clock, once, async move |tx: &mut Tx| {
                let found = store::get(tx.conn().await?, &id).await?;
                let found = caller.own(found, |network| &network.owner_id);
                let mut network = found.ok_or(OrchestrationError::NotFound("Network"))?;
                let measured: Option<Vec<AgentRunStats>> =
                    network.agent_ids().iter().map(|agent| figures.get(agent).cloned()).collect();
                let measured = measured.ok_or_else(|| {
                    OrchestrationError::Conflict(
                        "the network's agents changed at the same moment; try again".to_owned(),
                    )
                })?;
                let before = network.agent_ids();
                network.reorder(objective, &measured);
                network.updated_at = now;
                store::update_order(tx, &network).await?;
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now)
                    .of("network", "optimized")
                    .by(&caller)
                    .workflow(id.as_str())
                    .data("objective", json!(objective))
                    .change(Some(json!({"agents": before})), Some(json!({"agents": network.agent_ids()})));
                audit.append(tx, vec![entry]).await?;
                Ok(NetworkOptimization {
                    network_id: id,
                    objective,
                    changed: before != network.agent_ids(),
                    agents: network.agent_ids(),
                    before,
                    measured,
                })
            })
            .await
    }
}

fn invalid_agents_error(faults: &[Violation]) -> OrchestrationError {
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    OrchestrationError::Conflict(format!("the agents' workflows can't be joined: {first}"))
}
