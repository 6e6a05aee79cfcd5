//! `/api/v1/agents/security/security-dashboard`, `.../security-stats` and `.../executions/{execution_id}/security-monitor`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::audit::AuditShape;
use crate::{
    app::App,
    http::{
        Admin, ApiError, FieldError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
    },
    routes::kept::kept,
};
use am_audit::{Counts, EventType, Filter, INVESTIGATE, Page, Record, SecurityLevel, risk_band};
use am_db::codec::Timestamp;
use am_security::{sandbox::SandboxRecord, trust::TrustStatistics};

/// Entries of an execution that are looked through, the newest.
const MOST_ENTRIES: u32 = 500;

fn newest(limit: u32) -> Page {
    Page { after: None, limit, offset: 0 }
}

/// What is going on.
#[derive(Serialize, ToSchema)]
pub struct Dashboard {
    /// The last 50 audit entries, newest first.
    #[schema(value_type = Vec<AuditShape>)]
    recent_audits: Vec<Record>,
    /// The last 10 that somebody should look at.
    #[schema(value_type = Vec<AuditShape>)]
    high_risk_events: Vec<Record>,
    /// How many entities are trusted how far.
    trust_statistics: TrustStatistics,
    /// Sandboxes that are there.
    active_sandboxes: u64,
    /// In all.
    totals: Totals,
    /// This moment.
    #[schema(value_type = String)]
    generated_at: Timestamp,
}

/// Counts of the dashboard.
#[derive(Serialize, ToSchema)]
pub struct Totals {
    /// Audit entries.
    audit_logs: u64,
    /// Those that somebody should look at.
    requires_investigation: u64,
    /// Entities with a trust score.
    trust_scores: u64,
    /// Sandboxes that are there.
    active_sandboxes: u64,
}

/// The security dashboard
#[utoipa::path(
    get, path = "/api/v1/agents/security/security-dashboard", tag = "security",
    responses((status = 200, body = Dashboard))
)]
pub async fn dashboard(State(app): State<App>, _: Admin) -> Result<Json<Dashboard>, ApiError> {
    let risky = Filter { requires_investigation: Some(true), ..Filter::default() };
    let counts = app.audit.counts().await?;
    let trust = app.trust.statistics().await?;
    let active_sandboxes = app.sandboxes.count_active().await?;
    Ok(Json(Dashboard {
        recent_audits: app.audit.search(&Filter::default(), &newest(50)).await?.entries,
        high_risk_events: app.audit.search(&risky, &newest(10)).await?.entries,
        active_sandboxes,
        totals: Totals {
            audit_logs: counts.total,
            requires_investigation: counts.requires_investigation,
            trust_scores: trust.total_entities,
            active_sandboxes,
        },
        trust_statistics: trust,
        generated_at: Timestamp(app.clock.now()),
    }))
}

/// Counts of all that is kept.
#[derive(Serialize, ToSchema)]
pub struct Statistics {
    /// Audit entries: in all, by event, by risk (low to 30, medium to 70, high to 90, critical above), by level.
    #[schema(value_type = Object)]
    audit_statistics: Counts,
    /// Entities: in all, and by trust.
    trust_statistics: TrustStatistics,
    /// Sandboxes that are there.
    active_sandboxes: u64,
    /// This moment.
    #[schema(value_type = String)]
    generated_at: Timestamp,
}

/// Security statistics
///
/// Of the audit log from counters that are kept as entries are written.
#[utoipa::path(
    get, path = "/api/v1/agents/security/security-stats", tag = "security",
    responses((status = 200, body = Statistics))
)]
pub async fn statistics(State(app): State<App>, _: Admin) -> Result<Json<Statistics>, ApiError> {
    Ok(Json(Statistics {
        audit_statistics: app.audit.counts().await?,
        trust_statistics: app.trust.statistics().await?,
        active_sandboxes: app.sandboxes.count_active().await?,
        generated_at: Timestamp(app.clock.now()),
    }))
}

/// Of which workflow.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MonitorQuery {
    /// The execution's workflow.
    workflow_id: String,
}

/// How safe an execution is or was.
#[derive(Serialize, ToSchema)]
pub struct Monitored {
    /// The execution.
    execution_id: String,
    /// Its workflow.
    workflow_id: String,
    /// pending, running, completed, failed, cancelled.
    status: String,
    /// secure; attention: a step or a verification failed, or a limit was passed; violated: something was done or tried that
    /// must not be.
    security_status: &'static str,
    /// The highest level that its audit entries have.
    security_level: Option<SecurityLevel>,
    /// The highest risk of its audit entries, 0 to 100.
    risk_score: i64,
    /// low, medium, high or critical.
    risk_level: &'static str,
    /// Was it verified? Null: nothing was to be, or it has not ended.
    verified: Option<bool>,
    /// Audit entries that tell of something that went wrong, newest first.
    violations: Vec<Violation>,
    /// Limits of its sandbox that it passed.
    limits_passed: Vec<LimitPassed>,
    /// Its sandbox, if it has one.
    sandbox: Option<SandboxRecord>,
    /// Audit entries that were looked through, the newest; of a long execution not all.
    entries_seen: usize,
    /// Are there more?
    entries_complete: bool,
    /// Seconds it took or has taken.
    execution_time: Option<f64>,
    /// This moment.
    #[schema(value_type = String)]
    monitored_at: Timestamp,
}

