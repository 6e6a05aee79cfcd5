//! Notification of agents: by a call to their endpoint, by message, or not at all, in which case they have to poll. A
//! notification is a row, written in the transaction of the change; a process claims it for a limited time, so that
//! another one can take over.

use std::{sync::Arc, time::Duration};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    AgentMessage, AssignmentService, AssignmentServiceInner, DISPATCH_TOPIC,
    model::{AgentReport, Assignment, AssignmentAttempt, NotificationKind, NotifyChannel},
    store::{self, PendingNotification},
};
use crate::{agents, error::Result};
use am_core::{
    config::AgentsConfig,
    json_number::{JsonReadError, read_json},
    public_address,
    response_body::read_response_body,
};
use am_db::{Tx, codec::Timestamp};

/// Maximum number of concurrent calls.
const NOTIFY_CONCURRENCY: i64 = 16;
/// Maximum number of tries per notification.
const MAX_NOTIFY_ATTEMPTS: i64 = 4;
/// Maximum size of an endpoint's response, in bytes.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// Polling interval while nothing wakes the task.
const NOTIFY_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Build the HTTP client for agents: only public addresses, unless private ones are allowed, and no redirects, which
/// could lead elsewhere.
pub fn build_client(settings: &AgentsConfig) -> std::result::Result<Client, reqwest::Error> {
    let builder = Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .timeout(settings.accept_within)
        .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")));
    if settings.private_addresses {
        builder.redirect(reqwest::redirect::Policy::none()).build()
    } else {
        public_address::restrict_to_public(builder).build()
    }
}

/// Outcome of a notification.
enum NotifyOutcome {
    /// Delivered in this way, possibly with a report in the response.
    Delivered(NotifyChannel, Option<AgentReport>),
    /// Obsolete: the attempt is over.
    Obsolete,
    /// Given up; the agent finds the assignment by polling.
    Undelivered(String),
    /// Failed; try again.
    Retry(String),
    /// Refused by the agent.
    Refused(String),
}

impl AssignmentService {
    /// Notify agents of assignments and cancellations, until `stopping`.
    pub(super) async fn tell(self, stopping: CancellationToken) {
        let mut subscription = self.0.hub.subscribe(DISPATCH_TOPIC);
        let mut calls = JoinSet::new();
        loop {
            let room = NOTIFY_CONCURRENCY - calls.len() as i64;
            match if room > 0 { self.0.due(room).await } else { Ok(Vec::new()) } {
                Ok(due) => {
                    for notice in due {
                        let inner = self.0.clone();
                        calls.spawn(async move {
                            if let Err(error) = inner.deliver(&notice).await {
                                tracing::warn!(assignment = notice.assignment_id.as_str(), %error, "an agent could not be notified");
                            }
                        });
                    }
                }
                Err(error) => tracing::warn!(%error, "could not read due notifications; retrying"),
            }
            tokio::select! {
                () = stopping.cancelled() => break,
                () = subscription.wait_for_wake() => {}
                Some(_) = calls.join_next() => {}
                () = tokio::time::sleep(NOTIFY_POLL_INTERVAL) => {}
            }
        }
        // Calls in progress are repeated by the next process under the same idempotency key.
        calls.abort_all();
    }
}

impl AssignmentServiceInner {
    async fn due(&self, most: i64) -> Result<Vec<PendingNotification>> {
        let now = Timestamp(self.clock.now());
        if !store::has_due_notifications(&mut *self.db.read().await?, now).await? {
            return Ok(Vec::new());
        }
        let lease = chrono::Duration::from_std(self.settings.accept_within + Duration::from_secs(15));
        let again = Timestamp(now.0 + lease.unwrap_or_default());
        self.db.write(async move |tx: &mut Tx| store::claim_due_notifications(tx, now, again, most).await).await
    }

    async fn deliver(self: &Arc<Self>, notice: &PendingNotification) -> Result<()> {
        let (found, url) = {
            let mut conn = self.db.read().await?;
            let cutoff = agents::offline_cutoff(&self.settings, Timestamp(self.clock.now()));
            let agent = agents::store::get(&mut conn, &notice.agent_id, cutoff).await?;
            let one = store::get(&mut conn, &notice.assignment_id).await?;
            let attempt = store::get_attempt(&mut conn, &notice.assignment_id, notice.attempt).await?;
            (one.zip(attempt), agent.and_then(|agent| agent.endpoint_url))
        };
        let Some((one, attempt)) = found else { return self.settle(notice, NotifyOutcome::Obsolete).await };
        // The attempt was released before its agent was notified, so no cancellation is needed.
        if notice.kind == NotificationKind::Task && attempt.outcome.is_some() {
            return self.settle(notice, NotifyOutcome::Obsolete).await;
        }
        let content = notification_body(notice, &one, &attempt);
        let told = match url {
            Some(url) => self.call(&url, notice, &content).await,
            None => {
                let letter = AgentMessage {
                    recipient: notice.agent_id.clone(),
                    message_id: idempotency_key(notice).into(),
                    is_task: notice.kind == NotificationKind::Task,
                    keep: self.keep(notice, &one),
                    content,
                };
                match self.courier.send(letter).await {
                    Ok(()) => NotifyOutcome::Delivered(NotifyChannel::Message, None),
                    // The assignment is not lost, and a retry would fail for most of the possible reasons.
                    Err(why) => NotifyOutcome::Undelivered(why),
                }
            }
        };
        self.settle(notice, told).await
    }

