//! Content and risk of an audit entry, and what is read of stored entries and heads.

use std::{ops::RangeInclusive, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use am_core::{
    crypto::{self, Ed25519PublicKey},
    ids::{AuditId, ExecutionId, PrincipalId, StepId, TrainingRunId, WorkflowId},
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner::PrincipalName,
    principal::{ClientOrigin, Principal},
    sql_value::SqlValue,
};

am_db::stored_enum! {
    /// Type of an event, in the coordinator's vocabulary. A change that it has no type for is a `workflow_updated`
    /// whose data name the resource and the action.
    pub enum EventType {
        /// A workflow or a network of workflows was created.
        WorkflowCreated = "WORKFLOW_CREATED" / "workflow_created",
        /// A workflow was changed, or any other resource was created, changed or deleted.
        WorkflowUpdated = "WORKFLOW_UPDATED" / "workflow_updated",
        /// A workflow was deleted.
        WorkflowDeleted = "WORKFLOW_DELETED" / "workflow_deleted",
        /// An execution or a training run started.
        ExecutionStarted = "EXECUTION_STARTED" / "execution_started",
        /// An execution or a training run completed.
        ExecutionCompleted = "EXECUTION_COMPLETED" / "execution_completed",
        /// An execution or a training run failed.
        ExecutionFailed = "EXECUTION_FAILED" / "execution_failed",
        /// An execution or a training run was cancelled on request.
        ExecutionCancelled = "EXECUTION_CANCELLED" / "execution_cancelled",
        /// An attempt of a step started.
        StepStarted = "STEP_STARTED" / "step_started",
        /// A step completed.
        StepCompleted = "STEP_COMPLETED" / "step_completed",
        /// An attempt of a step failed.
        StepFailed = "STEP_FAILED" / "step_failed",
        /// Results passed their verification.
        VerificationCompleted = "VERIFICATION_COMPLETED" / "verification_completed",
        /// Results failed their verification.
        VerificationFailed = "VERIFICATION_FAILED" / "verification_failed",
        /// A security rule was violated.
        SecurityViolation = "SECURITY_VIOLATION" / "security_violation",
        /// A request was refused for lack of permission.
        AccessDenied = "ACCESS_DENIED" / "access_denied",
        /// A program tried to leave its sandbox.
        SandboxBreach = "SANDBOX_BREACH" / "sandbox_breach",
    }
}

am_db::stored_enum! {
    /// Security level, from least to most strict.
    pub enum SecurityLevel {
        /// Accessible to anybody.
        Public = "PUBLIC" / "public",
        /// Accessible within the organisation; the usual level.
        Internal = "INTERNAL" / "internal",
        /// Accessible to some people only.
        Confidential = "CONFIDENTIAL" / "confidential",
        /// Accessible to few people only.
        Restricted = "RESTRICTED" / "restricted",
    }
}

impl EventType {
    /// Base of the risk score, before level and data.
    fn base_risk(self) -> i64 {
        match self {
            Self::SecurityViolation => 90,
            Self::SandboxBreach => 85,
            Self::AccessDenied => 70,
            Self::VerificationFailed => 50,
            Self::ExecutionFailed => 30,
            Self::StepFailed => 20,
            Self::ExecutionCancelled => 15,
            Self::WorkflowDeleted => 10,
            Self::WorkflowCreated => 5,
            Self::ExecutionStarted => 3,
            Self::ExecutionCompleted | Self::StepStarted | Self::StepCompleted | Self::VerificationCompleted => 1,
            Self::WorkflowUpdated => 0,
        }
    }
}

impl SecurityLevel {
    fn factor(self) -> f64 {
        match self {
            Self::Public => 1.0,
            Self::Internal => 1.2,
            Self::Confidential => 1.5,
            Self::Restricted => 2.0,
        }
    }
}

/// Range of risk scores.
pub const RISK_SCORES: RangeInclusive<i64> = 0..=100;
/// Risk score from which an entry requires investigation.
pub const INVESTIGATION_THRESHOLD: i64 = 70;

/// Risk score from 0 to 100, by the coordinator's formula: the event's base times the level's factor, truncated to an
/// integer; plus 10 with an error message, plus 5 over one hour, plus 5 over 8192 MB.
pub fn risk_score(event: EventType, level: SecurityLevel, data: &Map<String, Value>) -> i64 {
    let mut risk = (event.base_risk() as f64 * level.factor()) as i64;
    let over = |name: &str, limit: f64| data.get(name).and_then(Value::as_f64).is_some_and(|value| value > limit);
    if data.get("error_message").is_some_and(|message| !message.is_null() && message != "") {
        risk += 10;
    }
    if over("execution_time", 3600.0) {
        risk += 5;
    }
    if over("memory_usage", 8192.0) {
        risk += 5;
    }
    risk.min(*RISK_SCORES.end())
}

/// Whether the signature within an event's data is valid; `None` when there is no signature. It is Ed25519 over the
/// coordinator's canonical form of the data without `signature` and `public_key`; both are hex, or base64url without
/// padding.
pub fn verify_embedded_signature(data: &Map<String, Value>) -> Option<bool> {
    let (signature, key) = (data.get("signature")?, data.get("public_key")?);
    let bytes = |value: &Value| {
        let text = value.as_str()?;
        hex::decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()
    };
    let good = || {
        let key: [u8; 32] = bytes(key)?.try_into().ok()?;
        let mut signed = data.clone();
        signed.retain(|name, _| name != "signature" && name != "public_key");
        let message = crypto::canonical_receipt_json(&Value::Object(signed));
        Some(Ed25519PublicKey::from_bytes(&key).ok()?.verifies(&message, &bytes(signature)?))
    };
    Some(good().unwrap_or(false))
}

/// An entry to be appended.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    pub(super) event: EventType,
    pub(super) at: Timestamp,
    pub(super) level: SecurityLevel,
    pub(super) workflow_id: Option<WorkflowId>,
    pub(super) execution_id: Option<ExecutionId>,
    pub(super) step_id: Option<StepId>,
    pub(super) user_id: Option<PrincipalId>,
    pub(super) origin: Option<Arc<ClientOrigin>>,
    /// A JSON object.
    pub(super) data: Value,
    pub(super) previous: Value,
    pub(super) new: Value,
    pub(super) source: EntrySource,
}

