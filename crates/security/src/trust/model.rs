//! What is kept of an entity, and how evidence changes it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::formula::{self, Sum};
use am_db::codec::Timestamp;

/// Entries that each history keeps, the newest.
const KEPT: usize = 100;
/// The longest type of an entity, in characters.
pub const LONGEST_TYPE: usize = 50;
/// The longest id of one.
pub const LONGEST_ID: usize = 200;

/// A row of `agent_trust_scores`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AgentTrustScore)]
pub struct TrustScore {
    /// `trust_` and 8 hex digits.
    pub id: String,
    /// What it is: `user`, `workflow` and `agent` (of the registry) are kept by this service; clients may name others.
    pub entity_type: String,
    /// Which one.
    pub entity_id: String,
    /// 0 to 100, as of the last update.
    pub trust_score: f64,
    /// 0 to 100.
    pub reputation_score: f64,
    /// Executions that ended.
    pub total_executions: i64,
    /// Those that ended well.
    pub successful_executions: i64,
    /// Those that failed.
    pub failed_executions: i64,
    /// The part of executions that ended well, in percent.
    pub verification_success_rate: f64,
    /// Those that the trust score takes 10 off for each of; breaches of a sandbox among them.
    pub security_violations: i64,
    /// Refusals by a policy.
    pub policy_violations: i64,
    /// Programs that tried to leave their sandbox.
    pub sandbox_breaches: i64,
    /// When the last execution ended.
    #[schema(value_type = Option<String>)]
    pub last_execution: Option<Timestamp>,
    /// When the last violation was.
    #[schema(value_type = Option<String>)]
    pub last_violation: Option<Timestamp>,
    /// Seconds, the mean over all executions.
    pub average_execution_time: Option<f64>,
    /// The last 100 executions and verifications, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub execution_history: Vec<Value>,
    /// The last 100 violations, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub violation_history: Vec<Value>,
    /// When the first evidence came.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When the last came.
    #[schema(value_type = String)]
    pub updated_at: Timestamp,
}

/// Something that an entity did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evidence {
    /// An execution ended.
    Execution {
        /// Well?
        success: bool,
        /// How long it took, where that is known.
        seconds: Option<f64>,
    },
    /// Results were held against what was asked of them: did they hold?
    Verification(bool),
    /// Something was done that must not be.
    SecurityViolation,
    /// A policy refused something.
    PolicyViolation,
    /// A program tried to leave its sandbox.
    SandboxBreach,
}

impl Evidence {
    /// As the audit log calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Execution { success: true, .. } => "execution_completed",
            Self::Execution { success: false, .. } => "execution_failed",
            Self::Verification(true) => "verification_completed",
            Self::Verification(false) => "verification_failed",
            Self::SecurityViolation => "security_violation",
            Self::PolicyViolation => "policy_violation",
            Self::SandboxBreach => "sandbox_breach",
        }
    }
}

impl TrustScore {
    /// An entity of which nothing is known yet.
    pub fn unknown(id: String, entity_type: &str, entity_id: &str, now: Timestamp) -> Self {
        let mut score = Self {
            id,
            entity_type: entity_type.to_owned(),
            entity_id: entity_id.to_owned(),
            trust_score: 0.0,
            reputation_score: 0.0,
            total_executions: 0,
            successful_executions: 0,
            failed_executions: 0,
            verification_success_rate: 0.0,
            security_violations: 0,
            policy_violations: 0,
            sandbox_breaches: 0,
            last_execution: None,
            last_violation: None,
            average_execution_time: None,
            execution_history: Vec::new(),
            violation_history: Vec::new(),
            created_at: now,
            updated_at: now,
        };
        score.settle(now);
        score
    }

    /// Take in what happened at `at`, as the audit entry `audit_id` tells; the scores are those of `now`.
    pub fn take(&mut self, evidence: Evidence, at: Timestamp, audit_id: Option<&str>, now: Timestamp) {
        let mut note = json!({"timestamp": plain(at)});
        if let Some(id) = audit_id {
            note["audit_id"] = json!(id);
        }
        match evidence {
            Evidence::Execution { success, seconds } => {
                self.total_executions += 1;
                *(if success { &mut self.successful_executions } else { &mut self.failed_executions }) += 1;
                if let Some(seconds) = seconds {
                    let (mean, count) = (self.average_execution_time, self.total_executions as f64);
                    self.average_execution_time =
                        Some(mean.map_or(seconds, |mean| mean + (seconds - mean) / count.max(1.0)));
                }
                self.last_execution = self.last_execution.max(Some(at));
                note["success"] = json!(success);
                note["execution_time"] = json!(seconds);
                keep(&mut self.execution_history, note);
            }
            Evidence::Verification(held) => {
                note["type"] = json!(Evidence::Verification(held).word());
                keep(&mut self.execution_history, note);
            }
            Evidence::SecurityViolation => {
                self.security_violations += 1;
                self.violated(evidence, note, at);
            }
            Evidence::PolicyViolation => {
                self.policy_violations += 1;
                self.violated(evidence, note, at);
            }
            Evidence::SandboxBreach => {
                self.security_violations += 1;
                self.sandbox_breaches += 1;
                self.violated(evidence, note, at);
            }
        }
        self.settle(now);
    }

