//! A capability as it is stored.

use am_core::ids::{AgentId, CapabilityId};
use am_db::codec::Timestamp;

/// A row of the coordinator's table, with what this service knows beside it.
#[derive(Clone, Debug)]
pub(super) struct CapabilityRecord {
    pub capability_id: CapabilityId,
    pub agent_id: AgentId,
    pub capability_name: String,
    pub capability_type: String,
    pub domain_area: String,
    pub skill_level: f64,
    pub specializations: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// `None`: the coordinator made it, and all that follows is empty.
    pub claimed_level: Option<f64>,
    pub trials: Option<f64>,
    pub reached: Option<f64>,
    pub evidence: Option<i64>,
    pub evidence_at: Option<Timestamp>,
}
