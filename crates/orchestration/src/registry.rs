//! Registry of agents: agents enter, report and leave it, and their capacity is found here.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    agents::{
        self, AgentChange, AgentDraft, AgentFilter, AgentStatus, HeartbeatReport, MeasureSource, OfflineReason,
        RegisteredAgentRecord, TaskType, audit_entry, store,
    },
    assignments,
    error::{OrchestrationError, Result},
    event_kinds::RegistryEventKind,
};
use am_audit::AuditLog;
use am_core::{ambient::Clock, boxed, config::AgentsConfig, ids::AgentId, validation::Violations};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};
use am_events::{StreamEvent, StreamFollower, StreamHub};

/// Registry of agents. Cheap to clone.
#[derive(Clone)]
pub struct AgentRegistry {
    pub(crate) db: Database,
    clock: Clock,
    pub(crate) audit: AuditLog,
    hub: StreamHub,
    pub(crate) settings: AgentsConfig,
    stopping: tokio_util::sync::CancellationToken,
}

/// An agent with its measured figures.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredAgent {
    /// Entry of the agent.
    pub agent: RegisteredAgentRecord,
    /// Performance from 0 to 1, and its source.
    pub performance: (f64, MeasureSource),
    /// Reliability from 0 to 1, and its source.
    pub reliability: (f64, MeasureSource),
    /// Health from 0 to 1.
    pub health: f64,
    /// Score by the contract's formula, independent of a sub-task.
    pub score: f64,
}

/// Use of the agents' capacity, computed from their assignments.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RegistryUtilisation)]
pub struct RegistryUtilisation {
    /// Number of registered agents.
    pub agents: i64,
    /// Number of agents online.
    pub online: i64,
    /// Number of assignments that the agents online accept at once.
    pub capacity: i64,
    /// Number of assignments that they hold.
    pub allocated: i64,
    /// Ratio of `allocated` to `capacity`; null when there is no capacity.
    pub utilisation: Option<f64>,
    /// Number of assignments that wait for an agent.
    pub waiting: i64,
    /// The same by type of task; an agent counts for each type that it does.
    #[schema(value_type = Vec<Object>)]
    pub by_task_type: Vec<Value>,
    /// The same by agent.
    #[schema(value_type = Vec<Object>)]
    pub by_agent: Vec<Value>,
}

/// Sums over agents that are online.
#[derive(Default)]
struct OnlineCapacity {
    /// Number of the agents.
    online: i64,
    /// Number of assignments that they accept at once.
    capacity: i64,
    /// Number of assignments that they hold.
    allocated: i64,
}

impl AgentRegistry {
    /// Create the registry on `db`.
    pub fn new(
        db: Database,
        clock: Clock,
        audit: AuditLog,
        hub: StreamHub,
        settings: AgentsConfig,
        stopping: tokio_util::sync::CancellationToken,
    ) -> Self {
        Self { db, clock, audit, hub, settings, stopping }
    }

