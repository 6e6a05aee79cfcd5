//! Bodies of the directory: what is entered, what is looked for, and what is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use am_core::ids::AgentId;
use am_db::codec::{JsonText, Timestamp};
use am_orchestration::{directory::DirectoryState, registry::MeasuredAgent};

/// An agent to enter into the directory.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DirectoryRegister)]
pub struct DirectoryEntry {
    /// Name of the agent: 1 to 128 letters, digits, `.`, `_`, `:` and `-`.
    pub(super) agent_id: AgentId,
    /// Type of the agent. Default `worker`.
    pub(super) agent_type: Option<String>,
    /// Capabilities, at most 100: types of tasks, for which the agent then gets sub-tasks of plans, and other words. Default:
    /// none.
    pub(super) capabilities: Option<Vec<String>>,
    /// Services that the agent offers. Default: none.
    pub(super) services: Option<Vec<String>>,
    /// Addresses by name. They are shown, and not called. Default: none.
    pub(super) endpoints: Option<BTreeMap<String, String>>,
    /// Further facts, at most 16 KB as JSON. Default: none.
    #[schema(value_type = Option<Object>)]
    pub(super) metadata: Option<Map<String, Value>>,
    /// Version of the agent. Default `1.0.0`.
    pub(super) version: Option<String>,
    /// Tags to find the agent by. Default: none.
    pub(super) tags: Option<Vec<String>>,
    /// Chain that the agent works on. Default: none.
    pub(super) chain_id: Option<String>,
    /// Island that the agent is on. Default: none.
    pub(super) island_id: Option<String>,
}

/// An entry of the directory.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DirectoryAgent)]
pub struct ListedAgent {
    /// Name of the agent.
    pub(super) agent_id: AgentId,
    /// Type of the agent.
    pub(super) agent_type: String,
    /// `active`, `inactive`, or what the agent reported: `busy`, `maintenance`, `error`.
    pub(super) status: String,
    /// Capabilities: words of the agent's own, then types of tasks.
    pub(super) capabilities: Vec<String>,
    /// Services that the agent offers.
    pub(super) services: Vec<String>,
    /// Addresses by name, as the agent registered them.
    pub(super) endpoints: BTreeMap<String, String>,
    /// Further facts about the agent, as it registered them.
    #[schema(value_type = Object)]
    pub(super) metadata: JsonText,
    /// When the agent was last heard of.
    pub(super) last_heartbeat: Timestamp,
    /// When the agent was registered first.
    pub(super) registration_time: Timestamp,
    /// Loads that the agent reported, by name.
    pub(super) load_metrics: BTreeMap<String, f64>,
    /// Health, 0 to 1: the reliability, lowered the longer the agent is silent; 0 when it is offline.
    pub(super) health_score: f64,
    /// Version of the agent.
    pub(super) version: String,
    /// Tags of the agent.
    pub(super) tags: Vec<String>,
    /// Chain that the agent works on; empty: none.
    pub(super) chain_id: String,
    /// Island that the agent is on; empty: none.
    pub(super) island_id: String,
}

impl From<MeasuredAgent> for ListedAgent {
    fn from(known: MeasuredAgent) -> Self {
        let MeasuredAgent { agent, health, .. } = known;
        let (status, capabilities) = (DirectoryState::of(&agent).word().to_owned(), agent.capabilities());
        let profile = agent.profile.unwrap_or_default();
        Self {
            agent_id: agent.id,
            agent_type: agent.agent_type,
            status,
            capabilities,
            services: profile.services,
            endpoints: profile.endpoints,
            metadata: agent.metadata.or_empty_object(),
            last_heartbeat: agent.last_seen,
            registration_time: agent.created_at,
            load_metrics: profile.load_metrics,
            health_score: health,
            version: profile.version,
            tags: profile.tags,
            chain_id: profile.chain_id,
            island_id: profile.island_id,
        }
    }
}

/// Which agents are looked for. Null members do not restrict.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
#[schema(as = DirectoryQuery)]
pub struct DirectoryQuery {
    /// Only agents of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent_type: Option<String>,
    /// Only agents in this state: `active`, `inactive`, `busy`, `maintenance` or `error`; `online` and `offline` are understood
    /// too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<String>,
    /// Only agents with all of these capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capabilities: Option<Vec<String>>,
    /// Only agents that offer all of these services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) services: Option<Vec<String>>,
    /// Only agents with all of these tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<Vec<String>>,
    /// Only agents on this chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chain_id: Option<String>,
    /// Only agents on this island.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) island_id: Option<String>,
    /// Only agents of at least this health, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_health_score: Option<f64>,
    /// Number of agents at most, 1 to 1000. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
}

/// A search of the directory. The members may also stand inside `query`, as some clients send them.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = DirectorySearch)]
pub struct DirectorySearch {
    /// The search, in place of the members beside it.
    pub(super) query: Option<DirectoryQuery>,
    /// Only agents of this type.
    pub(super) agent_type: Option<String>,
    /// Only agents in this state: `active`, `inactive`, `busy`, `maintenance` or `error`; `online` and `offline` are understood
    /// too.
    pub(super) status: Option<String>,
    /// Only agents with all of these capabilities.
    pub(super) capabilities: Option<Vec<String>>,
    /// Only agents that offer all of these services.
    pub(super) services: Option<Vec<String>>,
    /// Only agents with all of these tags.
    pub(super) tags: Option<Vec<String>>,
    /// Only agents on this chain.
    pub(super) chain_id: Option<String>,
    /// Only agents on this island.
    pub(super) island_id: Option<String>,
    /// Only agents of at least this health, 0 to 1.
    pub(super) min_health_score: Option<f64>,
    /// Number of agents at most, 1 to 1000. Default 100.
    #[schema(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
}

impl DirectorySearch {
    /// The search, wherever its members stand.
    pub(super) fn into_query(self) -> DirectoryQuery {
        self.query.unwrap_or(DirectoryQuery {
            agent_type: self.agent_type,
            status: self.status,
            capabilities: self.capabilities,
            services: self.services,
            tags: self.tags,
            chain_id: self.chain_id,
            island_id: self.island_id,
            min_health_score: self.min_health_score,
            limit: self.limit,
        })
    }
}
