//! Requests that register or change an agent.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{
    model::{AgentStatus, GpuTier, RegisteredAgentRecord, TaskType},
    profile::AgentProfile,
    validation::{self, AGENT_TYPE_LENGTH},
};
use am_core::{
    ids::{AgentId, PrincipalId},
    money::Money,
    validation::{Violation, Violations, has_length},
};
use am_db::codec::{JsonText, Timestamp};

/// Maximum size of metadata, in bytes of JSON.
const MAX_METADATA_BYTES: usize = 16 << 10;
/// Characters of an agent's description.
const DESCRIPTION_LENGTH: RangeInclusive<usize> = 0..=2000;
/// Tasks that an agent does at once.
const CONCURRENT_TASKS: RangeInclusive<i64> = 1..=1000;
/// What an hour of an agent may cost.
const COST_PER_HOUR: RangeInclusive<Money> = Money::ZERO..=Money::from_f64(1e9);

/// Request for registering an agent.
#[derive(Clone, Debug)]
pub struct AgentDraft {
    /// Id of 1 to 128 letters, digits and `._:-`.
    pub agent_id: AgentId,
    /// Type of agent, 1 to 50 characters.
    pub agent_type: String,
    /// Description for people; at most 2000 characters.
    pub description: String,
    /// Types of sub-tasks, at least one.
    pub task_types: Vec<TaskType>,
    /// Tier of its GPU.
    pub gpu_tier: GpuTier,
    /// Maximum number of concurrent assignments, 1 to 1000.
    pub max_concurrent_tasks: i64,
    /// Performance, 0 to 1.
    pub performance: f64,
    /// Reliability, 0 to 1.
    pub reliability: f64,
    /// Price per hour, at least 0.
    pub cost_per_hour: Money,
    /// URL with https, or http where private addresses are allowed.
    pub endpoint_url: Option<String>,
    /// Metadata, an object of at most 16 KB.
    pub metadata: JsonText,
    /// What the agent says of itself in the directory; such an agent need not name a type of sub-tasks.
    pub profile: Option<AgentProfile>,
}

