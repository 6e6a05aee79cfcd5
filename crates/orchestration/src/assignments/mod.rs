//! Assignments: sub-tasks that agents do. An assignment belongs to one attempt of a step. It is offered to the best
//! agent with capacity, released when that agent is gone, and offered to the next; each attempt has a higher number, by
//! which late reports are recognised.

mod dispatch;
mod message_notifier;
mod metrics;
mod model;
mod notifications;
mod store;
mod transitions;
mod waiting_queue;

use std::{pin::Pin, sync::Arc};

use prometheus_client::registry::Registry as Metrics;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use model::{
    ASSIGNMENT_ID_PREFIX, AgentReport, Assignment, AssignmentAttempt, AssignmentState, AttemptOutcome, NewAssignment,
    NotifyChannel, ReportDisposition, is_assignment_id,
};
pub(crate) use store::{count_open, list_attempts, list_for_execution};
pub use transitions::{cancel_assignment, place_assignment, release_all};

use super::{
    agents,
    error::{OrchestrationError, Result},
    event_kinds::ExecutionEventKind,
};
use am_audit::AuditLog;
use am_core::{
    ambient::Clock,
    boxed,
    config::AgentsConfig,
    crypto,
    ids::{AgentId, AssignmentId, MessageId},
    money::Money,
};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};
use am_events::StreamHub;
use am_ledger::{EntryTags, LedgerService, NewEntry, payer_of};

/// Topic that wakes the dispatcher.
pub const DISPATCH_TOPIC: &str = "assignments";

/// Time by which a step's timeout exceeds its assignment's deadline, so that the assignment ends first, with a more
/// precise error.
pub const DEADLINE_MARGIN: std::time::Duration = std::time::Duration::from_secs(5);

/// A message to an agent without an endpoint.
#[derive(Clone, Debug)]
pub struct AgentMessage {
    /// Id of the recipient agent.
    pub recipient: AgentId,
    /// Message id, equal for every repetition.
    pub message_id: MessageId,
    /// Whether it offers a task; otherwise it cancels one.
    pub is_task: bool,
    /// Time for which the message is kept for the agent.
    pub keep: std::time::Duration,
    /// Content of the message.
    pub content: Value,
}

/// Sender of messages to agents.
pub trait AgentNotifier: Send + Sync + 'static {
    /// Send a message; it is stored for its recipient. A repeated `message_id` has no effect.
    fn send(&self, letter: AgentMessage) -> Pin<Box<dyn Future<Output = std::result::Result<(), String>> + Send + '_>>;
}

/// Service for assignments. Cheap to clone.
#[derive(Clone)]
pub struct AssignmentService(Arc<AssignmentServiceInner>);

struct AssignmentServiceInner {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    ledger: LedgerService,
    hub: StreamHub,
    settings: AgentsConfig,
    client: reqwest::Client,
    courier: Arc<dyn AgentNotifier>,
    metrics: metrics::AssignmentMetrics,
    /// Where the next round of dispatch goes on.
    waiting: tokio::sync::Mutex<waiting_queue::WaitingCursor>,
}

/// Result of an ended assignment, for the step that waits for it.
#[derive(Clone, Debug)]
pub struct EndedAssignment {
    /// Final state of the assignment.
    pub state: AssignmentState,
    /// Result delivered by the agent; null unless completed.
    pub result: Value,
    /// Error message of a failed assignment.
    pub error: Option<String>,
    /// Cost of the agent's time.
    pub cost: Money,
}

/// An assignment with all its attempts.
#[derive(Clone, Debug, Serialize)]
pub struct AssignmentWithAttempts {
    /// The assignment as stored.
    #[serde(flatten)]
    pub assignment: Assignment,
    /// Attempts, oldest first.
    pub attempts: Vec<AssignmentAttempt>,
}

/// Outcome of an agent's report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportOutcome {
    /// Id of the assignment.
    pub assignment_id: AssignmentId,
    /// Number of the reporting attempt.
    pub attempt: i64,
    /// State of the assignment after the report.
    pub state: AssignmentState,
    /// Whether the same report had been received before.
    pub known: bool,
}

