//! `/api/v1/agents/security/audit-logs`.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
        key_name::NamedDocument,
        pagination::{PageQuery, Paginator},
    },
};
use am_audit::{
    AuditEntry, AuditEntryView, AuditFilter, AuditPageRequest, EntrySource, EventType, RISK_SCORES, SecurityLevel,
};
use am_core::ids::{AuditId, ExecutionId, PrincipalId, StepId, WorkflowId};
use am_db::codec::Timestamp;

/// The largest `event_data`, in bytes of its JSON.
const MAX_EVENT_DATA_BYTES: usize = 64 << 10;

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditLog)]
pub struct AuditShape {
    /// Id of the entry: `audit_` and hexadecimal digits.
    id: AuditId,
    /// Kind of the event.
    event_type: EventType,
    /// When it happened.
    #[schema(format = DateTime)]
    timestamp: String,
    /// Workflow that it is about; null: none.
    workflow_id: Option<WorkflowId>,
    /// Execution that it is about; null: none.
    execution_id: Option<ExecutionId>,
    /// Step that it is about; null: none.
    step_id: Option<StepId>,
    /// Principal that caused it; null: unknown.
    user_id: Option<PrincipalId>,
    /// Name of that principal's key, of a revoked one too. Left out where no stored key has the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_name: Option<String>,
    /// How sensitive the entry is.
    security_level: SecurityLevel,
    /// Address that the request came from; null: no request, or unknown.
    ip_address: Option<String>,
    /// User-Agent of the request, its first 512 characters; null: none.
    user_agent: Option<String>,
    /// Further facts about the event.
    #[schema(value_type = Object)]
    event_data: Value,
    /// State before the change; null: not recorded.
    #[schema(value_type = Option<Object>)]
    previous_state: Value,
    /// State after the change; null: not recorded.
    #[schema(value_type = Option<Object>)]
    new_state: Value,
    /// Risk, 0 to 100.
    risk_score: i64,
    /// Whether somebody should look at it: a risk of 70 or more.
    requires_investigation: bool,
    /// Notes of whoever looked at it; null: none.
    investigation_notes: Option<String>,
    /// SHA-256 of `event_data` in the coordinator's canonical form, in hexadecimal digits; null: none.
    cryptographic_hash: Option<String>,
    /// Whether `signature` in `event_data` is valid for its `public_key`; null: there is none.
    signature_valid: Option<bool>,
    /// When the entry was written.
    #[schema(format = DateTime)]
    created_at: String,
    /// Place in the Merkle log, from 1; null: the coordinator wrote it and it is not in the log yet.
    log_sequence: Option<i64>,
    /// Leaf in the Merkle log, in hexadecimal digits; null: as above.
    leaf_hash: Option<String>,
    /// Who wrote the entry: `service` with the change that it tells of; `coordinator`, or whoever else writes the database;
    /// `reported` by an admin over the API.
    source: EntrySource,
}

/// Filter of audit entries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only entries of this event.
    event_type: Option<EventType>,
    /// Only entries about this workflow.
    workflow_id: Option<WorkflowId>,
    /// Only entries about this execution.
    execution_id: Option<ExecutionId>,
    /// Only entries about this step.
    step_id: Option<StepId>,
    /// Only entries caused by this principal.
    user_id: Option<PrincipalId>,
    /// Only entries of this level.
    security_level: Option<SecurityLevel>,
    /// Only entries that somebody should look at, or only the others.
    requires_investigation: Option<bool>,
    /// Lowest risk, 0 to 100.
    #[param(minimum = 0, maximum = 100)]
    risk_score_min: Option<i64>,
    /// Highest risk, 0 to 100.
    #[param(minimum = 0, maximum = 100)]
    risk_score_max: Option<i64>,
}

fn check_risk_score(name: &'static str, risk: Option<i64>) -> Result<Option<i64>, ApiError> {
    match risk {
        Some(risk) if !RISK_SCORES.contains(&risk) => Err(ApiError::invalid_field(
            vec!["query".into(), name.into()],
            "Input should be from 0 to 100",
            "value_error",
        )),
        risk => Ok(risk),
    }
}

/// An entry with the name of the key of whoever caused it.
fn named_entry(app: &App, entry: AuditEntryView) -> NamedDocument<AuditEntryView> {
    let key_name = entry.user_id.as_ref().and_then(|user| app.shared.keyring.key_name(user.as_str()));
    NamedDocument::new(entry, key_name)
}

/// List audit entries
///
/// The newest first; with `order=asc` in the order in which they were written. Follow `Link` to the next page even if a page is short or empty: where few of many entries
/// match, a page searches 10 000 of them. `X-Total-Count` is only sent for filters by event, level, risk and
/// investigation, which are counted.
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-logs", operation_id = "audit_list", tag = "audit",
    security(("ApiKey" = ["admin"])),
    params(AuditQuery, PageQuery),
    responses((status = 200, body = Vec<AuditShape>, description = "A page of audit entries, the newest first"))
)]
pub async fn list_audit_entries(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<AuditQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let user = query.user_id.map(|user| app.shared.keyring.owner_forms(&caller, &user));
    let filter = AuditFilter {
        event_type: query.event_type,
        workflow_id: query.workflow_id,
        execution_id: query.execution_id,
        step_id: query.step_id,
        user,
        security_level: query.security_level,
        requires_investigation: query.requires_investigation,
        risk_min: check_risk_score("risk_score_min", query.risk_score_min)?,
        risk_max: check_risk_score("risk_score_max", query.risk_score_max)?,
        created: paging.page.created,
    };
    let page = &paging.page;
    let place = AuditPageRequest {
        after: page.after.as_ref().map(|(_, id)| id.as_str().into()),
        oldest_first: page.oldest_first,
        limit: page.limit,
        offset: page.offset,
    };
    let found = app.audit.search(&filter, &place).await?;
    let next = found.next.as_ref().map(|(at, id)| (*at, id.as_str()));
    let entries: Vec<NamedDocument<AuditEntryView>> =
        found.entries.into_iter().map(|entry| named_entry(&app, entry)).collect();
    Ok(paging.respond_partial(&entries, found.total, next))
}

