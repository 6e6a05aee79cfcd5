//! Types of capabilities and of what shows them.

use std::collections::BTreeMap;

use am_core::ids::{AgentId, CapabilityId};
use am_db::codec::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A capability to add to an agent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = CapabilityRequest)]
pub struct CapabilityDraft {
    /// Agent that has it: one that the caller acts for, or that nobody has used.
    pub agent_id: AgentId,
    /// Name, 1 to 100 characters.
    pub capability_name: String,
    /// Type, 1 to 50 characters, as `cognitive` or `technical`.
    pub capability_type: String,
    /// Area, 1 to 50 characters.
    pub domain_area: String,
    /// Level that its maker claims, from 0 to 10.
    pub skill_level: f64,
    /// What it is special in: at most 50 texts of 1 to 100 characters. Default: none.
    #[serde(default)]
    pub specialization_areas: Vec<String>,
}

am_db::stored_enum! {
    /// What is known of a capability's level.
    #[schema(as = CapabilityStatus)]
    pub enum CapabilityStanding {
        /// Nobody has shown it: its level is what its maker says.
        Claimed = "CLAIMED" / "claimed",
        /// Its level is computed from evidence.
        Certified = "CERTIFIED" / "certified",
        /// What showed it is too old.
        Expired = "EXPIRED" / "expired",
    }
}

/// A capability of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CapabilityResponse)]
pub struct CapabilityDocument {
    /// Id of the capability.
    pub capability_id: CapabilityId,
    /// Agent that has it.
    pub agent_id: AgentId,
    /// Name of the capability.
    pub capability_name: String,
    /// Type of the capability.
    pub capability_type: String,
    /// Area of the capability.
    pub domain_area: String,
    /// The certified level, or the claimed one where `claimed` is true; from 0 to 10.
    pub skill_level: f64,
    /// Whether `skill_level` is only what its maker says.
    pub claimed: bool,
    /// Level that its maker claimed, from 0 to 10.
    pub claimed_level: f64,
    /// Ten times the lower end of the 95 % interval of the share that was reached in trials; null: fewer than 3 trials show it.
    pub certified_level: Option<f64>,
    /// Ten times the upper end of it.
    pub certified_level_high: Option<f64>,
    /// Until when it is certified by what shows it now; null: it is not.
    pub certified_until: Option<Timestamp>,
    /// Share that was reached in trials, from 0 to 1; null: nothing shows it.
    pub proficiency_score: Option<f64>,
    /// Pieces of evidence.
    pub evidence: i64,
    /// Trials that they are worth now: each counts half after 180 days.
    pub trials: f64,
    /// What it is special in.
    pub specialization_areas: Vec<String>,
    /// `claimed`, `certified` or `expired`.
    pub status: CapabilityStanding,
    /// Why figures are null, by their names.
    pub reasons: BTreeMap<String, String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

am_db::stored_enum! {
    /// What shows a capability.
    #[schema(as = CapabilityEvidenceKind)]
    pub enum EvidenceKind {
        /// An execution of the caller's that completed, with a valid receipt: a quarter of a trial, reached.
        Execution = "execution" / "execution",
        /// A completed evaluation of the agent by a suite: a trial for each case, of which its score was reached.
        Evaluation = "evaluation" / "evaluation",
        /// A request of the marketplace that the agent did and its client rated: one trial, of which (rating − 1) / 4 was reached.
        MarketRequest = "market_request" / "market_request",
    }
}

/// Evidence to attach to a capability.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = CapabilityEvidenceDraft)]
pub struct EvidenceDraft {
    /// `execution`, `evaluation` or `market_request`.
    pub kind: EvidenceKind,
    /// Its id. Each shows one capability.
    pub id: String,
}

/// A piece of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CapabilityEvidence)]
pub struct EvidenceDocument {
    /// Id of the piece.
    pub id: String,
    /// `execution`, `evaluation` or `market_request`.
    pub kind: EvidenceKind,
    /// Id of what shows it.
    pub reference: String,
    /// Trials that it is.
    pub trials: f64,
    /// What was reached of them.
    pub reached: f64,
    /// When it was done.
    pub shown_at: Timestamp,
    /// When it was attached.
    pub created_at: Timestamp,
}

/// A capability after evidence was attached to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CapabilityCertification)]
pub struct CertificationDocument {
    /// What was attached.
    pub attached: EvidenceDocument,
    /// The capability with its new level.
    pub capability: CapabilityDocument,
}

/// Which of an agent's capabilities a list has.
#[derive(Clone, Debug, Default)]
pub struct CapabilityFilter {
    /// Only of this type.
    pub capability_type: Option<String>,
    /// Only of this area.
    pub domain_area: Option<String>,
}
