//! `/api/v1/agents/integration/production/alerts`: what somebody should look at.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{AdminKey, ApiError, JsonBody, QueryParams, pagination::row_limit},
};
use am_audit::{
    AuditEntryView, AuditFilter, AuditPageRequest, EntrySource, EventType, INVESTIGATION_THRESHOLD, risk_band,
};
use am_core::ids::{AuditId, ExecutionId, WorkflowId};
use am_db::{codec::Timestamp, owner::PrincipalName};

/// Filter of alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AlertsQuery {
    /// Only alerts of this severity: `high` (a risk of 70 to 90) or `critical` (above). `low` and `medium` are
    /// accepted and never match.
    #[param(inline)]
    severity: Option<AlertSeverity>,
    /// Number of alerts at most, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AlertSeverity)]
pub enum AlertSeverity {
    /// A risk up to 30.
    Low,
    /// A risk up to 70.
    Medium,
    /// A risk up to 90.
    High,
    /// A risk above.
    Critical,
}

impl AlertSeverity {
    /// The risks that are alerts of this severity.
    fn risk_range(self) -> (i64, i64) {
        match self {
            // Below the least risk that is an alert.
            Self::Low | Self::Medium => (1, 0),
            Self::High => (INVESTIGATION_THRESHOLD, 90),
            Self::Critical => (91, 100),
        }
    }
}

/// An audit entry that somebody should look at.
#[derive(Serialize, ToSchema)]
pub struct SecurityAlert {
    /// Id of the audit entry.
    id: AuditId,
    /// `high` or `critical`.
    severity: &'static str,
    /// Summary, in words.
    message: String,
    /// Kind of event that the alert is about.
    event_type: EventType,
    /// Risk, 70 to 100.
    risk_score: i64,
    /// Workflow that the entry is about; null: none.
    workflow_id: Option<WorkflowId>,
    /// Execution that the entry is about; null: none.
    execution_id: Option<ExecutionId>,
    /// Principal that caused it; null: unknown.
    #[schema(value_type = Option<String>)]
    user_id: Option<PrincipalName>,
    /// Name of that principal's key, of a revoked one too. Left out where no stored key has the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key_name: Option<Arc<str>>,
    /// When it happened.
    timestamp: Timestamp,
    /// Who wrote the entry.
    source: EntrySource,
}

/// Alerts, the newest first.
#[derive(Serialize, ToSchema)]
pub struct SecurityAlerts {
    /// Alerts of the page, newest first.
    alerts: Vec<SecurityAlert>,
    /// Number of alerts in this answer.
    count: usize,
    /// Number of all matching alerts.
    total: u64,
}

impl SecurityAlert {
    fn new(app: &App, entry: AuditEntryView) -> Self {
        let key_name = entry.user_id.as_ref().and_then(|user| app.shared.keyring.key_name(user.as_str()));
        let about = entry.execution_id.as_deref().or(entry.workflow_id.as_deref());
        let message = match about {
            Some(about) => format!("{} ({about}), risk {}", entry.event_type, entry.risk_score),
            None => format!("{}, risk {}", entry.event_type, entry.risk_score),
        };
        // An entry of 70 is an alert, and not of the band below.
        let severity = if entry.risk_score <= 90 { "high" } else { risk_band(entry.risk_score) };
        Self {
            id: entry.id,
            severity,
            message,
            event_type: entry.event_type,
            risk_score: entry.risk_score,
            workflow_id: entry.workflow_id,
            execution_id: entry.execution_id,
            user_id: entry.user_id,
            key_name,
            timestamp: entry.timestamp,
            source: entry.source,
        }
    }
}

/// List alerts
///
/// Audit entries with a risk of 70 or more. Each is also logged, and sent to webhooks that have the event
/// `security.alert`.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/production/alerts", operation_id = "alerts_list", tag = "alerts",
    security(("ApiKey" = ["admin"])),
    params(AlertsQuery),
    responses((status = 200, body = SecurityAlerts, description = "The alerts, the newest first"))
)]
pub async fn list_alerts(
    State(app): State<App>,
    _: AdminKey,
    QueryParams(query): QueryParams<AlertsQuery>,
) -> Result<JsonBody<SecurityAlerts>, ApiError> {
    let limit = row_limit(query.limit, 50)?;
    let (risk_min, risk_max) = query.severity.map(AlertSeverity::risk_range).unzip();
    let filter = AuditFilter { requires_investigation: Some(true), risk_min, risk_max, ..AuditFilter::default() };
    let found =
        app.audit.search(&filter, &AuditPageRequest { after: None, oldest_first: false, limit, offset: 0 }).await?;
    let alerts: Vec<SecurityAlert> = found.entries.into_iter().map(|entry| SecurityAlert::new(&app, entry)).collect();
    Ok(JsonBody(SecurityAlerts { count: alerts.len(), total: found.total.unwrap_or(alerts.len() as u64), alerts }))
}
