//! Agents that learn, as they are stored and shown.

use serde::{Deserialize, Serialize};

use crate::{
    library::VersionRecord,
    runs::TrainingRun,
    training::{FeedbackAction, Mode},
};
use am_core::crypto::sha256_hex;
use am_db::{codec::Timestamp, owner};

/// The longest name of an agent's policy.
const LONGEST: usize = 64;

/// An agent that learns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Learner {
    /// The agent.
    pub agent_id: String,
    /// Whose it is.
    #[serde(serialize_with = "owner::shown")]
    pub owner_id: String,
    /// Its own policy.
    pub policy: String,
    /// reinforcement, transfer or meta.
    pub mode: Mode,
    /// Of the optimiser, where a training does not say.
    pub learning_rate: f64,
    /// Where its feedback comes from, for people.
    pub feedback_source: Option<String>,
    /// When it was enabled.
    pub created_at: Timestamp,
    /// When that was changed last.
    pub updated_at: Timestamp,
}

/// How an agent is to learn.
#[derive(Clone, Debug)]
pub struct Enabling {
    /// What may change, and how.
    pub mode: Mode,
    /// Of the optimiser.
    pub learning_rate: f64,
    /// Where its feedback comes from, for people.
    pub feedback_source: Option<String>,
    /// The policy that its own begins as a copy of; none: the built-in one.
    pub policy: Option<String>,
}

/// A state by its numbers or their names.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum GivenState {
    /// As the policy takes them.
    Numbers(Vec<f64>),
    /// By name.
    Named(serde_json::Map<String, serde_json::Value>),
}

/// An action by its index, its name, or its numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum GivenAction {
    /// As the policy answers it.
    Action(FeedbackAction),
    /// By name.
    Name(String),
}

/// A row of feedback as it is sent.
#[derive(Clone, Debug, Deserialize)]
pub struct GivenFeedback {
    /// The state it was done in.
    pub state: GivenState,
    /// What was done.
    pub action: GivenAction,
    /// How good it was.
    pub reward: f64,
}

/// How an agent's learning goes.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The agent.
    pub learner: Learner,
    /// The newest version of its policy.
    pub version: VersionRecord,
    /// Its runs, newest first, at most a hundred.
    pub runs: Vec<TrainingRun>,
    /// How many there are in all.
    pub total: i64,
}

/// The name of an agent's policy: `agent-` and the agent's id as far as a name takes it; where that loses something, with
/// digits of the id's hash.
pub fn policy_of(agent_id: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let plain: String = agent_id.to_lowercase().chars().map(letter).collect();
    let name = format!("agent-{plain}");
    if plain == agent_id && name.len() <= LONGEST {
        return name;
    }
    let kept: String = name.chars().take(LONGEST - 9).collect();
    format!("{kept}-{}", &sha256_hex(agent_id.as_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyReference;

    #[test]
    fn each_agent_has_a_policy_of_its_own() {
        assert_eq!(policy_of("pricer_7"), "agent-pricer_7");
        let names = ["Pricer_7", "pricer 7", "pricer/7", "é", "", &"a".repeat(200), &"a".repeat(201)].map(policy_of);
        for (at, name) in names.iter().enumerate() {
            assert!(PolicyReference::named(name).is_ok(), "{name}");
            assert!(!names[..at].contains(name), "{name} twice");
        }
    }
}