/// Get an audit entry
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-logs/{audit_id}", operation_id = "audit_get", tag = "audit",
    security(("ApiKey" = ["admin"])),
    params(("audit_id" = AuditId, Path, description = "Id of the audit entry: `audit_` and hexadecimal digits")),
    responses(
        (status = 200, body = AuditShape, description = "The audit entry"),
        (status = 404, description = "No audit entry has this id"),
    )
)]
pub async fn get_audit_entry(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AuditId>,
) -> Result<JsonBody<NamedDocument<AuditEntryView>>, ApiError> {
    Ok(JsonBody(named_entry(&app, app.audit.get(&id).await?)))
}

/// An event to record. Members that are not named here are reported in `X-Ignored`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RecordAuditRequest {
    /// Kind of the event.
    event_type: EventType,
    /// Workflow that it is about; null: none.
    workflow_id: Option<WorkflowId>,
    /// Execution that it is about; null: none.
    execution_id: Option<ExecutionId>,
    /// Step that it is about; null: none.
    step_id: Option<StepId>,
    /// How sensitive the entry is. Default `internal`.
    #[serde(default = "default_security_level")]
    security_level: SecurityLevel,
    /// Further facts, at most 64 KiB as JSON. With `signature` and `public_key` (hexadecimal, or base64url without
    /// padding) the Ed25519 signature over the canonical form of the other members is checked. Default: none.
    #[serde(default)]
    #[schema(value_type = Object)]
    event_data: Map<String, Value>,
}

fn default_security_level() -> SecurityLevel {
    SecurityLevel::Internal
}

/// Record an event
///
/// For events that other parts of the marketplace saw. The entry's source is `reported`: it says who reported it and
/// when, and counts nowhere as evidence. The risk is computed as for this service's own; from 70 it is an alert.
#[utoipa::path(
    post, path = "/api/v1/agents/security/audit-logs", operation_id = "audit_record", tag = "audit",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = RecordAuditRequest,
    responses((status = 201, body = AuditShape, description = "The audit entry"))
)]
pub async fn record_audit_entry(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    request: IdempotentJson<RecordAuditRequest>,
) -> Result<IdempotentCreated<AuditEntryView>, ApiError> {
    let body = request.body;
    let size = serde_json::to_vec(&body.event_data).map_or(usize::MAX, |json| json.len());
    if size > MAX_EVENT_DATA_BYTES {
        let message = format!("Has {size} bytes of JSON; at most {MAX_EVENT_DATA_BYTES} are kept");
        return Err(ApiError::invalid_field(vec!["body".into(), "event_data".into()], message, "value_error"));
    }
    let mut entry =
        AuditEntry::new(body.event_type, Timestamp(app.clock.now())).by(&caller).level(body.security_level).reported();
    entry = body.workflow_id.into_iter().fold(entry, AuditEntry::workflow);
    entry = body.execution_id.into_iter().fold(entry, AuditEntry::execution);
    entry = body.step_id.into_iter().fold(entry, AuditEntry::step);
    entry = body.event_data.into_iter().fold(entry, |entry, (name, value)| entry.data(&name, value));
    Ok(IdempotentCreated(app.audit.record_once(entry, request.once).await?))
}

/// Where an export begins.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditExportQuery {
    /// Place of the first entry in the log. Default 1; only an export from 1 can be verified as a whole.
    #[param(minimum = 1)]
    from: Option<u64>,
}

/// Export the audit log
///
/// JSON lines: each entry with all of its columns as stored, its place and its leaf, up to the last signed head; each
/// signed head after its entries, with the cosignatures of witnesses over it. `agent-management verify-audit` verifies the file offline.
/// An entry `exported` tells who exported it; it is not part of the export.
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-logs/export", operation_id = "audit_export", tag = "audit",
    security(("ApiKey" = ["admin"])),
    params(AuditExportQuery),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson", description = "The log, one JSON document a line"),
    )
)]
pub async fn export_audit_log(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<AuditExportQuery>,
) -> Result<Response, ApiError> {
    let from = query.from.unwrap_or(1);
    let export = app.audit.export(from).await?;
    let entry = AuditEntry::new(EventType::WorkflowUpdated, Timestamp(app.clock.now())).by(&caller);
    app.audit.record_once(entry.of("audit_log", "exported").data("from", from.into()), None).await?;
    let lines = stream::try_unfold(export, async |mut export| {
        // An answer that breaks off is not whole, and the client's HTTP library says so.
        export.next().await.map(|lines| lines.map(|lines| (Bytes::from(lines), export)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}
