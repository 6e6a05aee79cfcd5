//! Stored record of an entity, and what is asked and told of records.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use am_core::ids::TrustScoreId;
use am_db::codec::Timestamp;

/// Maximum length of an entity's type, in characters.
pub const MAX_ENTITY_TYPE_LEN: usize = 50;
/// Maximum length of an entity's id, in characters.
pub const MAX_ENTITY_ID_LEN: usize = 200;

/// Trust score of an entity, a row of `agent_trust_scores`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AgentTrustScore)]
pub struct TrustScore {
    /// Id: `trust_` and 8 hex digits.
    pub id: TrustScoreId,
    /// Type of the entity: `user`, `workflow` or `agent` (of the registry) are maintained by this service; clients may
    /// name others.
    pub entity_type: String,
    /// Id of the entity.
    pub entity_id: String,
    /// Trust score from 0 to 100, as of the last update.
    pub trust_score: f64,
    /// Reputation score from 0 to 100.
    pub reputation_score: f64,
    /// Number of executions that ended.
    pub total_executions: i64,
    /// Number of executions that succeeded.
    pub successful_executions: i64,
    /// Number of executions that failed.
    pub failed_executions: i64,
    /// Share of executions that succeeded, in percent.
    pub verification_success_rate: f64,
    /// Number of security violations including sandbox breaches; each costs 10 points of trust.
    pub security_violations: i64,
    /// Number of refusals by a policy.
    pub policy_violations: i64,
    /// Number of attempts to leave a sandbox.
    pub sandbox_breaches: i64,
    /// Time when the last execution ended; null without executions.
    pub last_execution: Option<Timestamp>,
    /// Time of the last violation; null without violations.
    pub last_violation: Option<Timestamp>,
    /// Mean duration of all executions in seconds; null when unknown.
    pub average_execution_time: Option<f64>,
    /// The last 100 executions and verifications, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub execution_history: Vec<Value>,
    /// The last 100 violations, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub violation_history: Vec<Value>,
    /// Time of the first evidence.
    pub created_at: Timestamp,
    /// Time of the last evidence.
    pub updated_at: Timestamp,
}

/// Filter for a list of scores. `None` members restrict nothing.
#[derive(Clone, Debug, Default)]
pub struct TrustFilter {
    /// Type of the entity.
    pub entity_type: Option<String>,
    /// Id of the entity, in every form that a row may hold.
    pub entity_id: Option<Vec<String>>,
    /// Lowest trust score.
    pub min_score: Option<f64>,
    /// Highest trust score.
    pub max_score: Option<f64>,
}

/// Distribution of trust scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustStatistics {
    /// Number of entities.
    pub total_entities: u64,
    /// Mean trust score, to a millionth; null without entities.
    pub average_trust_score: Option<f64>,
    /// Number of entities with a trust score of at least 80.
    pub high_trust_entities: u64,
    /// Number of entities with a trust score below 20.
    pub low_trust_entities: u64,
    /// Numbers by trust score: very_low below 20, low below 40, medium below 60, high below 80, very_high from 80.
    pub distribution: TrustDistribution,
    /// Same as `distribution`, under the name used by the former monolith.
    pub trust_score_distribution: TrustDistribution,
}

/// Number of entities by trust.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TrustDistribution)]
pub struct TrustDistribution {
    /// Entities with a trust below 20.
    pub very_low: u64,
    /// Entities with a trust from 20 to below 40.
    pub low: u64,
    /// Entities with a trust from 40 to below 60.
    pub medium: u64,
    /// Entities with a trust from 60 to below 80.
    pub high: u64,
    /// Entities with a trust of 80 or more.
    pub very_high: u64,
}
