//! The directory of agents: how they are found, and how they say that they are there.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    agents::{
        self, AgentProfile, AgentStatus, OfflineReason, RegisteredAgentRecord, ReportedState, audit_entry, store,
    },
    assignments,
    error::{OrchestrationError, Result},
    event_kinds::RegistryEventKind,
    registry::{AgentRegistry, MeasuredAgent, check_actor, status_json},
};
use am_audit::AuditEntry;
use am_core::{boxed, ids::AgentId, validation::Violation};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

/// Whether an agent is there, in the directory's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryState {
    /// It is online.
    Active,
    /// It is offline.
    Inactive,
    /// It is online and busy, or offline for maintenance or because of an error.
    Reported(ReportedState),
}

impl DirectoryState {
    /// The state of an agent.
    pub fn of(agent: &RegisteredAgentRecord) -> Self {
        let reported = agent.profile.as_ref().and_then(|profile| profile.state);
        let silent = agent.offline_reason == Some(OfflineReason::Silent);
        match reported.filter(|state| agent.is_online() == (*state == ReportedState::Busy) && !silent) {
            Some(state) => Self::Reported(state),
            None if agent.is_online() => Self::Active,
            None => Self::Inactive,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Reported(state) => state.value(),
        }
    }

    /// The state of this word; `None` for another word. `online` and `offline` are understood too.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "active" | "online" => Some(Self::Active),
            "inactive" | "offline" => Some(Self::Inactive),
            other => ReportedState::from_value(other).map(Self::Reported),
        }
    }

    fn is_online(self) -> bool {
        matches!(self, Self::Active | Self::Reported(ReportedState::Busy))
    }
}

/// Filter of the directory; null members and empty lists do not restrict.
#[derive(Clone, Debug, Default)]
pub struct DirectoryFilter {
    /// Only agents of this type.
    pub agent_type: Option<String>,
    /// Only agents in this state.
    pub state: Option<DirectoryState>,
    /// Only agents with all of these capabilities.
    pub capabilities: Vec<String>,
    /// Only agents that offer all of these services.
    pub services: Vec<String>,
    /// Only agents with all of these tags.
    pub tags: Vec<String>,
    /// Only agents on this chain.
    pub chain_id: Option<String>,
    /// Only agents on this island.
    pub island_id: Option<String>,
    /// Only agents of at least this health.
    pub min_health: f64,
    /// Number of agents at most.
    pub limit: usize,
}

impl DirectoryFilter {
    fn admits(&self, agent: &RegisteredAgentRecord) -> bool {
        let none = AgentProfile::default();
        let profile = agent.profile.as_ref().unwrap_or(&none);
        let has_all = |wanted: &[String], found: &[String]| wanted.iter().all(|word| found.contains(word));
        let is = |wanted: &Option<String>, found: &String| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.agent_type, &agent.agent_type)
            && self.state.is_none_or(|state| state == DirectoryState::of(agent))
            && self.capabilities.iter().all(|word| agent.has_capability(word))
            && has_all(&self.services, &profile.services)
            && has_all(&self.tags, &profile.tags)
            && is(&self.chain_id, &profile.chain_id)
            && is(&self.island_id, &profile.island_id)
    }
}

