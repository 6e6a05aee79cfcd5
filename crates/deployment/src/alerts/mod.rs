//! Alerts of deployments: raised by their figures, acknowledged, silenced and over.

mod model;
mod rules;
mod store;

use am_core::{boxed, ids::PrincipalId};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};
use am_webhooks::{WebhookEvent, WebhookEventKind};
use chrono::TimeDelta;
use serde_json::json;

use crate::{Actor, DeploymentError, DeploymentService, Result};

pub(crate) use self::rules::{AlertChange, AlertTrack};
pub use self::{
    model::DeploymentAlert,
    rules::{AlertThreshold, AlertThresholds, DeploymentAlertRule, DeploymentAlertSeverity, DeploymentAlertState},
};

/// Seconds for which an alert may be silenced: to thirty days.
const SILENCE_SECONDS: std::ops::RangeInclusive<i64> = 1..=2_592_000;

/// The alerts of a deployment that are not over.
pub(crate) async fn raised(conn: &mut Connection, deployment: &str) -> Result<Vec<DeploymentAlert>> {
    Ok(store::raised_alerts(conn, deployment).await?)
}

/// What a person does with an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentAlertAction {
    /// Take note of it.
    Acknowledge,
    /// Say that it is over. It is raised again if its figure says otherwise.
    Resolve,
    /// Tell nobody of it, nor of the next of its rule, for so many seconds; 0 ends the silence.
    Silence(i64),
}

impl DeploymentService {
    /// Store what became of an alert, and tell of it unless it is silenced.
    pub(crate) async fn change_alert(
        &self,
        tx: &mut Tx,
        (deployment, owner): (&str, &PrincipalId),
        (rule, change): (DeploymentAlertRule, AlertChange),
        (value, message): (f64, String),
        now: Timestamp,
    ) -> Result<()> {
        let found = store::raised_alerts(tx.conn().await?, deployment).await?;
        let found = found.into_iter().find(|one| one.rule == rule);
        let alert = match (found, change) {
            (Some(mut alert), AlertChange::Raise(severity) | AlertChange::Escalate(severity)) => {
                if severity <= alert.severity {
                    return Ok(());
                }
                (alert.severity, alert.value, alert.message) = (severity, value, message);
                store::update_alert(tx, &alert).await?;
                alert
            }
            (Some(mut alert), AlertChange::Resolve) => {
                (alert.state, alert.resolved_at) = (DeploymentAlertState::Resolved, Some(now));
                store::update_alert(tx, &alert).await?;
                alert
            }
            (None, AlertChange::Resolve) => return Ok(()),
            (None, AlertChange::Raise(severity) | AlertChange::Escalate(severity)) => {
                let silenced_until = store::silence_of(tx.conn().await?, deployment, rule).await?;
                let alert = DeploymentAlert {
                    id: self.0.parts.ids.next("dalert_", 12),
                    deployment_id: deployment.to_owned(),
                    owner_id: owner.clone(),
                    rule,
                    severity,
                    state: DeploymentAlertState::Open,
                    value,
                    message,
                    acknowledged_by: None,
                    acknowledged_at: None,
                    resolved_at: None,
                    silenced_until: silenced_until.filter(|until| *until > now),
                    created_at: now,
                };
                store::insert_alert(tx, &alert).await?;
                alert
            }
        };
        self.tell(tx, &alert, now).await
    }

    /// Tell of an alert by the log and by webhooks, unless it is silenced.
    async fn tell(&self, tx: &mut Tx, alert: &DeploymentAlert, now: Timestamp) -> Result<()> {
        if alert.silenced_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        let source = format!("{}:{}:{}", alert.id, alert.state, alert.severity);
        let event = WebhookEvent {
            kind: WebhookEventKind::DeploymentAlert,
            owner: Some(alert.owner_id.as_str()),
            data: alert,
            source: Some(&source),
        };
        self.0.parts.webhooks.enqueue(tx, event, now).await?;
        let (webhooks, told) = (self.0.parts.webhooks.clone(), alert.clone());
        tx.after_commit(move || {
            webhooks.wake();
            let DeploymentAlert { id, deployment_id, rule, severity, state, message, .. } = told;
            tracing::warn!(alert = id, deployment = deployment_id, %rule, %severity, %state, text = message, "deployment alert");
        });
        Ok(())
    }

    /// A page of the caller's alerts, the newest first, and how many there are.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn alerts(
        &self,
        caller: &Principal,
        filter: (Option<&str>, Option<DeploymentAlertState>, Option<DeploymentAlertSeverity>),
        page: &PageRequest,
    ) -> Result<(Vec<DeploymentAlert>, i64)> {
        Ok(store::list_alerts(&mut *self.db().read_list().await?, &caller.id(), filter, page).await?)
    }

    /// Acknowledge, resolve or silence an alert.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`]; [`DeploymentError::Conflict`] for one that is over; [`DeploymentError::Invalid`] for the seconds.
    #[boxed]
    pub async fn act_on_alert(
        &self,
        caller: &Principal,
        id: &str,
        action: DeploymentAlertAction,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<DeploymentAlert>> {
        let allowed = |seconds: i64| seconds == 0 || SILENCE_SECONDS.contains(&seconds);
        if matches!(action, DeploymentAlertAction::Silence(seconds) if !allowed(seconds)) {
            let text = format!("must be 0 or from {} to {}", SILENCE_SECONDS.start(), SILENCE_SECONDS.end());
            return Err(DeploymentError::Invalid(vec![am_core::validation::Violation::new("seconds", text)]));
        }
        let (me, by, id, now) = (self.clone(), caller.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let found = by.own(store::alert(tx.conn().await?, &id).await?, |alert| alert.owner_id.as_str());
            let mut alert = found.ok_or_else(|| DeploymentError::NotFound(format!("No alert {id}")))?;
            let word = match action {
                DeploymentAlertAction::Silence(seconds) => {
                    let until = Timestamp(now.0 + TimeDelta::seconds(seconds));
                    alert.silenced_until = Some(until).filter(|_| seconds > 0);
                    "silenced"
                }
                _ if alert.state == DeploymentAlertState::Resolved => {
                    return Err(DeploymentError::Conflict("alert_resolved", format!("Alert {id} is over")));
                }
                DeploymentAlertAction::Acknowledge => {
                    alert.state = DeploymentAlertState::Acknowledged;
                    (alert.acknowledged_by, alert.acknowledged_at) = (Some(by.id()), Some(now));
                    "acknowledged"
                }
                DeploymentAlertAction::Resolve => {
                    (alert.state, alert.resolved_at) = (DeploymentAlertState::Resolved, Some(now));
                    "resolved"
                }
            };
            store::update_alert(tx, &alert).await?;
            let entry = me.entry(Actor::Caller(&by), word, &alert.deployment_id, now).data("alert", json!(alert.id));
            me.0.parts.audit.append(tx, vec![entry]).await?;
            let (live, deployment, rule) = (me.clone(), alert.deployment_id.clone(), alert.rule);
            if action == DeploymentAlertAction::Resolve {
                tx.after_commit(move || live.forget_track(&deployment, rule));
            }
            Ok(alert)
        };
        self.db().write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// Look at a rule anew, as if nothing had been raised.
    fn forget_track(&self, deployment: &str, rule: DeploymentAlertRule) {
        if let Some(live) = self.0.live.lock().deployments.get_mut(deployment) {
            live.tracks.remove(&rule);
        }
    }
}