impl AuditEntry {
    /// An event at time `at`, of level internal unless [`AuditEntry::level`] sets another.
    pub fn new(event: EventType, at: Timestamp) -> Self {
        Self {
            event,
            at,
            level: SecurityLevel::Internal,
            workflow_id: None,
            execution_id: None,
            step_id: None,
            user_id: None,
            origin: None,
            data: Value::Object(Map::new()),
            previous: Value::Null,
            new: Value::Null,
            source: EntrySource::Service,
        }
    }

    /// Mark the event as one that the caller reported: it reads as [`EntrySource::Reported`] and is evidence for nothing.
    #[must_use]
    pub fn reported(mut self) -> Self {
        self.source = EntrySource::Reported;
        self
    }

    /// Set the acting principal and the client it acted from.
    #[must_use]
    pub fn by(mut self, principal: &Principal) -> Self {
        self.user_id = Some((*principal.name).into());
        self.origin = principal.origin.clone();
        self
    }

    /// Set the user on whose behalf the change was made, as stored in an owner column. An API key is converted to its
    /// principal.
    #[must_use]
    pub fn on_behalf_of(mut self, stored: &str) -> Self {
        self.user_id = Some(PrincipalName::from_stored(stored).as_str().into());
        self
    }

    /// Set the client that the request came from.
    #[must_use]
    pub fn from(mut self, origin: Option<Arc<ClientOrigin>>) -> Self {
        self.origin = origin;
        self
    }

    /// Set the resource and the action: `event_data.resource` and `event_data.action`.
    #[must_use]
    pub fn of(self, resource: &str, action: &str) -> Self {
        self.data("resource", json!(resource)).data("action", json!(action))
    }

    /// Set the workflow concerned.
    #[must_use]
    pub fn workflow(mut self, id: impl Into<WorkflowId>) -> Self {
        self.workflow_id = Some(id.into());
        self
    }

    /// Set the execution concerned.
    #[must_use]
    pub fn execution(mut self, id: impl Into<ExecutionId>) -> Self {
        self.execution_id = Some(id.into());
        self
    }

