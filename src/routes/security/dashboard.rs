//! `/api/v1/agents/security/security-dashboard`, `.../security-stats` and `.../executions/{execution_id}/security-monitor`.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::audit::AuditShape;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, FieldError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
    routes::recorded_response::record_response,
};
use am_audit::{
    AuditCounts, AuditEntryView, AuditFilter, AuditPageRequest, EventType, INVESTIGATION_THRESHOLD, SecurityLevel,
    risk_band,
};
use am_core::ids::{AuditId, ExecutionId, StepId, WorkflowId};
use am_db::codec::Timestamp;
use am_security::{sandbox::SandboxRecord, trust::TrustStatistics};

/// Entries of an execution that are looked through, the newest.
const MAX_ENTRIES_CHECKED: u32 = 500;

fn newest_page(limit: u32) -> AuditPageRequest {
    AuditPageRequest { after: None, oldest_first: false, limit, offset: 0 }
}

/// The state of the service's security.
#[derive(Serialize, ToSchema)]
#[schema(as = SecurityDashboard)]
pub struct SecurityDashboard {
    /// Newest 50 audit entries.
    #[schema(value_type = Vec<AuditShape>)]
    recent_audits: Vec<AuditEntryView>,
    /// Newest 10 audit entries that somebody should look at.
    #[schema(value_type = Vec<AuditShape>)]
    high_risk_events: Vec<AuditEntryView>,
    /// Number of entities by trust level.
    trust_statistics: TrustStatistics,
    /// Number of sandboxes that exist now.
    active_sandboxes: u64,
    /// Numbers over the whole log.
    totals: SecurityTotals,
    /// Time of the answer.
    generated_at: Timestamp,
    /// Trust in short, under the names used by the former monolith.
    trust_score_stats: TrustSummary,
    /// Audit entries in short, under the names used by the former monolith.
    security_stats: AuditSummary,
}

/// Trust of all entities in short.
#[derive(Serialize, ToSchema)]
pub struct TrustSummary {
    /// Mean trust score; 0 without entities.
    average_score: f64,
    /// Number of entities with a trust score.
    total_entities: u64,
    /// Number of entities with a trust score of at least 80.
    high_trust_entities: u64,
    /// Number of entities with a trust score below 20.
    low_trust_entities: u64,
}

/// All audit entries in short.
#[derive(Serialize, ToSchema)]
pub struct AuditSummary {
    /// Number of audit entries.
    total_audits: u64,
    /// Number of audit entries that somebody should look at.
    high_risk_count: u64,
    /// Number of audit entries about a security violation.
    security_violations: u64,
    /// Share of the entries that somebody should look at, in percent.
    risk_rate: f64,
}

/// A share in percent; 0 of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

fn violations_of(counts: &AuditCounts) -> u64 {
    counts.by_event_type.get(EventType::SecurityViolation.value()).copied().unwrap_or(0)
}

/// Totals of the dashboard.
#[derive(Serialize, ToSchema)]
#[schema(as = SecurityTotals)]
pub struct SecurityTotals {
    /// Number of audit entries.
    audit_logs: u64,
    /// Number of audit entries that somebody should look at.
    requires_investigation: u64,
    /// Number of entities with a trust score.
    trust_scores: u64,
    /// Number of sandboxes that exist now.
    active_sandboxes: u64,
}