    /// Return the time without heartbeat after which an agent is offline.
    pub fn offline_after(&self) -> Duration {
        self.settings.offline_after
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Return the time such that an agent last heard of before it is offline.
    pub(crate) fn cutoff(&self, now: Timestamp) -> Timestamp {
        agents::offline_cutoff(&self.settings, now)
    }

    /// Register an agent, or replace its owner's earlier entry; it is online.
    ///
    /// # Errors
    /// [`OrchestrationError::Invalid`]; [`OrchestrationError::Conflict`] when another owner has the name;
    /// [`OrchestrationError::QuotaReached`] when the owner has as many agents as it may have.
    #[boxed]
    pub async fn register(
        &self,
        owner: &Principal,
        draft: AgentDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MeasuredAgent>> {
        draft.check(self.settings.private_addresses).map_err(OrchestrationError::Invalid)?;
        let (owner, now) = (owner.clone(), self.now());
        let id = draft.agent_id.clone();
        let registered = self.change(once, id, async move |tx, registry, found: Option<RegisteredAgentRecord>| {
            let before = found.as_ref().map(RegisteredAgentRecord::state);
            let agent = match found {
                Some(found) if !owner.owns(&found.owner_id) => {
                    return Err(OrchestrationError::Conflict(format!("agent {:?} is another owner's", found.id)));
                }
                Some(mut found) => {
                    draft.fill(&mut found);
                    found.performance_reported = false;
                    (found.status, found.offline_reason) = (AgentStatus::Online, None);
                    (found.reported_load, found.last_seen, found.updated_at) = (None, now, now);
                    found
                }
                None => {
                    registry.check_room(tx, &owner).await?;
                    let incarnation = store::incarnate(tx, &draft.agent_id, &owner).await?;
                    RegisteredAgentRecord { incarnation, ..draft.into_agent(owner.id(), now) }
                }
            };
            store::upsert(tx, &agent).await?;
            let data = json!({"agent_id": agent.id, "task_types": agent.task_types, "again": before.is_some()});
            store::append_event(tx, RegistryEventKind::Registered, now, data).await?;
            let entry = audit_entry("registered", &agent.id, now).by(&owner).change(before, Some(agent.state()));
            registry.audit.append(tx, vec![entry]).await?;
            Ok(agent)
        });
        self.with_measures(registered.await?).await
    }

    /// Refuse another agent of an owner who has as many as one may have.
    async fn check_room(&self, tx: &mut Tx, owner: &Principal) -> Result<()> {
        let most = self.settings.max_registered;
        match store::count_of_owner(tx.conn().await?, owner).await? < most {
            true => Ok(()),
            false => Err(OrchestrationError::QuotaReached { setting: "AGENT_MAX_REGISTERED", items: "agents", most }),
        }
    }

    /// Apply one change to an entry, which is `None` if it does not exist.
    pub(crate) async fn change<F>(
        &self,
        once: Option<IdempotencyKey>,
        id: AgentId,
        change: F,
    ) -> Result<IdempotentResult<RegisteredAgentRecord>>
    where
        F: AsyncFnOnce(&mut Tx, &Self, Option<RegisteredAgentRecord>) -> Result<RegisteredAgentRecord> + Send + 'static,
    {
        self.change_and_wake(once, id, |_, _| true, change).await
    }

    /// [`AgentRegistry::change`] after which dispatch and followers of the registry are woken if `wakes` says so of the
    /// entry before and after it: most heartbeats change nothing for them.
    async fn change_and_wake<F>(
        &self,
        once: Option<IdempotencyKey>,
        id: AgentId,
        wakes: fn(AgentStatus, AgentStatus) -> bool,
        change: F,
    ) -> Result<IdempotentResult<RegisteredAgentRecord>>
    where
        F: AsyncFnOnce(&mut Tx, &Self, Option<RegisteredAgentRecord>) -> Result<RegisteredAgentRecord> + Send + 'static,
    {
        let (registry, hub) = (self.clone(), self.hub.clone());
        let cutoff = self.cutoff(self.now());
        let work = async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id, cutoff).await?;
            let before = found.as_ref().map_or(AgentStatus::Offline, |agent| agent.status);
            // Each of them tells the log: registry.audit.append( stands in the closures.
            let changed = change(tx, &registry, found).await?;
            if wakes(before, changed.status) {
                tx.after_commit(move || {
                    hub.wake(store::REGISTRY_STREAM);
                    hub.wake(assignments::DISPATCH_TOPIC);
                });
            }
            Ok(changed)
        };
        self.db.write_idempotent(&self.clock, once, work).await
    }

    /// Return one agent.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`].
    #[boxed]
    pub async fn get(&self, id: &AgentId) -> Result<MeasuredAgent> {
        let now = self.now();
        let mut conn = self.db.read().await?;
        let agent = store::get(&mut conn, id, self.cutoff(now)).await?.ok_or(OrchestrationError::NotFound("Agent"))?;
        let fastest = store::fastest_mean_seconds(&mut conn).await?;
        Ok(self.known(agent, &fastest, now))
    }

