//! Identifiers as types: which subject an identifier names is known to the compiler, so that an execution's can't be passed
//! where a workflow's is wanted. All are texts, in JSON, in columns and in paths.

use std::{borrow::Borrow, cmp::Ordering, fmt, hash, marker::PhantomData, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sqlx::{Database, Decode, Encode, Type, encode::IsNull, error::BoxDynError};

/// A subject that has identifiers.
pub trait IdKind: 'static {
    /// Name of the identifier's type, `ExecutionId`.
    const NAME: &'static str;
    /// What it identifies and how it looks.
    const DESCRIPTION: &'static str;
}

/// Identifier of a `K`: any text, since other services make identifiers too.
pub struct TypedId<K>(String, PhantomData<fn() -> K>);

/// Declares kinds of identifiers: `Kind ExecutionId "what it identifies and how it looks"`.
macro_rules! id_kinds {
    ($($kind:ident $id:ident $description:literal;)+) => {
        $(
            #[doc = concat!("Kind of [`", stringify!($id), "`].")]
            pub enum $kind {}

            impl IdKind for $kind {
                const NAME: &'static str = stringify!($id);
                const DESCRIPTION: &'static str = $description;
            }

            #[doc = $description]
            pub type $id = TypedId<$kind>;
        )+
    };
}

id_kinds! {
    AgentKeyKind AgentKeyId "Identifier of an agent's public key: the first 32 hex digits of its SHA-256.";
    AgentKind AgentId "Identifier of an agent: `agent_` and hex digits, or a text that another service chose.";
    ApiKeyKind ApiKeyId "Identifier of a managed API key: eight hex digits, which the key contains.";
    AssignmentKind AssignmentId "Identifier of an assignment: `assign_` and 16 hex digits.";
    AliasGateKind AliasGateId "Identifier of a condition of a policy's alias: `gate_` and 12 hex digits.";
    AuditKind AuditId "Identifier of an audit entry: `audit_` and 12 hex digits.";
    BackgroundTaskKind BackgroundTaskId "Identifier of a background task: `task_` and 12 hex digits.";
    BroadcastKind BroadcastId "Identifier of a message to several recipients, which each copy names: `msg_` and hex digits, or a text that its sender chose.";
    BudgetKind BudgetId "Identifier of a budget: `budget_` and 12 hex digits.";
    BulkOperationKind BulkOperationId "Identifier of an operation on many executions: `bulk_` and 12 hex digits.";
    CapabilityKind CapabilityId "Identifier of an agent's capability: `cap_` and 8 hex digits.";
    ChannelKind ChannelId "Identifier of a channel: `channel_` and hex digits.";
    ContentKeyKind ContentKeyId "Identifier of the key that a message's content is encrypted with: an agent's public key, or a channel's data key.";
    ContentKind ContentId "Identifier of content that the copies of a message share: `content_` and hex digits.";
    CreativeCapabilityKind CreativeCapabilityId "Identifier of a creative capability: `creative_` and hex digits.";
    CreativeWorkKind CreativeWorkId "Identifier of a kept text of a creative capability: `work_` and 12 hex digits.";
    DataKeyKind DataKeyId "Identifier of a channel's data key: `mdk_` and hex digits.";
    DeliveryKind DeliveryId "Identifier of a webhook's delivery: `msg_` and hex digits.";
    EvaluationKind EvaluationId "Identifier of an evaluation by a suite: `eval_` and 12 hex digits.";
    ExecutionKind ExecutionId "Identifier of an execution: `exec_` and 10 hex digits.";
    ExternalTaskKind ExternalTaskId "Identifier of what a step waits for: a job, a training run or an assignment.";
    JobKind JobId "Identifier of a job in the coordinator's queue: 32 hex digits.";
    LedgerAccountKind LedgerAccountId "Identifier of an account of the ledger: `acct_` and 20 hex digits, derived from owner, asset and purpose.";
    LedgerEntryKind LedgerEntryId "Identifier of an entry of the ledger: `entry_` and 16 hex digits.";
    LedgerHoldKind LedgerHoldId "Identifier of a hold on an account of the ledger: `hold_` and 16 hex digits.";
    MarketGuildKind MarketGuildId "Identifier of a guild of agents: `guild_` and 12 hex digits.";
    MarketRequestKind MarketRequestId "Identifier of a request for a service: `mreq_` and 12 hex digits.";
    MarketServiceKind MarketServiceId "Identifier of a service that an agent offers: `msvc_` and 12 hex digits.";
    MasterKeyKind MasterKeyId "Name of a master key of the configuration, which wraps data keys.";
    MessageKind MessageId "Identifier of a message: `msg_` and hex digits, or a text that its sender chose. A copy's ends with a dot and a number.";
    NetworkKind NetworkId "Identifier of a network of agents: `network_`, the time when it was made, and six hex digits.";
    PlanKind PlanId "Identifier of a plan: `plan_` and 12 hex digits.";
    PolicyVersionKind PolicyVersionId "Identifier of a version of a learned policy: `policy_` and 12 hex digits.";
    PrincipalKind PrincipalId "Identifier of a caller, as owner or client of what it made. Never an API key.";
    ReceiptKind ReceiptId "Identifier of a receipt: `receipt_` and 16 hex digits.";
    SandboxKind SandboxId "Identifier of a sandbox: `sandbox_` and its execution's.";
    SecurityPolicyKind SecurityPolicyId "Identifier of a security policy: `policy_` and 8 hex digits.";
    StepExecutionKind StepExecutionId "Identifier of a step of one execution: `step_exec_` and 10 hex digits.";
    StepKind StepId "Identifier of a step of a workflow: `step_` and 8 hex digits, or its key where it has no row.";
    SweepKind SweepId "Identifier of a sweep of trainings: `sweep_` and 12 hex digits.";
    SuiteKind SuiteId "Identifier of an evaluation suite: `suite_` and 12 hex digits.";
    TemplateKind TemplateId "Identifier of a message template: `template_` and hex digits, or the name of a built-in one.";
    TraceKind TraceId "Identifier of a trace (W3C Trace Context): 32 hex digits.";
    TrainingRunKind TrainingRunId "Identifier of a training run: `train_` and 12 hex digits.";
    WorkerKind WorkerId "Identifier of a worker of the engine: `worker_` and 12 hex digits.";
    TrustScoreKind TrustScoreId "Identifier of a trust score: `trust_` and 8 hex digits.";
    WorkflowKind WorkflowId "Identifier of a workflow: `agent_` and 8 hex digits; where one is run, also a network's or a plan's.";
}

