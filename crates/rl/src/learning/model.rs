//! Types of learning agents, as stored and shown.

use serde::{Deserialize, Serialize};

use crate::{
    library::VersionRecord,
    runs::TrainingRun,
    training::{FeedbackAction, LearningMode},
};
use am_core::{
    crypto::sha256_hex,
    ids::{AgentId, PrincipalId},
};
use am_db::{codec::Timestamp, owner};

/// Maximum length of the name of an agent's policy, in characters.
const MAX_POLICY_NAME_LEN: usize = 64;

/// A learning agent.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = LearningAgent)]
pub struct Learner {
    /// Id of the agent.
    pub agent_id: AgentId,
    /// Principal that owns the agent.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Name of the agent's own policy.
    pub policy: String,
    /// Mode of learning: `reinforcement`, `transfer` or `meta`.
    pub mode: LearningMode,
    /// Default learning rate of the optimiser, where a training request gives none.
    pub learning_rate: f64,
    /// Description of the feedback's source, for people; null when none was given.
    pub feedback_source: Option<String>,
    /// Time when learning was enabled.
    pub created_at: Timestamp,
    /// Time of the last change of the settings.
    pub updated_at: Timestamp,
}

/// Settings for enabling an agent's learning.
#[derive(Clone, Debug)]
pub struct LearnerSettings {
    /// Mode of learning: which layers change, and how.
    pub mode: LearningMode,
    /// Learning rate of the optimiser.
    pub learning_rate: f64,
    /// Description of the feedback's source, for people.
    pub feedback_source: Option<String>,
    /// Policy to copy; `None` copies the built-in one.
    pub policy: Option<String>,
}

/// A state, given as numbers or by feature names.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = FeedbackState)]
pub enum FeedbackStateInput {
    /// Numbers in the policy's order.
    Numbers(Vec<f64>),
    /// Features by name.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    Named(serde_json::Map<String, serde_json::Value>),
}

/// An action, given by index, name or numbers.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = FeedbackActionInput)]
pub enum FeedbackActionInput {
    /// Action in the form in which the policy answers it.
    Action(FeedbackAction),
    /// Name of the action.
    Name(String),
}

/// A row of feedback as clients send it.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = FeedbackRow)]
pub struct FeedbackInput {
    /// State in which the action was done.
    pub state: FeedbackStateInput,
    /// Action that was done.
    pub action: FeedbackActionInput,
    /// Reward of the action.
    pub reward: f64,
}

/// State of an agent's learning.
#[derive(Clone, Debug)]
pub struct LearnerStatus {
    /// Settings of the learning agent.
    pub learner: Learner,
    /// Newest version of its policy.
    pub version: VersionRecord,
    /// Training runs of the agent, newest first, at most 100.
    pub runs: Vec<TrainingRun>,
    /// Total number of its training runs.
    pub total: i64,
}

/// Build the name of an agent's policy: `agent-` and the agent's id, as far as a name allows. If something is lost,
/// digits of the id's hash are appended.
pub fn policy_name_for(agent_id: &AgentId) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let plain: String = agent_id.to_lowercase().chars().map(letter).collect();
    let name = format!("agent-{plain}");
    if plain == agent_id.as_str() && name.len() <= MAX_POLICY_NAME_LEN {
        return name;
    }
    let kept: String = name.chars().take(MAX_POLICY_NAME_LEN - 9).collect();
    format!("{kept}-{}", &sha256_hex(agent_id.as_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyReference;

    #[test]
    fn each_agent_has_a_policy_of_its_own() {
        assert_eq!(policy_name_for(&"pricer_7".into()), "agent-pricer_7");
        let names = ["Pricer_7", "pricer 7", "pricer/7", "é", "", &"a".repeat(200), &"a".repeat(201)]
            .map(|id| policy_name_for(&id.into()));
        for (at, name) in names.iter().enumerate() {
            assert!(PolicyReference::named(name).is_ok(), "{name}");
            assert!(!names[..at].contains(name), "{name} twice");
        }
    }
}
