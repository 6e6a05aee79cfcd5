//! Registry of agents: their capabilities, availability, and measured performance.

mod model;
mod rules;
mod score;
pub(crate) mod store;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

pub use model::{
    Agent, AgentStatus, Beat, Change, Draft, ENOUGH, Filter, GpuTier, OfflineReason, Source, TaskType, Work,
};
pub use rules::AGENT_TYPE_LENGTH;
#[cfg(test)]
pub(crate) use score::tests;
pub use score::{Need, best, score};

use super::{
    assignments,
    error::{Error, Result},
};
use am_audit::{Audit, Entry, EventType};
use am_core::{ambient::Clock, config::AgentsConfig, validation::Violations};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    principal::Principal,
};
use am_events::{Event, Follower, Hub};

/// Registry of agents. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    db: Database,
    clock: Clock,
    audit: Audit,
    hub: Hub,
    settings: AgentsConfig,
    stopping: tokio_util::sync::CancellationToken,
}

/// An agent with its measured figures.
#[derive(Clone, Debug, Serialize)]
pub struct Known {
    /// Entry of the agent.
    pub agent: Agent,
    /// Performance from 0 to 1, and its source.
    pub performance: (f64, Source),
    /// Reliability from 0 to 1, and its source.
    pub reliability: (f64, Source),
    /// Health from 0 to 1.
    pub health: f64,
    /// Score by the contract's formula, independent of a sub-task.
    pub score: f64,
}

/// Use of the agents' capacity, computed from their assignments.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RegistryUtilisation)]
pub struct Utilisation {
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

impl Registry {
    /// Create the registry on `db`.
    pub fn new(
        (db, clock): (Database, Clock),
        audit: Audit,
        hub: Hub,
        settings: AgentsConfig,
        stopping: tokio_util::sync::CancellationToken,
    ) -> Self {
        Self { db, clock, audit, hub, settings, stopping }
    }

    /// Return the time without heartbeat after which an agent is offline.
    pub fn offline_after(&self) -> Duration {
        self.settings.offline_after
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Return the time such that an agent last heard of before it is offline.
    pub(crate) fn cutoff(&self, now: Timestamp) -> Timestamp {
        let after = chrono::Duration::from_std(self.settings.offline_after).unwrap_or(chrono::Duration::MAX);
        Timestamp(now.0.checked_sub_signed(after).unwrap_or_default())
    }

    /// Register an agent, or replace its owner's earlier entry; it is online.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Conflict`] when another owner has the name.
    pub async fn register(&self, owner: &Principal, draft: Draft, once: Option<Once>) -> Result<Done<Known>> {
        draft.check(self.settings.private_addresses).map_err(Error::Invalid)?;
        let (owner, now, id) = (owner.clone(), self.now(), draft.agent_id.clone());
        let registered = self.change(once, id, async move |tx, registry, found: Option<Agent>| {
            let before = found.as_ref().map(Agent::state);
            let agent = match found {
                Some(found) if !owner.owns(&found.owner_id) => {
                    return Err(Error::Conflict(format!("agent {:?} is another owner's", found.id)));
                }
                Some(mut found) => {
                    draft.fill(&mut found);
                    found.performance_reported = false;
                    (found.status, found.offline_reason) = (AgentStatus::Online, None);
                    (found.reported_load, found.last_seen, found.updated_at) = (None, now, now);
                    found
                }
                None => draft.into_agent(&owner.name, now),
            };
            store::put(tx, &agent).await?;
            let data = json!({"agent_id": agent.id, "task_types": agent.task_types, "again": before.is_some()});
            store::tell(tx, "agent_registered", now, data).await?;
            let entry = entry("registered", &agent.id, now).by(&owner).change(before, Some(agent.state()));
            registry.audit.append(tx, vec![entry]).await?;
            Ok(agent)
        });
        self.with_measures(registered.await?).await
    }

    /// Apply one change to an entry, which is `None` if it does not exist.
    async fn change<F>(&self, once: Option<Once>, id: String, change: F) -> Result<Done<Agent>>
    where
        F: AsyncFnOnce(&mut Tx, &Self, Option<Agent>) -> Result<Agent> + Send + 'static,
    {
        let (registry, hub) = (self.clone(), self.hub.clone());
        let cutoff = self.cutoff(self.now());
        let work = async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id, cutoff).await?;
            // Each of them tells the log: registry.audit.append( stands in the closures.
            let changed = change(tx, &registry, found).await?;
            tx.after_commit(move || {
                hub.wake(store::STREAM);
                hub.wake(assignments::WORK);
            });
            Ok(changed)
        };
        self.db.write_once(&self.clock, once, work).await
    }