    /// Retention of a message: a task until the attempt is over; a cancellation for as long as an agent may be offline.
    fn keep(&self, notice: &PendingNotification, one: &Assignment) -> Duration {
        let left = (one.deadline.0 - self.clock.now()).to_std().unwrap_or_default();
        if notice.kind == NotificationKind::Task { left } else { self.settings.offline_after }
    }

    async fn call(&self, url: &str, notice: &PendingNotification, content: &Value) -> NotifyOutcome {
        if !self.settings.private_addresses {
            // The address is checked again at every call, although registration checked it; an address literal bypasses
            // the resolver's check.
            let checked = reqwest::Url::parse(url).map_err(|error| error.to_string());
            let checked =
                checked.and_then(|url| public_address::check_literal_host(&url).map_err(|error| error.to_string()));
            if let Err(why) = checked {
                return NotifyOutcome::Refused(why);
            }
        }
        am_core::crash_point!("assignments.before_call");
        let request = self.client.post(url).header("idempotency-key", idempotency_key(notice)).json(content);
        let answered = match request.send().await {
            Ok(response) => (response.status(), read_response_body(response, MAX_RESPONSE_BYTES).await),
            // The URL may contain a secret.
            Err(error) => return NotifyOutcome::Retry(format!("its endpoint: {}", error.without_url())),
        };
        am_core::crash_point!("assignments.after_call");
        let (status, body) = answered;
        if status.is_success() {
            let body = body.unwrap_or_default();
            let report = match read_json::<Value>(&body) {
                Ok(document) => document.get("result").cloned().map_or(AgentReport::Accept, AgentReport::Complete),
                Err(JsonReadError::Number(error)) => {
                    AgentReport::Fail { reason: format!("its endpoint's answer: {error}"), retryable: false }
                }
                Err(JsonReadError::Syntax(_)) => AgentReport::Accept,
            };
            return NotifyOutcome::Delivered(NotifyChannel::Endpoint, Some(report));
        }
        let said = format!("its endpoint answered {}", status.as_u16());
        let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        if passing { NotifyOutcome::Retry(said) } else { NotifyOutcome::Refused(said) }
    }

    /// Record the outcome and process the report in the response.
    async fn settle(self: &Arc<Self>, notice: &PendingNotification, told: NotifyOutcome) -> Result<()> {
        let (inner, notice) = (self.clone(), notice.clone());
        self.db
            .write(async move |tx: &mut Tx| {
                let now = Timestamp(inner.clock.now());
                let mut by = None;
                let (mut error, mut report) = (None, None);
                match told {
                    NotifyOutcome::Delivered(channel, answer) => (by, report) = (Some(channel), answer),
                    NotifyOutcome::Obsolete => {}
                    NotifyOutcome::Undelivered(why) => (by, error) = (Some(NotifyChannel::Poll), Some(why)),
                    NotifyOutcome::Retry(why) if notice.tries < MAX_NOTIFY_ATTEMPTS => {
                        let wait = chrono::Duration::milliseconds(500 << notice.tries);
                        return store::reschedule_notification(tx, &notice, &why, Timestamp(now.0 + wait), now).await;
                    }
                    NotifyOutcome::Retry(why) | NotifyOutcome::Refused(why) => {
                        let reason = format!("agent {:?}: {why}", notice.agent_id);
                        report = Some(AgentReport::Fail { reason, retryable: true });
                        error = Some(why);
                    }
                }
                store::finish_notification(tx, &notice, by, error.as_deref(), now).await?;
                let Some(report) = report.filter(|_| notice.kind == NotificationKind::Task) else { return Ok(()) };
                let attempt = store::get_attempt(tx.conn().await?, &notice.assignment_id, notice.attempt).await?;
                // The attempt has ended; further tries are useless.
                if let Some(attempt) = attempt.filter(|attempt| attempt.outcome.is_none()) {
                    inner.take(tx, &notice.assignment_id, attempt, report, None).await?;
                }
                Ok(())
            })
            .await
    }
}

/// Build the idempotency key, equal for every repetition.
fn idempotency_key(notice: &PendingNotification) -> String {
    format!("{}:{}:{}", notice.assignment_id, notice.attempt, notice.kind)
}

/// Build the body of a notification.
fn notification_body(notice: &PendingNotification, one: &Assignment, attempt: &AssignmentAttempt) -> Value {
    let mut content = json!({
        "type": if notice.kind == NotificationKind::Task { "task_request" } else { "task_cancelled" },
        "assignment_id": one.id,
        "attempt": attempt.attempt,
        "agent_id": attempt.agent_id,
        "workflow_id": one.workflow_id,
        "execution_id": one.execution_id,
        "sub_task": one.step_key,
        "task_type": one.task_type,
    });
    if notice.kind == NotificationKind::Task {
        content["request"] = one.request.parse().ok().flatten().unwrap_or(Value::Null);
        content["deadline"] = json!(one.deadline);
        content["estimated_seconds"] = json!(one.estimated_seconds);
        content["max_price"] = json!(one.max_price);
        content["report_to"] = json!(format!("/api/v1/agents/plans/assignments/{}", one.id));
    } else {
        content["reason"] = json!(attempt.reason);
    }
    content
}