/// Get the security dashboard
#[utoipa::path(
    get, path = "/api/v1/agents/security/security-dashboard", operation_id = "security_get_dashboard",
    tag = "security", security(("ApiKey" = ["admin"])),
    responses((status = 200, body = SecurityDashboard, description = "The dashboard"))
)]
pub async fn get_security_dashboard(
    State(app): State<App>,
    _: AdminKey,
) -> Result<JsonBody<SecurityDashboard>, ApiError> {
    let risky = AuditFilter { requires_investigation: Some(true), ..AuditFilter::default() };
    let counts = app.audit.counts().await?;
    let trust = app.trust.statistics().await?;
    let active_sandboxes = app.sandboxes.count_active().await?;
    Ok(JsonBody(SecurityDashboard {
        recent_audits: app.audit.search(&AuditFilter::default(), &newest_page(50)).await?.entries,
        high_risk_events: app.audit.search(&risky, &newest_page(10)).await?.entries,
        active_sandboxes,
        totals: SecurityTotals {
            audit_logs: counts.total,
            requires_investigation: counts.requires_investigation,
            trust_scores: trust.total_entities,
            active_sandboxes,
        },
        trust_score_stats: TrustSummary {
            average_score: trust.average_trust_score.unwrap_or(0.0),
            total_entities: trust.total_entities,
            high_trust_entities: trust.high_trust_entities,
            low_trust_entities: trust.low_trust_entities,
        },
        security_stats: AuditSummary {
            total_audits: counts.total,
            high_risk_count: counts.requires_investigation,
            security_violations: violations_of(&counts),
            risk_rate: percent(counts.requires_investigation, counts.total),
        },
        trust_statistics: trust,
        generated_at: Timestamp(app.clock.now()),
    }))
}

/// Counts of the security records.
#[derive(Serialize, ToSchema)]
#[schema(as = SecurityStatistics)]
pub struct SecurityStatistics {
    /// Number of audit entries in all, by event, risk and level.
    audit_statistics: AuditStatistics,
    /// Number of entities by trust level.
    trust_statistics: TrustStatistics,
    /// Number of sandboxes that exist now.
    active_sandboxes: u64,
    /// Rates over the whole log.
    security_health: SecurityHealth,
    /// Time of the answer.
    generated_at: Timestamp,
}

/// Numbers of audit entries, also under the names used by the former monolith.
#[derive(Serialize, ToSchema)]
pub struct AuditStatistics {
    #[serde(flatten)]
    counts: AuditCounts,
    /// Same as `total`.
    total_audits: u64,
    /// Numbers by event type, with those of which there is none.
    event_type_counts: BTreeMap<String, u64>,
    /// Numbers by risk band: low to 30, medium to 70, high to 90, critical above.
    risk_score_distribution: BTreeMap<&'static str, u64>,
}

/// Rates over the whole audit log.
#[derive(Serialize, ToSchema)]
pub struct SecurityHealth {
    /// Share of entries with a high or critical risk, in percent.
    high_risk_rate: f64,
    /// Mean risk of an entry, 0 to 100.
    average_risk_score: f64,
    /// Share of entries about a security violation, in percent.
    security_violation_rate: f64,
}

impl From<AuditCounts> for AuditStatistics {
    fn from(counts: AuditCounts) -> Self {
        let mut events: BTreeMap<String, u64> =
            EventType::ALL.iter().map(|event| (event.value().to_owned(), 0)).collect();
        events.extend(counts.by_event_type.clone());
        let band = |name: &'static str| (name, counts.by_risk.get(name).copied().unwrap_or(0));
        let bands = ["low", "medium", "high", "critical"].map(band);
        Self {
            total_audits: counts.total,
            event_type_counts: events,
            risk_score_distribution: BTreeMap::from(bands),
            counts,
        }
    }
}

impl From<&AuditCounts> for SecurityHealth {
    fn from(counts: &AuditCounts) -> Self {
        let risky = ["high", "critical"].iter().filter_map(|band| counts.by_risk.get(band)).sum();
        Self {
            high_risk_rate: percent(risky, counts.total),
            average_risk_score: counts.average_risk.unwrap_or(0.0),
            security_violation_rate: percent(violations_of(counts), counts.total),
        }
    }
}