impl AssignmentService {
    /// Create the service on `db`. Agents are notified at their endpoints, or by `courier` if they have none.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(
        db: Database,
        clock: Clock,
        audit: AuditLog,
        ledger: LedgerService,
        hub: StreamHub,
        settings: AgentsConfig,
        courier: Arc<dyn AgentNotifier>,
    ) -> std::result::Result<Self, reqwest::Error> {
        let client = notifications::build_client(&settings)?;
        let (metrics, waiting) = Default::default();
        let inner =
            AssignmentServiceInner { db, clock, audit, ledger, hub, settings, client, courier, metrics, waiting };
        Ok(Self(Arc::new(inner)))
    }

    /// Register the metrics of assignments.
    pub fn register(&self, metrics: &mut Metrics) {
        self.0.metrics.register(metrics);
    }

    /// Wake the dispatcher after an assignment was stored or cancelled.
    pub fn wake(&self) {
        self.0.hub.wake(DISPATCH_TOPIC);
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Wait until assignment `id` has ended. Temporary failures of reading the database are retried.
    #[boxed]
    pub async fn ended(&self, id: &AssignmentId) -> EndedAssignment {
        let mut subscription = self.0.hub.subscribe(id);
        loop {
            match self.find(id).await {
                Ok(Some(one)) if one.state.is_final() => {
                    let result = one.result.parse().ok().flatten().unwrap_or(Value::Null);
                    return EndedAssignment {
                        state: one.state,
                        result,
                        error: one.error,
                        cost: one.cost.unwrap_or_default(),
                    };
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let error = Some("the assignment does not exist".to_owned());
                    return EndedAssignment {
                        state: AssignmentState::Failed,
                        result: Value::Null,
                        error,
                        cost: Money::ZERO,
                    };
                }
                Err(error) => {
                    tracing::warn!(assignment = id.as_str(), %error, "could not read an assignment; retrying")
                }
            }
            // Changes by another process are found by polling.
            tokio::select! {
                () = subscription.wait_for_wake() => {}
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            }
        }
    }

    async fn find(&self, id: &AssignmentId) -> Result<Option<Assignment>> {
        store::get(&mut *self.0.db.read().await?, id).await
    }

    /// Return an assignment requested by `caller`, or whose agent belongs to `caller`, with its attempts.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for others' too.
    #[boxed]
    pub async fn get(&self, caller: &Principal, id: &AssignmentId) -> Result<AssignmentWithAttempts> {
        let mut conn = self.0.db.read().await?;
        let assignment = store::get(&mut conn, id).await?.ok_or(OrchestrationError::NotFound("Assignment"))?;
        if !caller.owns(&assignment.client_id) && !self.has(&mut conn, caller, &assignment).await? {
            return Err(OrchestrationError::NotFound("Assignment"));
        }
        let attempts = store::list_attempts(&mut conn, &assignment.execution_id).await?.remove(id).unwrap_or_default();
        Ok(AssignmentWithAttempts { assignment, attempts })
    }

    /// Whether the agent that has an assignment, or had it last, is one of `caller`, and not only one of its name.
    async fn has(&self, conn: &mut Connection, caller: &Principal, assignment: &Assignment) -> Result<bool> {
        let Some(agent_id) = &assignment.agent_id else { return Ok(false) };
        let cutoff = agents::offline_cutoff(&self.0.settings, self.now());
        let Some(agent) = agents::store::get(conn, agent_id, cutoff).await? else { return Ok(false) };
        let attempt = store::get_attempt(conn, &assignment.id, assignment.attempt).await?;
        let same = attempt.is_some_and(|attempt| attempt.incarnation == agent.incarnation);
        Ok(same && caller.acts_for(agent_id, &agent.owner_id))
    }

    /// Return a page of the current assignments of an agent of `owner`, the most urgent first, and their number.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], [`OrchestrationError::Forbidden`].
    #[boxed]
    pub async fn of_agent(
        &self,
        owner: &Principal,
        agent_id: &AgentId,
        page: &PageRequest,
    ) -> Result<(Vec<Assignment>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        let cutoff = agents::offline_cutoff(&self.0.settings, self.now());
        let agent =
            agents::store::get(&mut conn, agent_id, cutoff).await?.ok_or(OrchestrationError::NotFound("Agent"))?;
        if !owner.acts_for(agent_id, &agent.owner_id) {
            return Err(OrchestrationError::Forbidden);
        }
        store::page_of_held(&mut conn, agent_id, page).await
    }

    /// Process a report about attempt `number`. A repeated report gets the same answer.
    ///
    /// # Errors
    /// [`OrchestrationError::Conflict`] when the attempt is over, because another agent has the assignment or it has ended
    /// otherwise; [`OrchestrationError::NotFound`], for another owner's agent too.
    #[boxed]
    pub async fn report(
        &self,
        owner: &Principal,
        id: &AssignmentId,
        number: i64,
        report: AgentReport,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<ReportOutcome>> {
        let (inner, owner) = (self.0.clone(), owner.clone());
        let id = id.clone();
        self.0
            .db
            .write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
                let cutoff = agents::offline_cutoff(&inner.settings, Timestamp(inner.clock.now()));
                let attempt = store::get_attempt(tx.conn().await?, &id, number).await?;
                let attempt = attempt.ok_or(OrchestrationError::NotFound("Assignment attempt"))?;
                let agent = agents::store::get(tx.conn().await?, &attempt.agent_id, cutoff).await?;
                match agent {
                    Some(agent)
                        if !owner.acts_for(&attempt.agent_id, &agent.owner_id)
                            || agent.incarnation != attempt.incarnation =>
                    {
                        return Err(OrchestrationError::NotFound("Assignment attempt"));
                    }
                    Some(_) => {}
                    None => {
                        return Err(OrchestrationError::Conflict(late_report_message(
                            &attempt,
                            "its agent is no longer registered",
                        )));
                    }
                }
                inner.take(tx, &id, attempt, report, Some(&owner)).await
            })
            .await
    }
}

