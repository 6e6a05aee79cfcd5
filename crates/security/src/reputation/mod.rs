//! An agent's reputation, from 0 to 10 000: the number that decides which agents may write to which, and that others
//! require.
//!
//! The coordinator's record takes precedence where there is one, because it covers trade, disputes and ratings, which
//! this service does not know. Otherwise the reputation derives from the agent's trust score, which is computed from
//! executions. Without either it is the initial value of that formula.

mod store;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_core::boxed;
use am_core::ids::AgentId;
use am_db::{Connection, Result, codec::Timestamp};

/// Highest possible reputation.
pub const MAX_REPUTATION: f64 = 10_000.0;
/// Reputation of an unknown agent: half of the highest, as trust starts with 50 of 100.
pub const INITIAL_REPUTATION: f64 = 5_000.0;
/// Factor from the coordinator's scale, which ends at 1000.
const COORDINATOR_SCALE_FACTOR: f64 = 10.0;
/// Factor from the trust scale, which ends at 100.
const TRUST_SCALE_FACTOR: f64 = 100.0;

/// Source of a reputation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReputationSource {
    /// The newest row of the agent in `agent_reputation`: `trust_score`, 0 to 1000, times ten.
    Coordinator,
    /// `agent_trust_scores.reputation_score`, 0 to 100, times a hundred: of the entity `agent`, else `workflow`.
    Trust,
    /// No record: the initial value.
    Initial,
}

/// Reputation of an agent, with its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentReputationScore {
    /// Reputation from 0 to 10 000.
    pub reputation: f64,
    /// Source of the reputation.
    pub source: ReputationSource,
    /// Value from the coordinator's record, whether it takes precedence or not; null without a record.
    pub coordinator: Option<f64>,
    /// Value from the trust score, whether it takes precedence or not; null without a score.
    pub trust: Option<f64>,
    /// Time of the last change of the source; null without a record.
    pub updated_at: Option<Timestamp>,
}

/// Score of a record on its own scale, and the time of its last change.
type RecordedScore = Option<(f64, Timestamp)>;

/// Reputation of an agent.
///
/// # Errors
/// Returns a database error when a query fails.
#[boxed]
pub async fn get_reputation(conn: &mut Connection, agent: &AgentId) -> Result<AgentReputationScore> {
    Ok(get_reputations(conn, &[agent]).await?.remove(agent).unwrap_or_else(|| combine_records(None, None)))
}

/// Reputation of each of these agents, in one query.
///
/// # Errors
/// Returns a database error when a query fails.
#[boxed]
pub async fn get_reputations(
    conn: &mut Connection,
    agents: &[&AgentId],
) -> Result<HashMap<AgentId, AgentReputationScore>> {
    if agents.is_empty() {
        return Ok(HashMap::new());
    }
    let mut records = store::read_records(conn, agents).await?;
    let of = |agent: &&AgentId| {
        let (coordinator, trust) = records.remove(*agent).unwrap_or_default();
        ((*agent).clone(), combine_records(coordinator, trust))
    };
    Ok(agents.iter().map(of).collect())
}

/// Combine both records. A score that is not a number or is out of range is clamped.
fn combine_records(coordinator: RecordedScore, trust: RecordedScore) -> AgentReputationScore {
    let on_scale = |score: f64| if score.is_nan() { 0.0 } else { score.clamp(0.0, MAX_REPUTATION) };
    let scaled = |recorded: RecordedScore, factor: f64| recorded.map(|(score, _)| on_scale(score * factor));
    let (of_coordinator, of_trust) = (scaled(coordinator, COORDINATOR_SCALE_FACTOR), scaled(trust, TRUST_SCALE_FACTOR));
    let (reputation, source, updated_at) = match (of_coordinator, of_trust) {
        (Some(score), _) => (score, ReputationSource::Coordinator, coordinator.map(|(_, at)| at)),
        (None, Some(score)) => (score, ReputationSource::Trust, trust.map(|(_, at)| at)),
        (None, None) => (INITIAL_REPUTATION, ReputationSource::Initial, None),
    };
    AgentReputationScore { reputation, source, coordinator: of_coordinator, trust: of_trust, updated_at }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(day: u32) -> Timestamp {
        Timestamp::from_stored(&format!("2026-05-{day:02} 14:00:00.000000")).unwrap()
    }

    #[test]
    fn the_coordinators_record_counts_then_trust_then_the_beginning() {
        let both = combine_records(Some((712.5, at(1))), Some((30.0, at(9))));
        assert_eq!(
            (both.reputation, both.source, both.updated_at),
            (7125.0, ReputationSource::Coordinator, Some(at(1)))
        );
        assert_eq!(both.trust, Some(3000.0));
        let trust = combine_records(None, Some((30.0, at(9))));
        assert_eq!((trust.reputation, trust.source, trust.coordinator), (3000.0, ReputationSource::Trust, None));
        let nothing = combine_records(None, None);
        assert_eq!((nothing.reputation, nothing.source, nothing.updated_at), (5000.0, ReputationSource::Initial, None));
    }

    proptest! {
        #[test]
        fn it_stays_on_its_scale(score in prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY)]) {
            for found in [combine_records(Some((score, at(1))), None), combine_records(None, Some((score, at(1))))] {
                prop_assert!((0.0..=MAX_REPUTATION).contains(&found.reputation), "{}", found.reputation);
            }
        }
    }
}