impl AgentRegistry {
    /// Return agents online that have `capability` (any, if `None`) and `agent_type`, with a health of at least
    /// `min_health`: the best first, at most `limit`.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn find(
        &self,
        capability: Option<&str>,
        agent_type: Option<&str>,
        min_health: f64,
        limit: usize,
    ) -> Result<Vec<MeasuredAgent>> {
        let now = self.now();
        let mut conn = self.db.read().await?;
        let agents = store::list_all(&mut conn, self.cutoff(now)).await?;
        let fastest = store::fastest_mean_seconds(&mut conn).await?;
        let mut found: Vec<MeasuredAgent> = agents
            .into_iter()
            .filter(|agent| agent.is_online())
            .filter(|agent| capability.is_none_or(|word| agent.has_capability(word)))
            .filter(|agent| agent_type.is_none_or(|kind| agent.agent_type == kind))
            .map(|agent| self.known(agent, &fastest, now))
            .filter(|known| known.health >= min_health)
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.agent.id.cmp(&b.agent.id)));
        found.truncate(limit);
        Ok(found)
    }

    /// Return the agents that `filter` admits, online or not: the healthiest first.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn search(&self, filter: &DirectoryFilter) -> Result<Vec<MeasuredAgent>> {
        let now = self.now();
        let mut conn = self.db.read().await?;
        let agents = store::list_all(&mut conn, self.cutoff(now)).await?;
        let fastest = store::fastest_mean_seconds(&mut conn).await?;
        let mut found: Vec<MeasuredAgent> = agents
            .into_iter()
            .filter(|agent| filter.admits(agent))
            .map(|agent| self.known(agent, &fastest, now))
            .filter(|known| known.health >= filter.min_health)
            .collect();
        found.sort_by(|a, b| b.health.total_cmp(&a.health).then_with(|| a.agent.id.cmp(&b.agent.id)));
        found.truncate(filter.limit);
        Ok(found)
    }

    /// Take an agent offline, so that its assignments go to others, or bring it back online.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], [`OrchestrationError::Forbidden`]; [`OrchestrationError::InvalidState`] when it is in that state already.
    #[boxed]
    pub async fn set_online(
        &self,
        owner: &Principal,
        id: &AgentId,
        online: bool,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MeasuredAgent>> {
        let (owner, now) = (owner.clone(), self.now());
        let switched = self.change(once, id.clone(), async move |tx, registry, found| {
            let mut agent = check_actor(found, &owner)?;
            let requested = agent.offline_reason == Some(OfflineReason::Requested);
            if online && agent.is_online() {
                return Err(OrchestrationError::InvalidState("the agent is online already".into()));
            }
            if !online && requested {
                return Err(OrchestrationError::InvalidState("the agent is offline already".into()));
            }
            let entries = switch(tx, &mut agent, online, &owner, now).await?;
            store::upsert(tx, &agent).await?;
            registry.audit.append(tx, entries).await?;
            Ok(agent)
        });
        self.with_measures(switched.await?).await
    }

    /// Record the state that an agent reports of itself, and its loads: it is taken offline or brought online where that
    /// follows. The same state again is a sign of life.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], [`OrchestrationError::Forbidden`], [`OrchestrationError::Invalid`].
    #[boxed]
    pub async fn report_state(
        &self,
        owner: &Principal,
        id: &AgentId,
        state: DirectoryState,
        loads: BTreeMap<String, f64>,
    ) -> Result<MeasuredAgent> {
        if !agents::are_loads(&loads) {
            let fault = Violation::new("load_metrics", agents::LOADS_MESSAGE);
            return Err(OrchestrationError::Invalid(vec![fault]));
        }
        let (owner, now) = (owner.clone(), self.now());
        let done = self.change(None, id.clone(), async move |tx, registry, found| {
            let mut agent = check_actor(found, &owner)?;
            let before = DirectoryState::of(&agent);
            let requested = agent.offline_reason == Some(OfflineReason::Requested);
            let mut entries = match (state.is_online(), agent.is_online()) {
                (true, false) => switch(tx, &mut agent, true, &owner, now).await?,
                (false, _) if !requested => switch(tx, &mut agent, false, &owner, now).await?,
                _ => Vec::new(),
            };
            agent.last_seen = now;
            agent.reported_load = agents::mean_load(&loads).or(agent.reported_load);
            let profile = agent.profile.get_or_insert_default();
            profile.load_metrics.extend(loads);
            // The merged loads have the bound of one report.
            let many = !agents::are_loads(&profile.load_metrics);
            profile.state = match state {
                DirectoryState::Reported(reported) => Some(reported),
                _ => None,
            };
            if many {
                let fault = Violation::new("load_metrics", agents::LOADS_MESSAGE);
                return Err(OrchestrationError::Invalid(vec![fault]));
            }
            if entries.is_empty() && before != state {
                let change = (Some(json!({"status": before.word()})), Some(json!({"status": state.word()})));
                entries.push(audit_entry("updated", &agent.id, now).by(&owner).change(change.0, change.1));
            }
            store::upsert(tx, &agent).await?;
            registry.audit.append(tx, entries).await?;
            Ok(agent)
        });
        Ok(self.with_measures(done.await?).await?.value)
    }
}

/// Take `agent` offline, or bring it online, and tell the registry's stream. Returns the audit entries; the row is yet to be
/// written.
async fn switch(
    tx: &mut Tx,
    agent: &mut RegisteredAgentRecord,
    online: bool,
    owner: &Principal,
    now: Timestamp,
) -> Result<Vec<AuditEntry>> {
    let kind = if online { RegistryEventKind::Online } else { RegistryEventKind::Offline };
    let (status, was) = match online {
        true => (AgentStatus::Online, AgentStatus::Offline),
        false => (AgentStatus::Offline, AgentStatus::Online),
    };
    agent.status = status;
    agent.offline_reason = (!online).then_some(OfflineReason::Requested);
    agent.updated_at = now;
    if online {
        agent.last_seen = now;
    }
    let mut entries = match online {
        true => Vec::new(),
        false => assignments::release_all(tx, &agent.id, "it was taken offline", now).await?,
    };
    let released = entries.len() as i64;
    agent.open -= released;
    let data = json!({"agent_id": agent.id, "reason": "requested", "released": released});
    store::append_event(tx, kind, now, data).await?;
    let entry = audit_entry(status.value(), &agent.id, now).by(owner).data("owner_id", json!(agent.owner_id));
    let entry = entry.change(status_json(was), status_json(status));
    entries.push(entry.data("released", json!(released)));
    Ok(entries)
}
