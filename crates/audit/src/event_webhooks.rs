//! Webhooks about executions, training, plans, agents, their profiles and requests of the marketplace, which follow the log: each entry
//! that tells of such an event is told once, because the position in the log is stored in the transaction of the deliveries.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    AuditLog, Result,
    continuity::to_database_error,
    model::{AuditRecord, EventType},
};
use am_core::{
    ambient::sleep_or_cancelled,
    boxed,
    ids::{AgentId, AuditId, ExecutionId, MarketRequestId, WorkflowId},
};
use am_db::{Tx, codec::Timestamp};
use am_webhooks::{WebhookEvent, WebhookEventKind};

/// Name of the position in the log.
const CONSUMER_NAME: &str = "webhooks";
/// Interval between two readings of the log.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Entries that are read in one transaction.
const READ_BATCH: u64 = 1000;
/// Entries after which the position is moved though nobody wants to be told.
const SKIP_AFTER: u64 = 10_000;
/// Entries that may tell of something.
const TOLD_EVENTS: [EventType; 4] = [
    EventType::ExecutionCompleted,
    EventType::ExecutionFailed,
    EventType::ExecutionCancelled,
    EventType::WorkflowUpdated,
];
/// Kinds that are told from the log.
const KINDS: [WebhookEventKind; 21] = [
    WebhookEventKind::ExecutionCompleted,
    WebhookEventKind::ExecutionFailed,
    WebhookEventKind::ExecutionCancelled,
    WebhookEventKind::BudgetExceeded,
    WebhookEventKind::TrainingCompleted,
    WebhookEventKind::TrainingFailed,
    WebhookEventKind::TrainingCancelled,
    WebhookEventKind::PlanCompleted,
    WebhookEventKind::PlanFailed,
    WebhookEventKind::PlanCancelled,
    WebhookEventKind::AgentOffline,
    WebhookEventKind::RequestCreated,
    WebhookEventKind::RequestAccepted,
    WebhookEventKind::RequestCompleted,
    WebhookEventKind::RequestPaid,
    WebhookEventKind::RequestRejected,
    WebhookEventKind::RequestCancelled,
    WebhookEventKind::RequestExpired,
    WebhookEventKind::RequestDisputed,
    WebhookEventKind::RequestDecided,
    WebhookEventKind::ProfileChanged,
];

/// What of an entry's data is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EntryData {
    resource: Option<String>,
    action: Option<String>,
    owner_id: Option<String>,
    agent_id: Option<AgentId>,
    reason: Option<String>,
    failed_step: Option<String>,
    class: Option<String>,
    total_cost: Option<Value>,
    execution_time: Option<f64>,
    policy: Option<String>,
    version: Option<i64>,
    request_id: Option<MarketRequestId>,
    client_id: Option<String>,
    provider_id: Option<String>,
    paid: Option<Value>,
    refunded: Option<Value>,
}

/// What a webhook tells: ids and figures, no values of the owner's.
#[derive(Debug, Serialize)]
struct ToldEvent<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<&'e ExecutionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow_id: Option<&'e WorkflowId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_id: Option<&'e WorkflowId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'e ExecutionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'e AgentId>,
    owner_id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_step: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_cost: Option<&'e Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'e MarketRequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paid: Option<&'e Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded: Option<&'e Value>,
    at: Timestamp,
    audit_id: &'e AuditId,
}

/// Whether an entry tells of a plan, which takes the place of a workflow.
fn is_of_plan(record: &AuditRecord) -> bool {
    record.workflow_id.as_ref().is_some_and(|id| id.starts_with("plan_"))
}

/// The kinds of what an entry tells of.
fn kinds_of(record: &AuditRecord, data: &EntryData) -> Vec<WebhookEventKind> {
    use WebhookEventKind as Kind;
    let of_plan = is_of_plan(record);
    let resource = data.resource.as_deref().unwrap_or_default();
    match (record.event, resource) {
        (EventType::ExecutionCompleted, "training_run") => vec![Kind::TrainingCompleted],
        (EventType::ExecutionFailed, "training_run") => vec![Kind::TrainingFailed],
        (EventType::ExecutionCancelled, "training_run") => vec![Kind::TrainingCancelled],
        (EventType::ExecutionCompleted, "execution") if of_plan => vec![Kind::ExecutionCompleted, Kind::PlanCompleted],
        (EventType::ExecutionCompleted, "execution") => vec![Kind::ExecutionCompleted],
        (EventType::ExecutionFailed, "execution") => {
            let mut kinds = vec![Kind::ExecutionFailed];
            kinds.extend(of_plan.then_some(Kind::PlanFailed));
            kinds.extend((data.class.as_deref() == Some("budget")).then_some(Kind::BudgetExceeded));
            kinds
        }
        (EventType::ExecutionCancelled, "execution") if of_plan => vec![Kind::ExecutionCancelled, Kind::PlanCancelled],
        (EventType::ExecutionCancelled, "execution") => vec![Kind::ExecutionCancelled],
        // One that was never executed has no execution that ends.
        (EventType::WorkflowUpdated, "plan") if data.action.as_deref() == Some("cancelled") => {
            vec![Kind::PlanCancelled]
        }
        (EventType::WorkflowUpdated, "market_request") => market_kind(data).into_iter().collect(),
        (EventType::WorkflowUpdated, "profile") if data.action.as_deref() == Some("changed") => {
            vec![Kind::ProfileChanged]
        }
        (EventType::WorkflowUpdated, "agent") if data.action.as_deref() == Some("offline") => vec![Kind::AgentOffline],
        _ => Vec::new(),
    }
}

