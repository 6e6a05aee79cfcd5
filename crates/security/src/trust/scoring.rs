//! The effect of evidence on an entity's record, and the explanation of its scores.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    formula::{self, ScoreSum},
    model::TrustScore,
};
use am_core::ids::{AuditId, TrustScoreId};
use am_db::codec::Timestamp;

/// Number of the newest entries that each history keeps.
const MAX_HISTORY_LEN: usize = 100;
/// Evidence about an entity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrustEvidence {
    /// An execution ended.
    Execution {
        /// Whether the execution succeeded.
        success: bool,
        /// Duration in seconds; `None` when unknown.
        seconds: Option<f64>,
    },
    /// A verification of results ended; the value tells whether they passed.
    Verification(bool),
    /// A security rule was violated.
    SecurityViolation,
    /// A policy refused a request.
    PolicyViolation,
    /// A program tried to leave its sandbox.
    SandboxBreach,
}

impl TrustEvidence {
    /// Name of the corresponding audit event.
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
    /// Record of an entity without evidence.
    pub fn unknown(id: TrustScoreId, entity_type: &str, entity_id: &str, now: Timestamp) -> Self {
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

    /// Add evidence of time `at`, recorded by the audit entry `audit_id`, and recompute the scores for `now`.
    pub fn take(&mut self, evidence: TrustEvidence, at: Timestamp, audit_id: Option<&AuditId>, now: Timestamp) {
        let mut note = json!({"timestamp": coordinator_time(at)});
        if let Some(id) = audit_id {
            note["audit_id"] = json!(id);
        }
        match evidence {
            TrustEvidence::Execution { success, seconds } => {
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
                push_bounded(&mut self.execution_history, note);
            }
            TrustEvidence::Verification(held) => {
                note["type"] = json!(TrustEvidence::Verification(held).word());
                push_bounded(&mut self.execution_history, note);
            }
            TrustEvidence::SecurityViolation => {
                self.security_violations += 1;
                self.add_violation(evidence, note, at);
            }
            TrustEvidence::PolicyViolation => {
                self.policy_violations += 1;
                self.add_violation(evidence, note, at);
            }
            TrustEvidence::SandboxBreach => {
                self.security_violations += 1;
                self.sandbox_breaches += 1;
                self.add_violation(evidence, note, at);
            }
        }
        self.settle(now);
    }

    fn add_violation(&mut self, evidence: TrustEvidence, mut note: Value, at: Timestamp) {
        note["type"] = json!(evidence.word());
        push_bounded(&mut self.violation_history, note);
        self.last_violation = self.last_violation.max(Some(at));
    }

    fn settle(&mut self, now: Timestamp) {
        self.verification_success_rate = formula::success_rate(self).unwrap_or(0.0) * 100.0;
        self.trust_score = formula::trust_score(self, now).score;
        self.reputation_score = formula::reputation_score(self).score;
        self.updated_at = now;
    }
}

/// Time in the form that the coordinator writes into its histories: naive, with six digits.
fn coordinator_time(at: Timestamp) -> String {
    at.to_string().trim_end_matches('Z').to_owned()
}

fn push_bounded(history: &mut Vec<Value>, note: Value) {
    history.push(note);
    let over = history.len().saturating_sub(MAX_HISTORY_LEN);
    history.drain(..over);
}

/// Explanation of an entity's scores.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TrustExplanation)]
pub struct TrustExplanation {
    /// Record as it is stored.
    pub stored: TrustScore,
    /// Trust score as of the last update, term by term.
    pub trust: ScoreSum,
    /// Reputation score, term by term.
    pub reputation: ScoreSum,
    /// Whether the sums equal the stored scores. Rows written by the coordinator may differ until the next update.
    pub agrees: bool,
    /// Trust score at the current time, which depends on the time since the last execution.
    pub trust_now: ScoreSum,
    /// Time of the explanation.
    pub now: Timestamp,
}

impl TrustExplanation {
    /// Explain a record at time `now`.
    pub fn explain(stored: TrustScore, now: Timestamp) -> Self {
        let (trust, reputation) =
            (formula::trust_score(&stored, stored.updated_at), formula::reputation_score(&stored));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let agrees = near(trust.score, stored.trust_score) && near(reputation.score, stored.reputation_score);
        Self { trust, reputation, agrees, trust_now: formula::trust_score(&stored, now), now, stored }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_stored("2026-05-12 14:00:00.000000")
            .map(|time| Timestamp(time.0 + chrono::Duration::seconds(seconds)))
            .unwrap()
    }

    pub fn sample_score(entity_type: &str, entity_id: &str) -> TrustScore {
        TrustScore::unknown("trust_00000000".into(), entity_type, entity_id, at(0))
    }

    #[test]
    fn evidence_is_counted_and_histories_are_bounded() {
        let mut score = sample_score("user", "u");
        for n in 0..250 {
            let seconds = Some(f64::from(n));
            score.take(
                TrustEvidence::Execution { success: n % 2 == 0, seconds },
                at(n.into()),
                Some(&"audit_1".into()),
                at(1000),
            );
        }
        score.take(TrustEvidence::SandboxBreach, at(251), None, at(1000));
        score.take(TrustEvidence::PolicyViolation, at(250), None, at(1000));
        assert_eq!((score.total_executions, score.successful_executions, score.failed_executions), (250, 125, 125));
        assert_eq!((score.security_violations, score.policy_violations, score.sandbox_breaches), (1, 1, 1));
        assert!((score.average_execution_time.unwrap() - 124.5).abs() < 1e-9);
        assert_eq!((score.last_execution, score.last_violation), (Some(at(249)), Some(at(251))));
        assert_eq!((score.execution_history.len(), score.violation_history.len()), (100, 2));
        assert_eq!(score.execution_history[99]["timestamp"], "2026-05-12T14:04:09.000000");
        assert!((score.verification_success_rate - 50.0).abs() < 1e-9);
        assert!((score.trust_score - (50.0 - 10.0 - 5.0 + 5.0)).abs() < 1e-9);
        assert!(TrustExplanation::explain(score, at(2000)).agrees);
    }
}