/// Get the security statistics
///
/// Those of the audit log come from counters that are updated with each entry.
#[utoipa::path(
    get, path = "/api/v1/agents/security/security-stats", operation_id = "security_get_statistics", tag = "security",
    security(("ApiKey" = ["admin"])),
    responses((status = 200, body = SecurityStatistics, description = "The statistics"))
)]
pub async fn get_security_statistics(
    State(app): State<App>,
    _: AdminKey,
) -> Result<JsonBody<SecurityStatistics>, ApiError> {
    let counts = app.audit.counts().await?;
    Ok(JsonBody(SecurityStatistics {
        security_health: (&counts).into(),
        audit_statistics: counts.into(),
        trust_statistics: app.trust.statistics().await?,
        active_sandboxes: app.sandboxes.count_active().await?,
        generated_at: Timestamp(app.clock.now()),
    }))
}

/// The workflow of the execution.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MonitorQuery {
    /// Workflow that the execution must be of.
    workflow_id: WorkflowId,
}

/// The security of an execution.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionSecurity)]
pub struct ExecutionSecurityReport {
    /// Id of the execution.
    execution_id: ExecutionId,
    /// Id of the workflow.
    workflow_id: WorkflowId,
    /// Status of the execution: pending, running, completed, failed or cancelled.
    status: String,
    /// `secure`; `attention`: a step or a verification failed, or a limit was passed; `violated`: something forbidden
    /// was done or tried.
    security_status: &'static str,
    /// Highest level of its audit entries; null: there are none.
    security_level: Option<SecurityLevel>,
    /// Highest risk of its audit entries, 0 to 100.
    risk_score: i64,
    /// `low`, `medium`, `high` or `critical`.
    risk_level: &'static str,
    /// Whether it was verified; null: nothing was to be verified, or it has not ended.
    verified: Option<bool>,
    /// Audit entries about something that went wrong, the newest first.
    violations: Vec<RecordedViolation>,
    /// Limits of its sandbox that it passed.
    limits_passed: Vec<ExceededLimit>,
    /// One sentence for each of these: violations and passed limits.
    alerts: Vec<String>,
    /// Its sandbox; null: it has none.
    sandbox: Option<SandboxRecord>,
    /// Number of audit entries that were read, the newest, at most 500.
    entries_seen: usize,
    /// Whether these are all of its audit entries.
    entries_complete: bool,
    /// Seconds that it took or has taken; null: not started.
    execution_time: Option<f64>,
    /// Time of the answer.
    monitored_at: Timestamp,
}

/// An audit entry about something that went wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionViolation)]
pub struct RecordedViolation {
    /// Id of the audit entry.
    audit_id: AuditId,
    /// Kind of the event.
    event_type: EventType,
    /// Risk, 0 to 100.
    risk_score: i64,
    /// Whether somebody should look at it.
    requires_investigation: bool,
    /// Step that it is about; null: none.
    step_id: Option<StepId>,
    /// When it happened.
    timestamp: Timestamp,
}

/// A limit that was passed.
#[derive(Serialize, ToSchema)]
pub struct ExceededLimit {
    /// Name of the limit.
    limit: &'static str,
    /// Allowed value, in the limit's unit.
    allowed: f64,
    /// Measured value, in the same unit.
    measured: f64,
}

fn is_violation(record: &AuditEntryView) -> bool {
    use EventType::{AccessDenied, ExecutionFailed, SandboxBreach, SecurityViolation, StepFailed, VerificationFailed};
    let wrong = [AccessDenied, ExecutionFailed, SandboxBreach, SecurityViolation, StepFailed, VerificationFailed];
    wrong.contains(&record.event_type) || record.risk_score >= INVESTIGATION_THRESHOLD
}

