//! Operations on many executions as clients see them.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IntoDeserializer as _, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use utoipa::ToSchema;

use crate::model::ExecutionStatus;
use am_core::{
    ids::{BulkOperationId, ExecutionId, PrincipalId, WorkflowId},
    validation::{Violation, Violations},
};
use am_db::{
    codec::Timestamp,
    moment::{QueryMoment, read_moment},
};

/// Characters of a text in a filter.
const MAX_TEXT: usize = 200;

am_db::stored_enum! {
    /// What an operation does with each execution.
    pub enum BulkAction {
        /// Retry it from the step that failed.
        Retry = "RETRY" / "retry",
        /// Cancel it, whatever it does.
        Cancel = "CANCEL" / "cancel",
    }
}

am_db::stored_enum! {
    /// Status of an operation on many executions.
    pub enum BulkStatus {
        /// Some executions are still to be done.
        Running = "RUNNING" / "running",
        /// Every execution has its outcome.
        Completed = "COMPLETED" / "completed",
        /// Cancelled by its owner before the last execution; what was done stays.
        Cancelled = "CANCELLED" / "cancelled",
    }
}

am_db::stored_enum! {
    /// What became of one execution of an operation.
    pub enum BulkOutcome {
        /// It was retried or cancelled.
        Changed = "CHANGED" / "changed",
        /// It had changed since it was chosen, so that nothing was to be done.
        Skipped = "SKIPPED" / "skipped",
        /// It was refused.
        Failed = "FAILED" / "failed",
    }
}

am_db::stored_enum! {
    /// What failed in an execution.
    #[schema(as = ErrorClass)]
    pub enum ErrorClass {
        /// A jq program.
        Jq = "JQ" / "jq",
        /// A policy's answer.
        Policy = "POLICY" / "policy",
        /// Training of a policy.
        Train = "TRAIN" / "train",
        /// A job of a miner.
        Job = "JOB" / "job",
        /// A call of an endpoint.
        Http = "HTTP" / "http",
        /// An agent's work.
        Agent = "AGENT" / "agent",
        /// A command in a sandbox.
        Command = "COMMAND" / "command",
        /// A check, or a verification of earlier steps.
        Check = "CHECK" / "check",
        /// A step without an action.
        None = "NONE" / "none",
        /// A limit of the execution, or another reason that belongs to no step.
        Limit = "LIMIT" / "limit",
    }
}

/// Which of the caller's executions an operation is about. All members that are given must hold; `{}` takes all that can be
/// changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BulkFilter {
    /// Only executions in one of these statuses, a word or a list. For a retry it can only be `failed`; for a cancellation
    /// `pending` and `running`. Default: all that can be changed.
    #[serde(deserialize_with = "one_or_several", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<ExecutionStatus>>)]
    pub status: Option<Vec<ExecutionStatus>>,
    /// Only executions of this workflow, network or plan. Default: of any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<WorkflowId>,
    /// Only executions that were created at this time or later: a time, or how long ago (`90s`, `30m`, `12h`, `7d`, `4w`). Default: no
    /// bound.
    #[serde(deserialize_with = "read_moment", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "7d")]
    pub created_after: Option<QueryMoment>,
    /// Only executions that were created before this time, in the same forms. Default: no bound.
    #[serde(deserialize_with = "read_moment", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "2026-12-01T17:00:00Z")]
    pub created_before: Option<QueryMoment>,
    /// Only executions that failed at the step of this key. Default: at any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<String>,
    /// Only executions that failed by this kind of step, or by a limit. Default: by anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// Only executions whose error message contains this text. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_contains: Option<String>,
}

/// Read one status, or a list of them.
fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<ExecutionStatus>>, D::Error> {
    struct StatusVisitor;

    impl<'de> Visitor<'de> for StatusVisitor {
        type Value = Option<Vec<ExecutionStatus>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
            ExecutionStatus::deserialize(word.into_deserializer()).map(|status| Some(vec![status]))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list)).map(Some)
        }
    }

    from.deserialize_any(StatusVisitor)
}

impl BulkAction {
    /// The statuses of executions that the action changes.
    pub fn statuses(self) -> &'static [ExecutionStatus] {
        match self {
            Self::Retry => &[ExecutionStatus::Failed],
            Self::Cancel => &[ExecutionStatus::Pending, ExecutionStatus::Running],
        }
    }
}

impl BulkFilter {
    /// The same filter with times in the place of how long ago they are, seen from `now`.
    #[must_use]
    pub fn seen_from(mut self, now: Timestamp) -> Self {
        for moment in [&mut self.created_after, &mut self.created_before].into_iter().flatten() {
            *moment = QueryMoment::At(moment.seen_from(now));
        }
        self
    }