impl AgentDraft {
    /// # Errors
    /// Every violation.
    pub(crate) fn check(&self, private_addresses: bool) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        violations.extend(validation::check_agent_id(&self.agent_id));
        violations.extend(Vec::from(self.violations(private_addresses)));
        violations.finish()
    }

    /// Check the members other than the id.
    fn violations(&self, private_addresses: bool) -> Violations {
        let mut violations = Violations::default();
        let mut check = |good: bool, member: &str, message: &str| violations.require(good, member, message);
        let kind = &self.agent_type;
        check(
            has_length(kind, &AGENT_TYPE_LENGTH) && !kind.chars().any(char::is_control),
            "agent_type",
            "must have 1 to 50 characters",
        );
        check(has_length(&self.description, &DESCRIPTION_LENGTH), "description", "at most 2000 characters");
        let named = !self.task_types.is_empty() || self.profile.is_some();
        check(named, "capabilities", "must name at least one type of task");
        check(CONCURRENT_TASKS.contains(&self.max_concurrent_tasks), "max_concurrent_tasks", "must be 1 to 1000");
        check(validation::is_share(self.performance), "performance", "must be 0 to 1");
        check(validation::is_share(self.reliability), "reliability", "must be 0 to 1");
        check(COST_PER_HOUR.contains(&self.cost_per_hour), "cost_per_hour", "must be 0 to 1000000000");
        let metadata = self.metadata.get().map_or("{}", |raw| raw.get());
        check(
            metadata.len() <= MAX_METADATA_BYTES && metadata.trim_start().starts_with('{'),
            "metadata",
            "must be an object of at most 16384 bytes of JSON",
        );
        if let Some(profile) = &self.profile {
            violations.extend(Vec::from(profile.violations()));
        }
        if let Some(Err(why)) =
            self.endpoint_url.as_deref().map(|url| validation::parse_endpoint(url, private_addresses))
        {
            violations.add("endpoint_url", why);
        }
        violations
    }

    /// Copy the request's values into `agent`.
    pub(crate) fn fill(self, agent: &mut RegisteredAgentRecord) {
        let mut task_types = self.task_types;
        task_types.sort_unstable();
        task_types.dedup();
        agent.agent_type = self.agent_type;
        agent.description = self.description;
        agent.task_types = task_types;
        agent.gpu_tier = self.gpu_tier;
        agent.max_concurrent_tasks = self.max_concurrent_tasks;
        agent.claimed_performance = self.performance;
        agent.claimed_reliability = self.reliability;
        agent.cost_per_hour = self.cost_per_hour;
        agent.endpoint_url = self.endpoint_url;
        agent.metadata = self.metadata;
        agent.profile = self.profile;
    }

    /// Create a new agent of the owner `owner_id`.
    pub(crate) fn into_agent(self, owner_id: PrincipalId, now: Timestamp) -> RegisteredAgentRecord {
        let mut agent = RegisteredAgentRecord {
            id: self.agent_id.clone(),
            owner_id,
            agent_type: String::new(),
            description: String::new(),
            task_types: Vec::new(),
            gpu_tier: self.gpu_tier,
            max_concurrent_tasks: 0,
            claimed_performance: 0.0,
            performance_reported: false,
            claimed_reliability: 0.0,
            cost_per_hour: Money::ZERO,
            endpoint_url: None,
            metadata: JsonText::none(),
            profile: None,
            status: AgentStatus::Online,
            offline_reason: None,
            reported_load: None,
            last_seen: now,
            created_at: now,
            updated_at: now,
            incarnation: 1,
            open: 0,
            work: BTreeMap::new(),
        };
        self.fill(&mut agent);
        agent
    }
}

/// Changes to an agent; members left out stay unchanged.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "as in Draft")]
pub struct AgentChange {
    pub agent_type: Option<String>,
    pub description: Option<String>,
    pub task_types: Option<Vec<TaskType>>,
    pub gpu_tier: Option<GpuTier>,
    pub max_concurrent_tasks: Option<i64>,
    pub performance: Option<f64>,
    pub reliability: Option<f64>,
    pub cost_per_hour: Option<Money>,
    /// URL at which it is called; an empty string removes it.
    pub endpoint_url: Option<String>,
    pub metadata: Option<JsonText>,
}

impl AgentChange {
    /// Apply the changes to `agent`, or return the faults.
    pub(crate) fn apply(
        self,
        agent: &mut RegisteredAgentRecord,
        private_addresses: bool,
    ) -> Result<(), Vec<Violation>> {
        let draft = AgentDraft {
            agent_id: agent.id.clone(),
            agent_type: self.agent_type.unwrap_or_else(|| agent.agent_type.clone()),
            description: self.description.unwrap_or_else(|| agent.description.clone()),
            task_types: self.task_types.unwrap_or_else(|| agent.task_types.clone()),
            gpu_tier: self.gpu_tier.unwrap_or(agent.gpu_tier),
            max_concurrent_tasks: self.max_concurrent_tasks.unwrap_or(agent.max_concurrent_tasks),
            performance: self.performance.unwrap_or(agent.claimed_performance),
            reliability: self.reliability.unwrap_or(agent.claimed_reliability),
            cost_per_hour: self.cost_per_hour.unwrap_or(agent.cost_per_hour),
            endpoint_url: self.endpoint_url.or_else(|| agent.endpoint_url.clone()).filter(|url| !url.is_empty()),
            metadata: self.metadata.unwrap_or_else(|| agent.metadata.clone()),
            profile: agent.profile.clone(),
        };
        draft.violations(private_addresses).finish()?;
        agent.performance_reported &= self.performance.is_none();
        draft.fill(agent);
        Ok(())
    }
}