    /// Set the training run concerned, which stands in the column of executions.
    #[must_use]
    pub fn training_run(self, id: &TrainingRunId) -> Self {
        self.execution(id.as_str())
    }

    /// Set the step concerned.
    #[must_use]
    pub fn step(mut self, id: impl Into<StepId>) -> Self {
        self.step_id = Some(id.into());
        self
    }

    /// Set the security level.
    #[must_use]
    pub fn level(mut self, level: SecurityLevel) -> Self {
        self.level = level;
        self
    }

    /// Add a member to `event_data`; null adds nothing.
    #[must_use]
    pub fn data(mut self, name: &str, value: Value) -> Self {
        if let (false, Some(members)) = (value.is_null(), self.data.as_object_mut()) {
            members.insert(name.to_owned(), value);
        }
        self
    }

    /// Add what went wrong: its class, and the SHA-256 of the text. The text itself has values of the run, which other
    /// admins may not see; it stays with the owner's resource. `None` adds nothing.
    #[must_use]
    pub fn error(self, class: &str, text: Option<&str>) -> Self {
        let Some(text) = text else { return self };
        self.data("error_message", json!(class)).data("error_sha256", json!(crypto::sha256_hex(text.as_bytes())))
    }

    /// Add the SHA-256 of a reason that somebody gave, for the same cause as [`AuditEntry::error`]. `None` adds nothing.
    #[must_use]
    pub fn reason(self, text: Option<&str>) -> Self {
        self.data("reason_sha256", text.map_or(Value::Null, |text| json!(crypto::sha256_hex(text.as_bytes()))))
    }

    /// Set the states before and after the change.
    #[must_use]
    pub fn change(mut self, previous: Option<Value>, new: Option<Value>) -> Self {
        self.previous = previous.unwrap_or(Value::Null);
        self.new = new.unwrap_or(Value::Null);
        self
    }
}

/// Writer of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AuditSource)]
pub enum EntrySource {
    /// This service; the entry was written in the transaction of the change.
    Service,
    /// The coordinator, or whoever else writes its tables; the entry was sealed when it was found.
    Coordinator,
    /// An admin who reported the event over the API: the service vouches for who reported it and when, not for what it says.
    Reported,
}

impl EntrySource {
    /// The stored and shown form.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Coordinator => "coordinator",
            Self::Reported => "reported",
        }
    }

    /// Parse the stored form.
    pub fn from_stored(word: &str) -> Option<Self> {
        [Self::Service, Self::Coordinator, Self::Reported].into_iter().find(|source| source.word() == word)
    }
}

/// Data of an entry for consumers that follow the log.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// Id of the entry.
    pub audit_id: AuditId,
    /// Type of the event.
    pub event: EventType,
    /// Time of the event.
    pub at: Timestamp,
    /// Principal of the acting user; `None` when unknown.
    pub user: Option<PrincipalName>,
    /// Id of the workflow concerned, if any.
    pub workflow_id: Option<WorkflowId>,
    /// Id of the execution or training run concerned, if any.
    pub execution_id: Option<ExecutionId>,
    /// Further data of the event.
    pub data: JsonText,
}

/// An exported entry: its record in the log and every stored column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedEntry {
    /// Position in the log, from 1.
    pub seq: u64,
    /// Id of the entry.
    pub audit_id: AuditId,
    /// Leaf hash in hex.
    pub leaf_hash: String,
    /// Writer of the entry: `service`, `coordinator` or `reported`.
    pub source: String,
    /// Columns of `agent_audit_logs` in their order; null when the row is missing.
    pub columns: Option<Vec<SqlValue>>,
}

/// An entry that requires investigation.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AuditAlert {
    /// Position in the log, from 1.
    pub seq: u64,
    /// Id of the entry.
    pub id: AuditId,
    /// Type of the event.
    pub event_type: String,
    /// Risk score, 70 to 100.
    pub risk_score: i64,
    /// Principal of the acting user; null when unknown.
    pub user_id: Option<PrincipalName>,
    /// Id of the execution concerned, if any.
    pub execution_id: Option<ExecutionId>,
    /// Id of the workflow concerned, if any.
    pub workflow_id: Option<WorkflowId>,
    /// Writer of the entry.
    pub source: EntrySource,
    /// Time of the event.
    pub timestamp: Timestamp,
}