/// Something that went wrong.
#[derive(Serialize, ToSchema)]
pub struct Violation {
    /// The entry.
    audit_id: String,
    /// What happened.
    event_type: EventType,
    /// 0 to 100.
    risk_score: i64,
    /// Should somebody look?
    requires_investigation: bool,
    /// The step it concerns.
    step_id: Option<String>,
    /// When.
    #[schema(value_type = String)]
    timestamp: Timestamp,
}

/// A limit that was passed.
#[derive(Serialize, ToSchema)]
pub struct LimitPassed {
    /// Which.
    limit: &'static str,
    /// What it allows.
    allowed: f64,
    /// What was measured.
    measured: f64,
}

fn went_wrong(record: &Record) -> bool {
    use EventType::{AccessDenied, ExecutionFailed, SandboxBreach, SecurityViolation, StepFailed, VerificationFailed};
    let wrong = [AccessDenied, ExecutionFailed, SandboxBreach, SecurityViolation, StepFailed, VerificationFailed];
    wrong.contains(&record.event_type) || record.risk_score >= INVESTIGATE
}

/// Look at an execution's security
///
/// From its record, its audit entries and its sandbox.
#[utoipa::path(
    post, path = "/api/v1/agents/security/executions/{execution_id}/security-monitor", tag = "security",
    params(("execution_id" = String, Path), MonitorQuery),
    responses((status = 200, body = Monitored), (status = 404), (status = 422, description = "Another workflow's"))
)]
pub async fn monitor(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(query): Query<MonitorQuery>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let execution = app.executions.get(&(&caller.0).into(), &id).await?;
    if execution.workflow_id != query.workflow_id {
        let loc = vec!["query".into(), "workflow_id".into()];
        return Err(ApiError::unprocessable(vec![FieldError::value(loc, "Is not the workflow of this execution")]));
    }
    let filter = Filter { execution_id: Some(id.clone()), ..Filter::default() };
    let found = app.audit.search(&filter, &newest(MOST_ENTRIES)).await?;
    let sandbox = app.sandboxes.on_record(&id).await?;
    let now = Timestamp(app.clock.now());
    let execution_time = execution.started_at.map(|start| execution.completed_at.unwrap_or(now).seconds_since(start));
    let limits_passed: Vec<LimitPassed> = passed(&found.entries, sandbox.as_ref(), execution_time);
    let risk_score = found.entries.iter().map(|entry| entry.risk_score).max().unwrap_or(0);
    let verified = found.entries.iter().find_map(|entry| match entry.event_type {
        EventType::VerificationCompleted => Some(true),
        EventType::VerificationFailed => Some(false),
        _ => None,
    });
    let violations: Vec<Violation> =
        found.entries.iter().filter(|entry| went_wrong(entry)).map(Violation::of).collect();
    let security_status = match &violations[..] {
        [] if limits_passed.is_empty() => "secure",
        some if some.iter().any(|violation| violation.requires_investigation) => "violated",
        _ => "attention",
    };
    let monitored = Monitored {
        execution_id: execution.id,
        workflow_id: execution.workflow_id,
        status: execution.status.to_string(),
        security_status,
        security_level: found.entries.iter().map(|entry| entry.security_level).max(),
        risk_score,
        risk_level: risk_band(risk_score),
        verified,
        violations,
        limits_passed,
        sandbox,
        entries_seen: found.entries.len(),
        entries_complete: found.next.is_none() || found.entries.len() < MOST_ENTRIES as usize,
        execution_time,
        monitored_at: now,
    };
    // Kept as it was, should the same be asked again.
    let answer = serde_json::to_value(monitored).map_err(ApiError::internal)?;
    let done = kept(&app, request.once, answer).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

impl Violation {
    fn of(record: &Record) -> Self {
        Self {
            audit_id: record.id.clone(),
            event_type: record.event_type,
            risk_score: record.risk_score,
            requires_investigation: record.requires_investigation,
            step_id: record.step_id.clone(),
            timestamp: record.timestamp,
        }
    }
}

/// Limits of the sandbox that the execution's time, and the memory that its entries tell of, passed.
fn passed(entries: &[Record], sandbox: Option<&SandboxRecord>, seconds: Option<f64>) -> Vec<LimitPassed> {
    #[derive(Deserialize)]
    struct Used {
        memory_usage: Option<f64>,
    }
    let Some(sandbox) = sandbox else { return Vec::new() };
    let memory = entries.iter().filter_map(|entry| entry.event_data.parse::<Used>().ok().flatten()?.memory_usage);
    let measured = [
        ("max_execution_time", sandbox.max_execution_time as f64, seconds),
        ("memory_limit", sandbox.memory_limit as f64, memory.reduce(f64::max)),
    ];
    let over = measured.into_iter().filter_map(|(limit, allowed, measured)| {
        let measured = measured.filter(|measured| *measured > allowed)?;
        Some(LimitPassed { limit, allowed, measured })
    });
    over.collect()
}
