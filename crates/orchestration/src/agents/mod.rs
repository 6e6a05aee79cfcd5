//! Registered agents: their capabilities, availability and measured performance, and what a sub-task requires of them.

mod draft;
mod model;
mod profile;
mod score;
pub(crate) mod store;
mod validation;

use serde_json::json;

pub use draft::{AgentChange, AgentDraft};
pub use model::{
    AgentFilter, AgentStatus, GpuTier, HeartbeatReport, MIN_ENDED_ASSIGNMENTS, MeasureSource, OfflineReason,
    RegisteredAgentRecord, TaskStats, TaskType,
};
pub use profile::{AgentProfile, ReportedState};
pub(crate) use profile::{LOADS_MESSAGE, are_loads, mean_load};
pub(crate) use score::score_agent;
#[cfg(test)]
pub(crate) use score::tests;
pub use score::{TaskRequirements, agent_score, best_agent};
pub use validation::AGENT_TYPE_LENGTH;
pub(crate) use validation::{check_agent_id, is_share};

use am_audit::{AuditEntry, EventType};
use am_core::{absence, config::AgentsConfig, ids::AgentId};
use am_db::codec::Timestamp;

/// Return the time such that an agent last heard of before it is offline. Agents are not missed for this process's own absence.
pub(crate) fn offline_cutoff(settings: &AgentsConfig, now: Timestamp) -> Timestamp {
    let after = settings.offline_after.saturating_add(absence::recent(settings.offline_after));
    let after = chrono::Duration::from_std(after).unwrap_or(chrono::Duration::MAX);
    Timestamp(now.0.checked_sub_signed(after).unwrap_or_default())
}

/// Build the audit entry of a change to an agent.
pub(crate) fn audit_entry(action: &str, agent_id: &AgentId, now: Timestamp) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, now).of("agent", action).data("agent_id", json!(agent_id))
}