    /// Add the measured figures to an entry that was just written, as of its last heartbeat, so that a repeated request
    /// gets the same answer.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub(crate) async fn with_measures(
        &self,
        written: IdempotentResult<RegisteredAgentRecord>,
    ) -> Result<IdempotentResult<MeasuredAgent>> {
        let fastest = store::fastest_mean_seconds(&mut *self.db.read().await?).await?;
        Ok(written.map(|agent| {
            let heard = agent.last_seen;
            self.known(agent, &fastest, heard)
        }))
    }

    pub(crate) fn known(
        &self,
        agent: RegisteredAgentRecord,
        fastest: &std::collections::BTreeMap<TaskType, f64>,
        now: Timestamp,
    ) -> MeasuredAgent {
        MeasuredAgent {
            performance: agent.performance(fastest),
            reliability: agent.reliability(),
            health: agent.health(now, self.settings.offline_after),
            score: agents::score_agent(&agent, fastest),
            agent,
        }
    }

    /// Return a page of agents, newest first, and the number of matching ones.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn list(&self, filter: &AgentFilter) -> Result<(Vec<MeasuredAgent>, i64)> {
        let now = self.now();
        let mut conn = self.db.read().await?;
        let (rows, total) = store::list(&mut conn, filter, self.cutoff(now)).await?;
        let fastest = store::fastest_mean_seconds(&mut conn).await?;
        Ok((rows.into_iter().map(|agent| self.known(agent, &fastest, now)).collect(), total))
    }

    /// Change an entry.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], [`OrchestrationError::Forbidden`], [`OrchestrationError::Invalid`].
    #[boxed]
    pub async fn update(&self, owner: &Principal, id: &AgentId, change: AgentChange) -> Result<MeasuredAgent> {
        let (owner, now) = (owner.clone(), self.now());
        let private = self.settings.private_addresses;
        let done = self.change(None, id.clone(), async move |tx, registry, found| {
            let mut agent = check_owner(found, &owner)?;
            let before = agent.state();
            change.apply(&mut agent, private).map_err(OrchestrationError::Invalid)?;
            agent.updated_at = now;
            store::upsert(tx, &agent).await?;
            let entry = audit_entry("updated", &agent.id, now).by(&owner).change(Some(before), Some(agent.state()));
            registry.audit.append(tx, vec![entry]).await?;
            Ok(agent)
        });
        Ok(self.with_measures(done.await?).await?.value)
    }

    /// Record a heartbeat. It brings back an agent that had gone offline for lack of heartbeats, but not one that was
    /// taken offline.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], [`OrchestrationError::Forbidden`], [`OrchestrationError::Invalid`].
    #[boxed]
    pub async fn beat(
        &self,
        owner: &Principal,
        id: &AgentId,
        beat: HeartbeatReport,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<RegisteredAgentRecord>> {
        let mut violations = Violations::default();
        for (member, value) in [("load", beat.load), ("performance", beat.performance)] {
            violations.require(value.is_none_or(agents::is_share), member, "must be 0 to 1");
        }
        violations.finish().map_err(OrchestrationError::Invalid)?;
        let (owner, now) = (owner.clone(), self.now());
        self.change_and_wake(once, id.clone(), comes_back, async move |tx, registry, found| {
            let mut agent = check_actor(found, &owner)?;
            (agent.last_seen, agent.reported_load) = (now, beat.load.or(agent.reported_load));
            if let Some(performance) = beat.performance {
                (agent.claimed_performance, agent.performance_reported) = (performance, true);
            }
            let back = agent.offline_reason == Some(OfflineReason::Silent);
            if back {
                (agent.status, agent.offline_reason) = (AgentStatus::Online, None);
                let data = json!({"agent_id": agent.id, "reason": "heartbeat"});
                store::append_event(tx, RegistryEventKind::Online, now, data).await?;
                let entry = audit_entry("online", &agent.id, now)
                    .by(&owner)
                    .change(status_json(AgentStatus::Offline), status_json(AgentStatus::Online));
                registry.audit.append(tx, vec![entry]).await?;
            }
            store::upsert(tx, &agent).await?;
            Ok(agent)
        })
        .await
    }

    /// Deregister an agent; its assignments go to others.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], [`OrchestrationError::Forbidden`].
    #[boxed]
    pub async fn deregister(
        &self,
        owner: &Principal,
        id: &AgentId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<RegisteredAgentRecord>> {
        let (owner, now) = (owner.clone(), self.now());
        self.change(once, id.clone(), async move |tx, registry, found| {
            let agent = check_owner(found, &owner)?;
            let mut entries = assignments::release_all(tx, &agent.id, "it was deregistered", now).await?;
            let released = entries.len();
            store::delete(tx, &agent.id).await?;
            let data = json!({"agent_id": agent.id, "released": released});
            store::append_event(tx, RegistryEventKind::Deregistered, now, data).await?;
            let entry = audit_entry("deregistered", &agent.id, now).by(&owner).change(Some(agent.state()), None);
            entries.push(entry.data("released", json!(released)));
            registry.audit.append(tx, entries).await?;
            Ok(RegisteredAgentRecord { updated_at: now, ..agent })
        })
        .await
    }

    /// Return the use of the agents' capacity.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn utilisation(&self) -> Result<RegistryUtilisation> {
        let mut conn = self.db.read().await?;
        let agents = store::list_all(&mut conn, self.cutoff(self.now())).await?;
        let (waiting, _) = assignments::count_open(&mut conn).await?;
        let share = |allocated: i64, capacity: i64| (capacity > 0).then(|| allocated as f64 / capacity as f64);
        let sum = |of: &dyn Fn(&RegisteredAgentRecord) -> bool| {
            let online = agents.iter().filter(|agent| agent.is_online() && of(agent));
            online.fold(OnlineCapacity::default(), |sum, agent| OnlineCapacity {
                online: sum.online + 1,
                capacity: sum.capacity + agent.max_concurrent_tasks,
                allocated: sum.allocated + agent.open,
            })
        };
        let by_task_type = TaskType::ALL.iter().filter_map(|task_type| {
            let OnlineCapacity { online, capacity, allocated } = sum(&|agent| agent.task_types.contains(task_type));
            (online > 0).then(|| {
                let utilisation = share(allocated, capacity);
                json!({"task_type": task_type, "online": online, "capacity": capacity, "allocated": allocated, "utilisation": utilisation})
            })
        });
        let by_agent = agents.iter().map(|agent| {
            let utilisation = share(agent.open, agent.max_concurrent_tasks);
            json!({"agent_id": agent.id, "status": agent.status, "capacity": agent.max_concurrent_tasks, "allocated": agent.open,
                   "utilisation": utilisation, "reported_load": agent.reported_load})
        });
        let OnlineCapacity { online, capacity, allocated } = sum(&|_| true);
        Ok(RegistryUtilisation {
            agents: agents.len() as i64,
            online,
            capacity,
            allocated,
            utilisation: share(allocated, capacity),
            waiting,
            by_task_type: by_task_type.collect(),
            by_agent: by_agent.collect(),
        })
    }

    /// Return at most `limit` events of the registry with numbers above `after`.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn events(&self, after: i64, limit: usize) -> Result<Vec<StreamEvent>> {
        Ok(am_events::read_events(&mut *self.db.read().await?, store::REGISTRY_STREAM, after, limit).await?)
    }

    /// Follow the registry's events with numbers above `after`.
    pub fn follow(&self, after: i64) -> StreamFollower<Self> {
        StreamFollower::new(self.db.clone(), &self.hub, self.clone(), store::REGISTRY_STREAM, after)
    }
}