    fn violated(&mut self, evidence: Evidence, mut note: Value, at: Timestamp) {
        note["type"] = json!(evidence.word());
        keep(&mut self.violation_history, note);
        self.last_violation = self.last_violation.max(Some(at));
    }

    fn settle(&mut self, now: Timestamp) {
        self.verification_success_rate = formula::success_rate(self).unwrap_or(0.0) * 100.0;
        self.trust_score = formula::trust(self, now).score;
        self.reputation_score = formula::reputation(self).score;
        self.updated_at = now;
    }
}

/// A time as the coordinator writes it into its histories: naive, with six digits.
fn plain(at: Timestamp) -> String {
    at.to_string().trim_end_matches('Z').to_owned()
}

fn keep(history: &mut Vec<Value>, note: Value) {
    history.push(note);
    let over = history.len().saturating_sub(KEPT);
    history.drain(..over);
}

/// Which entities to list; what is none restricts nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this type.
    pub entity_type: Option<String>,
    /// This one, under every form that a row may hold.
    pub entity_id: Option<Vec<String>>,
    /// The least trust.
    pub min_score: Option<f64>,
    /// The highest.
    pub max_score: Option<f64>,
}

/// How a score came about.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// As it is stored.
    pub stored: TrustScore,
    /// The trust score as of the last update, term by term.
    pub trust: Sum,
    /// The reputation, term by term.
    pub reputation: Sum,
    /// Do the sums give what is stored? The coordinator's rows can say otherwise until the next update.
    pub agrees: bool,
    /// What the trust score would be now: how long ago the last execution was may count otherwise.
    pub trust_now: Sum,
    /// This moment.
    #[schema(value_type = String)]
    pub now: Timestamp,
}

impl Explanation {
    /// Of this row, now.
    pub fn of(stored: TrustScore, now: Timestamp) -> Self {
        let (trust, reputation) = (formula::trust(&stored, stored.updated_at), formula::reputation(&stored));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let agrees = near(trust.score, stored.trust_score) && near(reputation.score, stored.reputation_score);
        Self { trust, reputation, agrees, trust_now: formula::trust(&stored, now), now, stored }
    }
}

/// How many entities are trusted how far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustStatistics {
    /// All.
    pub total_entities: u64,
    /// The mean trust; none where there is no entity.
    pub average_trust_score: Option<f64>,
    /// From 80 on.
    pub high_trust_entities: u64,
    /// Below 20.
    pub low_trust_entities: u64,
    /// By trust: very_low below 20, low below 40, medium below 60, high below 80, very_high.
    pub distribution: Bands,
}

/// See [`TrustStatistics::distribution`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the bounds stand where it is used")]
pub struct Bands {
    pub very_low: u64,
    pub low: u64,
    pub medium: u64,
    pub high: u64,
    pub very_high: u64,
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_stored("2026-05-12 14:00:00.000000")
            .map(|time| Timestamp(time.0 + chrono::Duration::seconds(seconds)))
            .unwrap()
    }

    pub fn score(entity_type: &str, entity_id: &str) -> TrustScore {
        TrustScore::unknown("trust_00000000".into(), entity_type, entity_id, at(0))
    }

    #[test]
    fn evidence_is_counted_and_histories_are_bounded() {
        let mut score = score("user", "u");
        for n in 0..250 {
            let seconds = Some(f64::from(n));
            score.take(Evidence::Execution { success: n % 2 == 0, seconds }, at(n.into()), Some("audit_1"), at(1000));
        }
        score.take(Evidence::SandboxBreach, at(251), None, at(1000));
        score.take(Evidence::PolicyViolation, at(250), None, at(1000));
        assert_eq!((score.total_executions, score.successful_executions, score.failed_executions), (250, 125, 125));
        assert_eq!((score.security_violations, score.policy_violations, score.sandbox_breaches), (1, 1, 1));
        assert!((score.average_execution_time.unwrap() - 124.5).abs() < 1e-9);
        assert_eq!((score.last_execution, score.last_violation), (Some(at(249)), Some(at(251))));
        assert_eq!((score.execution_history.len(), score.violation_history.len()), (100, 2));
        assert_eq!(score.execution_history[99]["timestamp"], "2026-05-12T14:04:09.000000");
        assert!((score.verification_success_rate - 50.0).abs() < 1e-9);
        assert!((score.trust_score - (50.0 - 10.0 - 5.0 + 5.0)).abs() < 1e-9);
        assert!(Explanation::of(score, at(2000)).agrees);
    }
}