/// Get the security of an execution
///
/// From its record, its audit entries and its sandbox.
#[utoipa::path(
    post, path = "/api/v1/agents/security/executions/{execution_id}/security-monitor",
    operation_id = "security_monitor_execution", tag = "security", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = ExecutionId, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        MonitorQuery,
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = ExecutionSecurityReport, description = "The execution's security status"),
        (status = 404, description = "The caller has no execution of this id"),
        (status = 422, description = "The execution is of another workflow than `workflow_id`"),
    )
)]
pub async fn monitor_execution(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
    QueryParams(query): QueryParams<MonitorQuery>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<Value>, ApiError> {
    let execution = app.executions.get(&caller, &id).await?;
    if execution.workflow_id != *query.workflow_id {
        let loc = vec!["query".into(), "workflow_id".into()];
        return Err(ApiError::unprocessable(vec![FieldError::invalid_value(
            loc,
            "Is not the workflow of this execution",
        )]));
    }
    let filter = AuditFilter { execution_id: Some(id.clone()), ..AuditFilter::default() };
    let found = app.audit.search(&filter, &newest_page(MAX_ENTRIES_CHECKED)).await?;
    let sandbox = app.sandboxes.recorded_limits(&id).await?;
    let now = Timestamp(app.clock.now());
    let execution_time = execution.started_at.map(|start| execution.completed_at.unwrap_or(now).seconds_since(start));
    let limits_passed: Vec<ExceededLimit> = exceeded_limits(&found.entries, sandbox.as_ref(), execution_time);
    let risk_score = found.entries.iter().map(|entry| entry.risk_score).max().unwrap_or(0);
    let verified = found.entries.iter().find_map(|entry| match entry.event_type {
        EventType::VerificationCompleted => Some(true),
        EventType::VerificationFailed => Some(false),
        _ => None,
    });
    let violations: Vec<RecordedViolation> =
        found.entries.iter().filter(|entry| is_violation(entry)).map(RecordedViolation::from_record).collect();
    let security_status = match &violations[..] {
        [] if limits_passed.is_empty() => "secure",
        some if some.iter().any(|violation| violation.requires_investigation) => "violated",
        _ => "attention",
    };
    let told = violations.iter().map(|found| format!("{} with risk {}", found.event_type, found.risk_score));
    let alerts = told.chain(
        limits_passed
            .iter()
            .map(|passed| format!("{} was {}, and {} are allowed", passed.limit, passed.measured, passed.allowed)),
    );
    let alerts = alerts.collect();
    let monitored = ExecutionSecurityReport {
        execution_id: id,
        workflow_id: query.workflow_id,
        status: execution.status.to_string(),
        security_status,
        security_level: found.entries.iter().map(|entry| entry.security_level).max(),
        risk_score,
        risk_level: risk_band(risk_score),
        verified,
        violations,
        limits_passed,
        alerts,
        sandbox,
        entries_seen: found.entries.len(),
        entries_complete: found.next.is_none() || found.entries.len() < MAX_ENTRIES_CHECKED as usize,
        execution_time,
        monitored_at: now,
    };
    // Kept as it was, should the same be asked again.
    let answer = serde_json::to_value(monitored).map_err(ApiError::internal)?;
    Ok(IdempotentOk(record_response(&app, request.once, answer).await?))
}

impl RecordedViolation {
    fn from_record(record: &AuditEntryView) -> Self {
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
fn exceeded_limits(
    entries: &[AuditEntryView],
    sandbox: Option<&SandboxRecord>,
    seconds: Option<f64>,
) -> Vec<ExceededLimit> {
    #[derive(Deserialize)]
    struct SandboxUsageTotals {
        memory_usage: Option<f64>,
    }
    let Some(sandbox) = sandbox else { return Vec::new() };
    let memory =
        entries.iter().filter_map(|entry| entry.event_data.parse::<SandboxUsageTotals>().ok().flatten()?.memory_usage);
    let measured = [
        ("max_execution_time", sandbox.max_execution_time as f64, seconds),
        ("memory_limit", sandbox.memory_limit as f64, memory.reduce(f64::max)),
    ];
    let over = measured.into_iter().filter_map(|(limit, allowed, measured)| {
        let measured = measured.filter(|measured| *measured > allowed)?;
        Some(ExceededLimit { limit, allowed, measured })
    });
    over.collect()
}