/// The kind of what happened to a request of the marketplace; `None`: nobody is told of it.
fn market_kind(data: &EntryData) -> Option<WebhookEventKind> {
    use WebhookEventKind as Kind;
    Some(match data.action.as_deref()? {
        "created" => Kind::RequestCreated,
        "accepted" => Kind::RequestAccepted,
        "completed" => Kind::RequestCompleted,
        "settled" => Kind::RequestPaid,
        "rejected" => Kind::RequestRejected,
        "cancelled" => Kind::RequestCancelled,
        "expired" => Kind::RequestExpired,
        "disputed" => Kind::RequestDisputed,
        "resolved" => Kind::RequestDecided,
        _ => return None,
    })
}

/// Whose resource an entry is about: its owner's; of a request both parties'.
fn owners_of<'e>(record: &'e AuditRecord, data: &'e EntryData) -> Vec<Option<&'e str>> {
    let parties = [data.client_id.as_deref(), data.provider_id.as_deref()];
    if data.request_id.is_some() {
        return parties.into_iter().filter(Option::is_some).collect();
    }
    vec![data.owner_id.as_deref().or(record.user.as_ref().map(|user| user.as_str()))]
}

fn told<'e>(record: &'e AuditRecord, data: &'e EntryData, owner: Option<&'e str>) -> ToldEvent<'e> {
    let is_training = data.resource.as_deref() == Some("training_run");
    let is_plan = is_of_plan(record);
    let execution = record.execution_id.as_ref();
    let workflow = record.workflow_id.as_ref();
    ToldEvent {
        execution_id: execution.filter(|_| !is_training),
        run_id: execution.filter(|_| is_training),
        workflow_id: workflow.filter(|_| !is_plan),
        plan_id: workflow.filter(|_| is_plan),
        agent_id: data.agent_id.as_ref(),
        owner_id: owner,
        failed_step: data.failed_step.as_deref(),
        error_class: data.class.as_deref(),
        total_cost: data.total_cost.as_ref(),
        seconds: data.execution_time,
        policy: data.policy.as_deref(),
        version: data.version,
        reason: data.reason.as_deref(),
        request_id: data.request_id.as_ref(),
        client_id: data.client_id.as_deref(),
        provider_id: data.provider_id.as_deref(),
        paid: data.paid.as_ref(),
        refunded: data.refunded.as_ref(),
        at: record.at,
        audit_id: &record.audit_id,
    }
}

impl AuditLog {
    /// Tell webhooks what the log tells, until `stopping` is cancelled.
    pub async fn tell_webhooks(self, stopping: CancellationToken) {
        if let Err(error) = self.begin(CONSUMER_NAME).await {
            tracing::warn!(%error, "the position of webhooks in the audit log could not be stored");
        }
        while sleep_or_cancelled(&stopping, POLL_INTERVAL).await {
            if let Err(error) = self.tell_ends().await {
                tracing::warn!(%error, "webhooks could not be told what the audit log has; retrying");
            }
        }
    }

    #[boxed]
    async fn tell_ends(&self) -> Result<()> {
        let is_wanted = KINDS.into_iter().any(|kind| self.0.webhooks.wanted(kind));
        let behind = self.behind(CONSUMER_NAME).await?;
        if !is_wanted && behind < SKIP_AFTER {
            return Ok(());
        }
        let most = if is_wanted { READ_BATCH } else { u64::MAX };
        for _ in 0..behind.div_ceil(most) {
            let audit = self.clone();
            self.0.db.write(async move |tx: &mut Tx| audit.tell_batch(tx, is_wanted, most).await).await?;
        }
        Ok(())
    }

