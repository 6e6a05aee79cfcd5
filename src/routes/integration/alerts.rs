//! `/api/v1/agents/integration/production/alerts`: what somebody should look at.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{Admin, ApiError, Json, Query, page::rows},
};
use am_audit::{EventType, Filter, INVESTIGATE, Page, Record, Source, risk_band};
use am_db::{codec::Timestamp, owner::Owner};

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AlertsQuery {
    /// high (a risk of 70 to 90) or critical (above). low and medium are taken, and are never alerts.
    severity: Option<Severity>,
    /// At most so many, 1 to 500; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A risk up to 30.
    Low,
    /// A risk up to 70.
    Medium,
    /// A risk up to 90.
    High,
    /// A risk above.
    Critical,
}

impl Severity {
    /// The risks that are alerts of this severity.
    fn risks(self) -> (i64, i64) {
        match self {
            // Below the least risk that is an alert.
            Self::Low | Self::Medium => (1, 0),
            Self::High => (INVESTIGATE, 90),
            Self::Critical => (91, 100),
        }
    }
}

/// Something to look at.
#[derive(Serialize, ToSchema)]
pub struct Alert {
    /// The audit entry that it stands for.
    id: String,
    /// high or critical.
    severity: &'static str,
    /// In words.
    message: String,
    event_type: EventType,
    risk_score: i64,
    workflow_id: Option<String>,
    execution_id: Option<String>,
    #[schema(value_type = Option<String>)]
    user_id: Option<Owner>,
    #[schema(value_type = String)]
    timestamp: Timestamp,
    /// Who wrote the entry: service, or coordinator.
    #[schema(value_type = String)]
    source: Source,
}

/// Alerts, the newest first.
#[derive(Serialize, ToSchema)]
pub struct Alerts {
    alerts: Vec<Alert>,
    /// How many are answered.
    count: usize,
    /// How many there are.
    total: u64,
}

impl From<Record> for Alert {
    fn from(entry: Record) -> Self {
        let about = entry.execution_id.as_ref().or(entry.workflow_id.as_ref());
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
            timestamp: entry.timestamp,
            source: entry.source,
        }
    }
}

/// Alerts
///
/// The audit entries that somebody should look at: a risk of 70 and more. Each is logged too, and sent to the webhooks that
/// ask for `security.alert`.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/production/alerts", tag = "integration", params(AlertsQuery),
    responses((status = 200, body = Alerts))
)]
pub async fn alerts(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<AlertsQuery>,
) -> Result<Json<Alerts>, ApiError> {
    let limit = rows(query.limit, 50)?;
    let (risk_min, risk_max) = query.severity.map(Severity::risks).unzip();
    let filter = Filter { requires_investigation: Some(true), risk_min, risk_max, ..Filter::default() };
    let found = app.audit.search(&filter, &Page { after: None, limit, offset: 0 }).await?;
    let alerts: Vec<Alert> = found.entries.into_iter().map(Alert::from).collect();
    Ok(Json(Alerts { count: alerts.len(), total: found.total.unwrap_or(alerts.len() as u64), alerts }))
}