/// A stored signed head.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = AuditHead)]
#[serde(deny_unknown_fields)]
pub struct SignedTreeHead {
    /// Number of entries covered.
    pub size: u64,
    /// Merkle root over the entries, in hex.
    pub root: String,
    /// Complete C2SP checkpoint: log, size, root in base64, an empty line, the signature.
    pub checkpoint: String,
    /// Time of signing.
    pub made_at: Timestamp,
}

/// A key that signs heads of the log, and from which size on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = AuditLogKey)]
pub struct LogKey {
    /// Size of the first head that it signs; it signs all heads until the next key's first.
    pub first_size: u64,
    /// The key in hexadecimal digits.
    pub public_key: String,
    /// The key as verifiers of signed notes (C2SP) take it.
    pub verifier_key: String,
    /// How it came to sign: `first`, `rotated` (an entry signed by both keys tells of it) or `replaced` (the key before
    /// was lost, so that nothing but the operator's word connects both).
    pub change: String,
    /// Id of the entry that tells of the change; null: it was the first.
    pub audit_id: Option<AuditId>,
    /// When it signed first.
    pub begun_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_core::crypto::Signer;

    fn data(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn risk_is_the_coordinators() {
        let none = Map::new();
        let all = [
            (EventType::SecurityViolation, [90, 100, 100, 100]),
            (EventType::SandboxBreach, [85, 100, 100, 100]),
            (EventType::AccessDenied, [70, 84, 100, 100]),
            (EventType::VerificationFailed, [50, 60, 75, 100]),
            (EventType::ExecutionFailed, [30, 36, 45, 60]),
            (EventType::StepFailed, [20, 24, 30, 40]),
            (EventType::ExecutionCancelled, [15, 18, 22, 30]),
            (EventType::WorkflowDeleted, [10, 12, 15, 20]),
            (EventType::WorkflowCreated, [5, 6, 7, 10]),
            (EventType::ExecutionStarted, [3, 3, 4, 6]),
            (EventType::ExecutionCompleted, [1, 1, 1, 2]),
            (EventType::WorkflowUpdated, [0, 0, 0, 0]),
        ];
        for (event, risks) in all {
            assert_eq!(
                SecurityLevel::ALL.iter().map(|level| risk_score(event, *level, &none)).collect::<Vec<_>>(),
                risks,
                "{event}"
            );
        }
        let public = |value| risk_score(EventType::StepFailed, SecurityLevel::Public, &data(value));
        assert_eq!(public(json!({"error_message": "x", "execution_time": 3600.5, "memory_usage": 8193})), 40);
        assert_eq!(public(json!({"error_message": null, "execution_time": 3600, "memory_usage": 8192})), 20);
        assert_eq!(public(json!({"error_message": ""})), 20);
    }

    #[test]
    fn a_signature_in_an_events_data_is_checked_or_there_is_none() {
        let signer = Signer::from_hex(&"17".repeat(32)).unwrap();
        let event = json!({"output": "x", "none": null, "score": 1e-5});
        let signature = signer.sign_bytes(&crypto::canonical_receipt_json(&event));
        let mut signed = data(event);
        assert_eq!(verify_embedded_signature(&signed), None);
        signed.insert("signature".into(), json!(hex::encode(signature)));
        assert_eq!(verify_embedded_signature(&signed), None, "there is nothing to check it with");
        signed.insert("public_key".into(), json!(signer.public_key_hex()));
        assert_eq!(verify_embedded_signature(&signed), Some(true));
        signed.insert("signature".into(), json!(URL_SAFE_NO_PAD.encode(signature)));
        signed.insert("public_key".into(), json!(signer.key_id()));
        assert_eq!(verify_embedded_signature(&signed), Some(true), "base64url will do");
        signed.insert("output".into(), json!("y"));
        assert_eq!(verify_embedded_signature(&signed), Some(false));
        for bad in [json!("zz"), json!(7), json!(null), json!("00".repeat(64))] {
            signed.insert("signature".into(), bad);
            assert_eq!(verify_embedded_signature(&signed), Some(false));
        }
    }
}