impl AssignmentServiceInner {
    /// Process a report from `owner`; `None`: the service itself observed it.
    async fn take(
        &self,
        tx: &mut Tx,
        id: &AssignmentId,
        mut attempt: AssignmentAttempt,
        report: AgentReport,
        owner: Option<&Principal>,
    ) -> Result<ReportOutcome> {
        let now = Timestamp(self.clock.now());
        let mut one = store::get(tx.conn().await?, id).await?.ok_or(OrchestrationError::NotFound("Assignment"))?;
        let digest = report_digest(&report)?;
        let known = match one.judge(&attempt, &report, &digest) {
            ReportDisposition::Known => true,
            ReportDisposition::Counts => false,
            ReportDisposition::Late(outcome) => {
                return Err(OrchestrationError::Conflict(late_report_message(&attempt, &format!("it is {outcome}"))));
            }
        };
        if !known {
            let action = match report {
                AgentReport::Accept | AgentReport::Progress(_) => {
                    let begins = attempt.accepted_at.is_none();
                    one.accept(&mut attempt, now);
                    if let AgentReport::Progress(percent) = report {
                        one.advance(percent);
                    }
                    store::save_attempt(tx, id, &attempt).await?;
                    store::save(tx, &one).await?;
                    let kind = match begins {
                        true => ExecutionEventKind::AgentAccepted,
                        false => ExecutionEventKind::AgentProgress,
                    };
                    let data = json!({"progress": one.progress});
                    transitions::append_event(tx, &one, Some(&attempt), kind, now, data).await?;
                    begins.then_some("accepted")
                }
                AgentReport::Complete(result) => {
                    attempt.digest = Some(digest);
                    transitions::complete_attempt(tx, &mut one, &mut attempt, &result, now).await?;
                    self.ledger.post(tx, pay_entry(&one, &attempt)).await?;
                    Some("completed")
                }
                AgentReport::Fail { reason, retryable } => {
                    attempt.digest = Some(digest);
                    transitions::close_attempt(
                        tx,
                        &mut one,
                        &mut attempt,
                        AttemptOutcome::Failed,
                        &reason,
                        !retryable,
                        now,
                    )
                    .await?;
                    Some("failed")
                }
            };
            if let Some(action) = action {
                let mut entry = transitions::audit_entry(&one, &attempt, action, now);
                if let Some(owner) = owner {
                    entry = entry.by(owner);
                }
                self.audit.append(tx, vec![entry]).await?;
            }
            self.metrics.count(&attempt);
            self.wake_after(tx, &one);
        }
        Ok(ReportOutcome { assignment_id: id.clone(), attempt: attempt.attempt, state: one.state, known })
    }

    /// After the commit, wake the waiting step, the followers of its run, and the dispatcher.
    fn wake_after(&self, tx: &mut Tx, one: &Assignment) {
        let hub = self.hub.clone();
        let (id, execution) = (one.id.clone(), one.execution_id.clone());
        tx.after_commit(move || {
            hub.wake(&id);
            hub.wake(&execution);
            hub.wake(DISPATCH_TOPIC);
        });
    }
}

fn late_report_message(attempt: &AssignmentAttempt, why: &str) -> String {
    let reason = attempt.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("attempt {} at this assignment is over: {why}{reason}", attempt.attempt)
}

/// Compute the digest by which a repeated report is recognised.
fn report_digest(report: &AgentReport) -> Result<String> {
    let said = match report {
        AgentReport::Accept => json!(["accept"]),
        AgentReport::Progress(percent) => json!(["progress", percent]),
        AgentReport::Complete(result) => json!(["result", result]),
        AgentReport::Fail { reason, retryable } => json!(["fail", reason, retryable]),
    };
    Ok(crypto::sha256_hex(&crypto::canonical_audit_json(&said)))
}

/// The entry of what the agent is paid for an assignment that it has completed.
fn pay_entry(one: &Assignment, attempt: &AssignmentAttempt) -> NewEntry {
    let tags = EntryTags {
        principal: Some(payer_of(&one.client_id)),
        agent: Some(attempt.agent_id.clone()),
        workflow: Some(one.workflow_id.clone()),
        execution: Some(one.execution_id.clone()),
    };
    am_ledger::pay_entry(tags, attempt.cost.unwrap_or_default()).of("assignment", one.id.as_str())
}