impl am_events::StreamSource for AgentRegistry {
    async fn has_ended(&self, _: &mut Connection, _: &str) -> am_db::Result<bool> {
        Ok(false)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }
}

fn check_owner(found: Option<RegisteredAgentRecord>, owner: &Principal) -> Result<RegisteredAgentRecord> {
    let agent = found.ok_or(OrchestrationError::NotFound("Agent"))?;
    if owner.owns(&agent.owner_id) { Ok(agent) } else { Err(OrchestrationError::Forbidden) }
}

/// The same for what a key may do that is bound to the agent.
pub(crate) fn check_actor(found: Option<RegisteredAgentRecord>, caller: &Principal) -> Result<RegisteredAgentRecord> {
    let agent = found.ok_or(OrchestrationError::NotFound("Agent"))?;
    if caller.acts_for(&agent.id, &agent.owner_id) { Ok(agent) } else { Err(OrchestrationError::Forbidden) }
}

pub(crate) fn status_json(status: AgentStatus) -> Option<Value> {
    Some(json!({"status": status}))
}

/// Whether a heartbeat changed what dispatch and followers of the registry see.
fn comes_back(before: AgentStatus, after: AgentStatus) -> bool {
    before != after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_wakes_others_only_if_the_agent_was_away() {
        assert!(comes_back(AgentStatus::Offline, AgentStatus::Online));
        assert!(!comes_back(AgentStatus::Online, AgentStatus::Online));
        assert!(!comes_back(AgentStatus::Offline, AgentStatus::Offline), "it was taken offline, and stays so");
    }
}