impl<K> TypedId<K> {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identifier's text itself.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<K> From<String> for TypedId<K> {
    fn from(text: String) -> Self {
        Self(text, PhantomData)
    }
}

impl<K> From<&str> for TypedId<K> {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl<K> From<&Self> for TypedId<K> {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl<K> From<TypedId<K>> for String {
    fn from(id: TypedId<K>) -> Self {
        id.0
    }
}

impl<K> Default for TypedId<K> {
    /// The empty text, of a row whose identifier is assigned when it is stored.
    fn default() -> Self {
        String::new().into()
    }
}

impl<K> Clone for TypedId<K> {
    fn clone(&self) -> Self {
        self.0.clone().into()
    }
}

impl<K> Deref for TypedId<K> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<K> AsRef<str> for TypedId<K> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Maps from identifiers can be searched with a text.
impl<K> Borrow<str> for TypedId<K> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<K> fmt::Display for TypedId<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<K> fmt::Debug for TypedId<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<K> PartialEq for TypedId<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K> Eq for TypedId<K> {}

impl<K> PartialEq<str> for TypedId<K> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<K> PartialEq<&str> for TypedId<K> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<K> PartialOrd for TypedId<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for TypedId<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<K> hash::Hash for TypedId<K> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K> Serialize for TypedId<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, K> Deserialize<'de> for TypedId<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl<DB: Database, K> Type<DB> for TypedId<K>
where
    String: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        String::type_info()
    }

    fn compatible(ty: &DB::TypeInfo) -> bool {
        String::compatible(ty)
    }
}

impl<'q, DB: Database, K> Encode<'q, DB> for TypedId<K>
where
    String: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.0.encode_by_ref(buffer)
    }
}

impl<'r, DB: Database, K> Decode<'r, DB> for TypedId<K>
where
    String: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        String::decode(value).map(Self::from)
    }
}

impl<K: IdKind> utoipa::PartialSchema for TypedId<K> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some(K::DESCRIPTION))
            .into()
    }
}

impl<K: IdKind> utoipa::ToSchema for TypedId<K> {
    fn name() -> std::borrow::Cow<'static, str> {
        K::NAME.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_identifier_is_its_text_in_json() {
        let id = ExecutionId::from("exec_0123456789");
        assert_eq!(serde_json::to_value(&id).unwrap(), serde_json::json!("exec_0123456789"));
        assert_eq!(serde_json::from_value::<ExecutionId>(serde_json::json!("exec_0123456789")).unwrap(), id);
        assert!(serde_json::from_value::<ExecutionId>(serde_json::json!(7)).is_err());
        assert_eq!(format!("{id} {id:?}"), r#"exec_0123456789 "exec_0123456789""#);
    }

    #[test]
    fn a_map_from_identifiers_is_searched_with_a_text() {
        let known = HashMap::from([(AgentId::from("agent_1"), 1)]);
        assert_eq!(known.get("agent_1"), Some(&1));
        assert_eq!(known.get("agent_2"), None);
    }
}
