//! Networks of agents: an agent is a workflow, and a task given to a network runs as one workflow composed of its
//! agents'.

mod compose;
mod model;
mod store;

use std::sync::Arc;

use serde_json::{Map, Value, json};

pub use model::{Draft, Measured, Network, NetworkAgent, Objective, Optimized, Standing, Strategy};

use super::{
    engine::Start,
    error::{Error, Result},
    executions::{Execution, Executions},
    guard::Terms,
    model::VerificationLevel,
    workflows::{Compiled, Workflows},
};
use am_audit::{Audit, Entry, EventType, SecurityLevel};
use am_core::{
    ambient::{Clock, Ids},
    validation::Violation,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    page::Page,
    principal::Principal,
};

/// Service for networks. Cheap to clone.
#[derive(Clone)]
pub struct Networks {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    workflows: Workflows,
    executions: Executions,
}

impl Networks {
    /// Create the service on `db`; agents are `workflows`.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        workflows: Workflows,
        executions: Executions,
    ) -> Self {
        Self { db, clock, ids, audit, workflows, executions }
    }

    /// Store a network. Its agents need not exist yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub async fn create(&self, owner: &Principal, draft: Draft, once: Option<Once>) -> Result<Done<Network>> {
        draft.check().map_err(Error::Invalid)?;
        let now = Timestamp(self.clock.now());
        let network = Network {
            // The suffix keeps two networks made in the same second apart, which collide in the monolith.
            id: format!("network_{}_{}", now.0.format("%Y%m%d_%H%M%S"), self.ids.hex(6)),
            owner_id: owner.name.to_string(),
            name: draft.name,
            description: draft.description,
            agents: draft.agents,
            coordination_strategy: draft.strategy,
            status: "created".into(),
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit.clone();
        let entry = Entry::new(EventType::WorkflowCreated, now)
            .of("network", "created")
            .by(owner)
            .workflow(&network.id)
            .change(None, Some(json!({"name": network.name, "agents": network.agent_ids()})));
        self.db
            .write_once(&self.clock, once, async move |tx: &mut Tx| {
                store::insert(tx, &network).await?;
                audit.append(tx, vec![entry]).await?;
                Ok(network)
            })
            .await
    }

    /// Return a network of `caller`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn get(&self, caller: &Principal, id: &str) -> Result<Network> {
        let network = store::get(&mut *self.db.read().await?, id).await?.ok_or(Error::NotFound("Network"))?;
        if caller.owns(&network.owner_id) { Ok(network) } else { Err(Error::Forbidden) }
    }

    /// Return a page of `caller`'s networks, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn list(&self, caller: &Principal, page: &Page) -> Result<(Vec<Network>, i64)> {
        store::list(&mut *self.db.read().await?, caller, page).await
    }

    /// Run `task` on a network.
    ///
    /// # Errors
    /// [`Error::Conflict`] when an agent is not a workflow that `caller` may run.
    pub async fn execute(
        &self,
        caller: &Principal,
        id: &str,
        inputs: Map<String, Value>,
        trace_id: Option<String>,
        once: Option<Once>,
    ) -> Result<Done<Execution>> {
        if let Some(done) = self.executions.started(once.as_ref()).await? {
            return Ok(done);
        }
        let network = self.get(caller, id).await?;
        let (mut agents, mut security) = (Vec::new(), SecurityLevel::Internal);
        for agent in network.agent_ids() {
            let workflow = self.workflows.get(caller, &agent).await.map_err(|error| match error {
                Error::NotFound(_) | Error::Forbidden => {
                    Error::Conflict(format!("agent {agent:?} is no workflow that you may run"))
                }
                other => other,
            })?;
            security = security.max(workflow.terms().security);
            agents.push(compose::Agent { id: agent, definition: workflow.definition()? });
        }
        if agents.is_empty() {
            return Err(Error::Conflict("the network has no agents".into()));
        }
        let task = inputs.get("task").cloned().unwrap_or(Value::Null);
        let definition = compose::definition(&agents, &network, &task);
        let plan = Arc::new(definition.compiled(self.workflows.names()).await.map_err(|faults| broken(&faults))?);
        let step_ids = plan.steps.iter().map(|step| step.key.clone()).collect();
        // A network has no time limit of its own; it gets that of the policies.
        let seconds = self.executions.time_limit(security).unwrap_or(0);
        let level = VerificationLevel::Basic;
        let terms = Terms { security, level, requires_verification: true, max_execution_time: seconds };
        let inputs = Value::Object(inputs);
        self.executions.admit(caller, &network.id, terms, &plan, &inputs).await?;
        let start = Start {
            workflow_id: network.id,
            client: caller.clone(),
            compiled: Compiled { plan, step_ids },
            inputs,
            level,
            security,
            max_execution_time: seconds,
            max_cost_budget: 0.0,
            trace_id,
        };
        self.executions.begin(start, once).await
    }

    /// Return a network and its status, computed from its executions.
    ///
    /// # Errors
    /// As [`Networks::get`].
    pub async fn standing(&self, caller: &Principal, id: &str) -> Result<(Network, Standing)> {
        let network = self.get(caller, id).await?;
        let standing = store::standing(&mut *self.db.read().await?, id).await?;
        Ok((network, standing))
    }

    /// Reorder a network's agents by measured figures; the first agent, which coordinates, stays. Agents without
    /// figures keep their order behind the others.
    ///
    /// # Errors
    /// As [`Networks::get`].
    pub async fn optimize(
        &self,
        caller: &Principal,
        id: &str,
        objective: Objective,
        once: Option<Once>,
    ) -> Result<Done<Optimized>> {
        let (caller, id, now) = (caller.clone(), id.to_owned(), Timestamp(self.clock.now()));
        let audit = self.audit.clone();
        self.db
            .write_once(&self.clock, once, async move |tx: &mut Tx| {
                let mut network = store::get(tx.conn().await?, &id).await?.ok_or(Error::NotFound("Network"))?;
                if !caller.owns(&network.owner_id) {
                    return Err(Error::Forbidden);
                }
                let mut measured = Vec::new();
                for agent in network.agent_ids() {
                    measured.push(store::measured(tx.conn().await?, agent).await?);
                }
                let before = network.agent_ids();
                network.reorder(objective, &measured);
                network.updated_at = now;
                store::reorder(tx, &network).await?;
                let entry = Entry::new(EventType::WorkflowUpdated, now)
                    .of("network", "optimized")
                    .by(&caller)
                    .workflow(&id)
                    .data("objective", json!(objective))
                    .change(Some(json!({"agents": before})), Some(json!({"agents": network.agent_ids()})));
                audit.append(tx, vec![entry]).await?;
                Ok(Optimized {
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

fn broken(faults: &[Violation]) -> Error {
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    Error::Conflict(format!("the agents' workflows can't be joined: {first}"))
}