    /// The statuses that are looked for, each once.
    ///
    /// # Errors
    /// Every member that `action` can't be chosen by, with its path inside the filter.
    pub fn check(&self, action: BulkAction) -> Result<Vec<ExecutionStatus>, Vec<Violation>> {
        let mut violations = Violations::default();
        let possible = action.statuses();
        let mut wanted = self.status.clone().unwrap_or_else(|| possible.to_vec());
        let words: Vec<&str> = possible.iter().map(|status| status.value()).collect();
        let fits = !wanted.is_empty() && wanted.iter().all(|status| possible.contains(status));
        let message = format!("{} changes executions that are {}", action.value(), words.join(" or "));
        violations.require(fits, "status", message);
        wanted.dedup();
        if let (Some(QueryMoment::At(after)), Some(QueryMoment::At(before))) = (self.created_after, self.created_before)
        {
            violations.require(after < before, "created_before", "must be later than created_after");
        }
        let of_failures = [
            ("failed_step", self.failed_step.is_some()),
            ("error_class", self.error_class.is_some()),
            ("error_contains", self.error_contains.is_some()),
        ];
        for (name, _) in of_failures.into_iter().filter(|(_, given)| *given && action == BulkAction::Cancel) {
            violations.add(name, "only executions that failed have it, and they can't be cancelled");
        }
        for (name, text) in [("failed_step", &self.failed_step), ("error_contains", &self.error_contains)] {
            let length = text.as_ref().map_or(1, |text| text.chars().count());
            violations.require((1..=MAX_TEXT).contains(&length), name, format!("has 1 to {MAX_TEXT} characters"));
        }
        violations.finish_with(Some(wanted))
    }
}

/// An operation on many executions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkOperation {
    /// Id of the operation: `bulk_` and 12 hex digits.
    pub id: BulkOperationId,
    /// Principal that asked for it.
    #[schema(value_type = String)]
    pub owner_id: PrincipalId,
    /// What is done with each execution.
    pub action: BulkAction,
    /// Whether a retry goes by the workflow's definition of now.
    pub redefines: bool,
    /// Which executions were chosen, when it was asked for.
    pub filter: BulkFilter,
    /// Status of the operation.
    pub status: BulkStatus,
    /// Number of chosen executions.
    pub total: i64,
    /// Number of executions that were retried or cancelled.
    pub changed: i64,
    /// Number of executions that had changed meanwhile, so that nothing was to be done.
    pub skipped: i64,
    /// Number of executions that were refused.
    pub failed: i64,
    /// Whether more executions matched than one operation takes: repeat the request when it has ended.
    pub has_more: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended; null: it goes on.
    pub ended_at: Option<Timestamp>,
    /// The first executions that were skipped or refused, with the reason; null in lists.
    pub faults: Option<Vec<BulkFault>>,
}

/// An execution that an operation did not change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkFault {
    /// Id of the execution.
    pub execution_id: ExecutionId,
    /// Whether it was skipped or refused.
    pub outcome: BulkOutcome,
    /// Why it was not changed.
    pub reason: String,
}

/// Answer to a request for an operation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkAnswer {
    /// Whether the executions were only counted.
    pub dry_run: bool,
    /// Number of executions that the filter matches, as far as one operation takes them.
    pub count: i64,
    /// Whether more match than one operation takes.
    pub has_more: bool,
    /// Ids of the first hundred of them, the oldest first.
    pub execution_ids: Vec<ExecutionId>,
    /// The operation that was begun; null: it was a dry run.
    pub operation: Option<BulkOperation>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(action: BulkAction, filter: serde_json::Value) -> Vec<String> {
        let filter: BulkFilter = serde_json::from_value(filter).unwrap();
        let found = filter.check(action).err().unwrap_or_default();
        found.iter().map(|violation| violation.path.to_string()).collect()
    }

    #[test]
    fn a_filter_chooses_what_the_action_can_change() {
        let none: [&str; 0] = [];
        for (action, filter, expected) in [
            (BulkAction::Retry, json!({}), vec![]),
            (BulkAction::Retry, json!({"status": "failed", "error_class": "http", "error_contains": "x"}), vec![]),
            (BulkAction::Retry, json!({"status": ["failed", "cancelled"]}), vec!["status"]),
            (BulkAction::Retry, json!({"status": []}), vec!["status"]),
            (BulkAction::Cancel, json!({"status": ["pending", "running"]}), vec![]),
            (BulkAction::Cancel, json!({"status": "failed"}), vec!["status"]),
            (BulkAction::Cancel, json!({"error_class": "jq", "failed_step": "a"}), vec!["failed_step", "error_class"]),
            (
                BulkAction::Retry,
                json!({"failed_step": "", "error_contains": "x".repeat(201)}),
                vec!["failed_step", "error_contains"],
            ),
            (
                BulkAction::Retry,
                json!({"created_after": "2026-12-02T00:00:00Z", "created_before": "2026-12-01T00:00:00Z"}),
                vec!["created_before"],
            ),
        ] {
            assert_eq!(faults(action, filter.clone()), expected, "{filter}");
        }
        assert_eq!(faults(BulkAction::Cancel, json!({})), none);
        for unknown in
            [json!({"status": "lost"}), json!({"status": ["failed", "lost"]}), json!({"created_after": "yesterday"})]
        {
            assert!(serde_json::from_value::<BulkFilter>(unknown.clone()).is_err(), "{unknown}");
        }
    }
}