    async fn tell_batch(&self, tx: &mut Tx, is_wanted: bool, most: u64) -> am_db::Result<()> {
        let events: &[EventType] = if is_wanted { &TOLD_EVENTS } else { &[EventType::SecurityViolation] };
        let records = self.follow(tx, CONSUMER_NAME, events, most).await?;
        if !is_wanted {
            return Ok(());
        }
        // An endpoint that another process made a moment ago is told too.
        self.0.webhooks.refresh(tx.conn().await?).await.map_err(to_database_error)?;
        for record in &records {
            let data: EntryData = record.data.parse().ok().flatten().unwrap_or_default();
            for kind in kinds_of(record, &data) {
                let source = format!("{}/{}", kind.word(), record.audit_id);
                // An endpoint for everybody's events is told once, by the source.
                for owner in owners_of(record, &data) {
                    let event = WebhookEvent { kind, owner, data: &told(record, &data, owner), source: Some(&source) };
                    self.0.webhooks.enqueue(tx, event, record.at).await.map_err(to_database_error)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use am_db::{codec::JsonText, owner::PrincipalName};
    use serde_json::json;

    use super::*;

    fn record(event: EventType, workflow: &str, data: &Value) -> AuditRecord {
        AuditRecord {
            audit_id: "audit_1".into(),
            event,
            at: Timestamp("2027-01-01T00:00:00Z".parse().unwrap()),
            user: Some(PrincipalName::from_stored("key_0123456789abcdef0123")),
            workflow_id: Some(workflow.into()),
            execution_id: Some("exec_1".into()),
            data: JsonText::from_value(data).unwrap(),
        }
    }

    fn request(action: &str) -> Value {
        json!({"resource": "market_request", "action": action, "request_id": "mreq_1", "client_id": "key_a",
            "provider_id": "key_b", "paid": 2.5})
    }

    #[test]
    fn both_parties_of_a_request_are_told() {
        let record = record(EventType::WorkflowUpdated, "", &request("settled"));
        let read: EntryData = record.data.parse().unwrap().unwrap();
        assert_eq!(owners_of(&record, &read), [Some("key_a"), Some("key_b")]);
        let shown = serde_json::to_value(told(&record, &read, Some("key_b"))).unwrap();
        assert_eq!((&shown["request_id"], &shown["paid"]), (&json!("mreq_1"), &json!(2.5)));
        let agent = json!({"resource": "agent", "action": "offline"});
        let read: EntryData = serde_json::from_value(agent).unwrap();
        assert_eq!(owners_of(&record, &read), [Some("key_0123456789abcdef0123")]);
    }

    #[test]
    fn an_entry_is_told_as_what_it_ends() {
        use WebhookEventKind as Kind;
        let execution = json!({"resource": "execution"});
        let over = json!({"resource": "execution", "class": "budget", "failed_step": "a"});
        let training = json!({"resource": "training_run", "policy": "p", "version": 3});
        for (event, workflow, data, kinds) in [
            (EventType::ExecutionCompleted, "agent_1", &execution, vec![Kind::ExecutionCompleted]),
            (EventType::ExecutionCompleted, "plan_1", &execution, vec![Kind::ExecutionCompleted, Kind::PlanCompleted]),
            (EventType::ExecutionFailed, "agent_1", &over, vec![Kind::ExecutionFailed, Kind::BudgetExceeded]),
            (EventType::ExecutionCancelled, "plan_1", &execution, vec![Kind::ExecutionCancelled, Kind::PlanCancelled]),
            (EventType::ExecutionCompleted, "", &training, vec![Kind::TrainingCompleted]),
            (
                EventType::WorkflowUpdated,
                "plan_1",
                &json!({"resource": "plan", "action": "cancelled"}),
                vec![Kind::PlanCancelled],
            ),
            (
                EventType::WorkflowUpdated,
                "",
                &json!({"resource": "agent", "action": "offline"}),
                vec![Kind::AgentOffline],
            ),
            (EventType::WorkflowUpdated, "", &json!({"resource": "agent", "action": "online"}), vec![]),
            (
                EventType::WorkflowUpdated,
                "",
                &json!({"resource": "profile", "action": "changed"}),
                vec![Kind::ProfileChanged],
            ),
            (EventType::WorkflowUpdated, "", &json!({"resource": "profile", "action": "created"}), vec![]),
            (EventType::WorkflowUpdated, "", &request("settled"), vec![Kind::RequestPaid]),
            (EventType::WorkflowUpdated, "", &request("resolved"), vec![Kind::RequestDecided]),
            (EventType::WorkflowUpdated, "", &request("started"), vec![]),
            (EventType::ExecutionFailed, "agent_1", &json!({"resource": "step"}), vec![]),
            (EventType::ExecutionFailed, "agent_1", &json!({}), vec![]),
        ] {
            let record = record(event, workflow, data);
            let read: EntryData = record.data.parse().unwrap().unwrap();
            assert_eq!(kinds_of(&record, &read), kinds, "{event} {data}");
        }
        let ended = record(EventType::ExecutionCompleted, "", &training);
        let read: EntryData = ended.data.parse().unwrap().unwrap();
        let shown = serde_json::to_value(told(&ended, &read, Some("key_1"))).unwrap();
        assert_eq!(
            (&shown["run_id"], &shown["version"], shown.get("execution_id")),
            (&json!("exec_1"), &json!(3), None)
        );
    }
}
