//! `/api/v1/agents/security/audit-logs`.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_audit::{Entry, EventType, Filter, Page, Record, SecurityLevel, Source};
use am_db::{Tx, codec::Timestamp};

/// The largest `event_data`, in bytes of its JSON.
const MOST_DATA: usize = 64 << 10;

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditLog)]
pub struct AuditShape {
    /// `audit_` and hex digits.
    id: String,
    event_type: EventType,
    timestamp: String,
    workflow_id: Option<String>,
    execution_id: Option<String>,
    step_id: Option<String>,
    /// Who did it: a principal.
    user_id: Option<String>,
    security_level: SecurityLevel,
    ip_address: Option<String>,
    user_agent: Option<String>,
    #[schema(value_type = Object)]
    event_data: Value,
    #[schema(value_type = Option<Object>)]
    previous_state: Value,
    #[schema(value_type = Option<Object>)]
    new_state: Value,
    /// 0 to 100.
    risk_score: i64,
    /// From a risk of 70 on.
    requires_investigation: bool,
    investigation_notes: Option<String>,
    /// SHA-256 of `event_data` in the coordinator's canonical form.
    cryptographic_hash: Option<String>,
    /// Of a `signature` with a `public_key` in `event_data`; null: there is none.
    signature_valid: Option<bool>,
    created_at: String,
    /// Its place in the Merkle log, from 1; null: the coordinator wrote it just now.
    log_sequence: Option<i64>,
    /// Its leaf in the Merkle log, in hex.
    leaf_hash: Option<String>,
    /// Who wrote the entry: service, or coordinator.
    #[schema(value_type = String)]
    source: Source,
}

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only this event.
    event_type: Option<EventType>,
    /// Only of this workflow.
    workflow_id: Option<String>,
    /// Only of this execution.
    execution_id: Option<String>,
    /// Only of this step.
    step_id: Option<String>,
    /// Only by this principal.
    user_id: Option<String>,
    /// Only of this level.
    security_level: Option<SecurityLevel>,
    /// Only those that somebody should look at, or only the others.
    requires_investigation: Option<bool>,
    /// The least risk.
    #[param(minimum = 0, maximum = 100)]
    risk_score_min: Option<i64>,
    /// The highest risk.
    #[param(minimum = 0, maximum = 100)]
    risk_score_max: Option<i64>,
}

fn bounded(name: &'static str, risk: Option<i64>) -> Result<Option<i64>, ApiError> {
    match risk {
        Some(risk) if !(0..=100).contains(&risk) => {
            Err(ApiError::field(vec!["query".into(), name.into()], "Input should be from 0 to 100", "value_error"))
        }
        risk => Ok(risk),
    }
}

/// List audit entries
///
/// The newest first. `Link` leads to the next page, which can be there although this one is short, even empty: where few of
/// many entries match, a page looks through 10 000 of them. `X-Total-Count` is there where the filter is by event, level,
/// risk and investigation alone, which are counted.
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-logs", tag = "security", params(AuditQuery, PageQuery),
    responses((status = 200, body = Vec<AuditShape>))
)]
pub async fn list(
    State(app): State<App>,
    caller: Admin,
    Query(query): Query<AuditQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    let user = query.user_id.map(|user| app.shared.keyring.forms_of(&caller.0, &user));
    let filter = Filter {
        event_type: query.event_type,
        workflow_id: query.workflow_id,
        execution_id: query.execution_id,
        step_id: query.step_id,
        user,
        security_level: query.security_level,
        requires_investigation: query.requires_investigation,
        risk_min: bounded("risk_score_min", query.risk_score_min)?,
        risk_max: bounded("risk_score_max", query.risk_score_max)?,
    };
    let place = Page { after: page.after.as_ref().map(|(_, id)| id.clone()), limit: page.limit, offset: page.offset };
    let found = app.audit.search(&filter, &place).await?;
    let next = found.next.as_ref().map(|(at, id)| (*at, id.as_str()));
    Ok(paging.answer_bounded(&page, &found.entries, found.total, next))
}

/// One audit entry
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-logs/{audit_id}", tag = "security", params(("audit_id" = String, Path)),
    responses((status = 200, body = AuditShape), (status = 404))
)]
pub async fn get(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Json<Record>, ApiError> {
    Ok(Json(app.audit.get(&id).await?))
}

/// An event that was seen elsewhere. Fields that are not named here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// What happened.
    event_type: EventType,
    /// The workflow it concerns.
    workflow_id: Option<String>,
    /// The execution it concerns.
    execution_id: Option<String>,
    /// The step it concerns.
    step_id: Option<String>,
    /// How sensitive it is.
    #[serde(default = "internal")]
    security_level: SecurityLevel,
    /// What else is known, at most 64 KiB. With `signature` and `public_key` (hex, or base64url without padding) the Ed25519
    /// signature over the canonical form of the other members is checked.
    #[serde(default)]
    #[schema(value_type = Object)]
    event_data: Map<String, Value>,
}

fn internal() -> SecurityLevel {
    SecurityLevel::Internal
}

/// Record an event
///
/// For what other parts of the marketplace have seen. Its risk is computed as for this service's own, and from 70 on it is
/// an alert.
#[utoipa::path(
    post, path = "/api/v1/agents/security/audit-logs", tag = "security", request_body = AuditRecord,
    responses((status = 201, body = AuditShape))
)]
pub async fn record(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<AuditRecord>,
) -> Result<Response, ApiError> {
    let body = request.body;
    let size = serde_json::to_vec(&body.event_data).map_or(usize::MAX, |json| json.len());
    if size > MOST_DATA {
        let message = format!("Has {size} bytes of JSON; at most {MOST_DATA} are kept");
        return Err(ApiError::field(vec!["body".into(), "event_data".into()], message, "value_error"));
    }
    let mut entry =
        Entry::new(body.event_type, Timestamp(app.clock.now())).by(&(&caller.0).into()).level(body.security_level);
    entry = body.workflow_id.into_iter().fold(entry, Entry::workflow);
    entry = body.execution_id.into_iter().fold(entry, Entry::execution);
    entry = body.step_id.into_iter().fold(entry, Entry::step);
    entry = body.event_data.into_iter().fold(entry, |entry, (name, value)| entry.data(&name, value));
    let audit = app.audit.clone();
    let work = async move |tx: &mut Tx| Ok::<_, am_db::Error>(audit.record(tx, entry).await?);
    let done = app.db.write_once(&app.clock, request.once, work).await?;
    let record = app.audit.get(&done.value).await?;
    Ok((StatusCode::CREATED, Replayable(Json(record), done.replayed)).into_response())
}

/// From where to export.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// The first entry by its place in the log. Only an export from 1 on can be verified as a whole.
    #[param(minimum = 1)]
    from: Option<u64>,
}

/// Export the log
///
/// JSON lines: each entry with all of its columns as they are stored, its place and its leaf, up to the last signed head;
/// each signed head after the entries it is over. `agent-management verify-audit` checks the file offline.
#[utoipa::path(
    get, path = "/api/v1/agents/security/audit-logs/export", tag = "security", params(ExportQuery),
    responses((status = 200, content_type = "application/x-ndjson", body = String))
)]
pub async fn export(State(app): State<App>, _: Admin, Query(query): Query<ExportQuery>) -> Result<Response, ApiError> {
    let export = app.audit.export(query.from.unwrap_or(1)).await?;
    let lines = stream::try_unfold(export, async |mut export| {
        // An answer that breaks off is not whole, and the client's HTTP library says so.
        export.next().await.map(|lines| lines.map(|lines| (Bytes::from(lines), export)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}