    /// Return one agent.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: &str) -> Result<Known> {
        let now = self.now();
        let mut conn = self.db.read().await?;
        let agent = store::get(&mut conn, id, self.cutoff(now)).await?.ok_or(Error::NotFound("Agent"))?;
        let fastest = store::fastest(&mut conn).await?;
        Ok(self.known(agent, &fastest, now))
    }

    /// Add the measured figures to an entry that was just written, as of its last heartbeat, so that a repeated request
    /// gets the same answer.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    async fn with_measures(&self, written: Done<Agent>) -> Result<Done<Known>> {
        let fastest = store::fastest(&mut *self.db.read().await?).await?;
        Ok(written.map(|agent| {
            let heard = agent.last_seen;
            self.known(agent, &fastest, heard)
        }))
    }

    fn known(&self, agent: Agent, fastest: &std::collections::BTreeMap<TaskType, f64>, now: Timestamp) -> Known {
        Known {
            performance: agent.performance(fastest),
            reliability: agent.reliability(),
            health: agent.health(now, self.settings.offline_after),
            score: score::of(&agent, fastest),
            agent,
        }
    }

    /// Return a page of agents, newest first, and the number of matching ones.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn list(&self, filter: &Filter) -> Result<(Vec<Known>, i64)> {
        let now = self.now();
        let mut conn = self.db.read().await?;
        let (rows, total) = store::list(&mut conn, filter, self.cutoff(now)).await?;
        let fastest = store::fastest(&mut conn).await?;
        Ok((rows.into_iter().map(|agent| self.known(agent, &fastest, now)).collect(), total))
    }

    /// Return agents online that have `capability` (any, if `None`) and `agent_type`, with a health of at least
    /// `min_health`: the best first, at most `limit`. A capability that is not a task type matches none.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn find(
        &self,
        capability: Option<&str>,
        agent_type: Option<&str>,
        min_health: f64,
        limit: usize,
    ) -> Result<Vec<Known>> {
        let task_type = match capability.map(TaskType::from_value) {
            Some(None) => return Ok(Vec::new()),
            Some(known) => known,
            None => None,
        };
        let now = self.now();
        let mut conn = self.db.read().await?;
        let agents = store::all(&mut conn, self.cutoff(now)).await?;
        let fastest = store::fastest(&mut conn).await?;
        let mut found: Vec<Known> = agents
            .into_iter()
            .filter(|agent| agent.is_online())
            .filter(|agent| task_type.is_none_or(|task_type| agent.task_types.contains(&task_type)))
            .filter(|agent| agent_type.is_none_or(|kind| agent.agent_type == kind))
            .map(|agent| self.known(agent, &fastest, now))
            .filter(|known| known.health >= min_health)
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.agent.id.cmp(&b.agent.id)));
        found.truncate(limit);
        Ok(found)
    }

    /// Change an entry.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`].
    pub async fn update(&self, owner: &Principal, id: &str, change: Change) -> Result<Known> {
        let (owner, now, private) = (owner.clone(), self.now(), self.settings.private_addresses);
        let done = self.change(None, id.to_owned(), async move |tx, registry, found| {
            let mut agent = own(found, &owner)?;
            let before = agent.state();
            change.apply(&mut agent, private).map_err(Error::Invalid)?;
            agent.updated_at = now;
            store::put(tx, &agent).await?;
            let entry = entry("updated", &agent.id, now).by(&owner).change(Some(before), Some(agent.state()));
            registry.audit.append(tx, vec![entry]).await?;
            Ok(agent)
        });
        Ok(self.with_measures(done.await?).await?.value)
    }

    /// Record a heartbeat. It brings back an agent that had gone offline for lack of heartbeats, but not one that was
    /// taken offline.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Invalid`].
    pub async fn beat(&self, owner: &Principal, id: &str, beat: Beat, once: Option<Once>) -> Result<Done<Agent>> {
        let mut violations = Violations::default();
        for (member, value) in [("load", beat.load), ("performance", beat.performance)] {
            violations.require(value.is_none_or(rules::share), member, "must be 0 to 1");
        }
        violations.finish().map_err(Error::Invalid)?;
        let (owner, now) = (owner.clone(), self.now());
        self.change(once, id.to_owned(), async move |tx, registry, found| {
            let mut agent = own(found, &owner)?;
            (agent.last_seen, agent.reported_load) = (now, beat.load.or(agent.reported_load));
            if let Some(performance) = beat.performance {
                (agent.claimed_performance, agent.performance_reported) = (performance, true);
            }
            let back = agent.offline_reason == Some(OfflineReason::Silent);
            if back {
                (agent.status, agent.offline_reason) = (AgentStatus::Online, None);
                store::tell(tx, "agent_online", now, json!({"agent_id": agent.id, "reason": "heartbeat"})).await?;
                let entry = entry("online", &agent.id, now).by(&owner).change(status("offline"), status("online"));
                registry.audit.append(tx, vec![entry]).await?;
            }
            store::put(tx, &agent).await?;
            Ok(agent)
        })
        .await
    }

    /// Take an agent offline, so that its assignments go to others, or bring it back online.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`]; [`Error::State`] when it is in that state already.
    pub async fn switch(&self, owner: &Principal, id: &str, online: bool, once: Option<Once>) -> Result<Done<Known>> {
        let (owner, now) = (owner.clone(), self.now());
        let switched = self.change(once, id.to_owned(), async move |tx, registry, found| {
            let mut agent = own(found, &owner)?;
            let requested = agent.offline_reason == Some(OfflineReason::Requested);
            if online && agent.is_online() {
                return Err(Error::State("the agent is online already".into()));
            }
            if !online && requested {
                return Err(Error::State("the agent is offline already".into()));
            }
            let (kind, word, was) =
                if online { ("agent_online", "online", "offline") } else { ("agent_offline", "offline", "online") };
            agent.status = if online { AgentStatus::Online } else { AgentStatus::Offline };
            agent.offline_reason = (!online).then_some(OfflineReason::Requested);
            agent.updated_at = now;
            if online {
                agent.last_seen = now;
            }
            store::put(tx, &agent).await?;
            let mut entries = match online {
                true => Vec::new(),
                false => assignments::release_all(tx, &agent.id, "it was taken offline", now).await?,
            };
            let released = entries.len() as i64;
            agent.open -= released;
            store::tell(tx, kind, now, json!({"agent_id": agent.id, "reason": "requested", "released": released}))
                .await?;
            let entry = entry(word, &agent.id, now).by(&owner).change(status(was), status(word));
            entries.push(entry.data("released", json!(released)));
            registry.audit.append(tx, entries).await?;
            Ok(agent)
        });
        self.with_measures(switched.await?).await
    }

    /// Deregister an agent; its assignments go to others.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn deregister(&self, owner: &Principal, id: &str) -> Result<()> {
        let (owner, now) = (owner.clone(), self.now());
        let done = self.change(None, id.to_owned(), async move |tx, registry, found| {
            let agent = own(found, &owner)?;
            let mut entries = assignments::release_all(tx, &agent.id, "it was deregistered", now).await?;
            let released = entries.len();
            store::delete(tx, &agent.id).await?;
            store::tell(tx, "agent_deregistered", now, json!({"agent_id": agent.id, "released": released})).await?;
            let entry = entry("deregistered", &agent.id, now).by(&owner).change(Some(agent.state()), None);
            entries.push(entry.data("released", json!(released)));
            registry.audit.append(tx, entries).await?;
            Ok(agent)
        });
        done.await.map(drop)
    }

    /// Return the use of the agents' capacity.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn utilisation(&self) -> Result<Utilisation> {
        let mut conn = self.db.read().await?;
        let agents = store::all(&mut conn, self.cutoff(self.now())).await?;
        let (waiting, _) = assignments::open(&mut conn).await?;
        let share = |allocated: i64, capacity: i64| (capacity > 0).then(|| allocated as f64 / capacity as f64);
        let sum = |of: &dyn Fn(&Agent) -> bool| {
            let online = agents.iter().filter(|agent| agent.is_online() && of(agent));
            online.fold((0, 0, 0), |(count, capacity, open), agent| {
                (count + 1, capacity + agent.max_concurrent_tasks, open + agent.open)
            })
        };
        let by_task_type = TaskType::ALL.iter().filter_map(|task_type| {
            let (online, capacity, allocated) = sum(&|agent| agent.task_types.contains(task_type));
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
        let (online, capacity, allocated) = sum(&|_| true);
        Ok(Utilisation {
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
    pub async fn events(&self, after: i64, limit: usize) -> Result<Vec<Event>> {
        Ok(am_events::read(&mut *self.db.read().await?, store::STREAM, after, limit).await?)
    }

    /// Follow the registry's events with numbers above `after`.
    pub fn follow(&self, after: i64) -> Follower<Self> {
        Follower::new(self.db.clone(), &self.hub, self.clone(), store::STREAM, after)
    }
}

impl am_events::Source for Registry {
    async fn has_ended(&self, _: &mut Connection, _: &str) -> am_db::Result<bool> {
        Ok(false)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }
}

fn own(found: Option<Agent>, owner: &Principal) -> Result<Agent> {
    let agent = found.ok_or(Error::NotFound("Agent"))?;
    if owner.owns(&agent.owner_id) { Ok(agent) } else { Err(Error::Forbidden) }
}

fn status(word: &str) -> Option<Value> {
    Some(json!({"status": word}))
}

/// Build the audit entry of a change to an agent.
pub(crate) fn entry(action: &str, agent_id: &str, now: Timestamp) -> Entry {
    Entry::new(EventType::WorkflowUpdated, now).of("agent", action).data("agent_id", json!(agent_id))
}
