//! `/api/v1/agents/security/policies`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        error::{FieldError, Loc},
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_audit::SecurityLevel;
use am_security::policies::{Change, Fault, Filter, Policy};

/// What a policy is called, and whom it binds.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CreateQuery {
    /// 1 to 100 characters; no two policies have the same.
    #[param(max_length = 100)]
    name: String,
    /// For people; at most 2000 characters.
    description: Option<String>,
    /// The level of the workflows that it binds; default public.
    security_level: Option<SecurityLevel>,
}

/// The rules of a policy. What is left out is the coordinator's default when a policy is made, and stays when one is
/// changed. Other members are refused, and so is null.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a body that is read by `Change`")]
pub struct PolicyRules {
    /// `inference`, `training`, `data_processing`, `verification`, `custom`; empty (the default): any.
    allowed_step_types: Option<Vec<String>>,
    /// Seconds; default 3600.
    #[schema(minimum = 1, maximum = 31_536_000)]
    max_execution_time: Option<i64>,
    /// MB; default 8192.
    #[schema(minimum = 1, maximum = 16_777_216)]
    max_memory_usage: Option<i64>,
    /// Default true.
    require_verification: Option<bool>,
    /// `basic`, `full`, `zero-knowledge`; empty: any; default `basic`.
    allowed_verification_levels: Option<Vec<String>>,
    /// Runs of a client; default 10.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_concurrent_executions: Option<i64>,
    /// Default 100.
    #[schema(minimum = 1, maximum = 1000)]
    max_workflow_steps: Option<i64>,
    /// Bytes; default 1073741824.
    #[schema(minimum = 1, maximum = 1_125_899_906_842_624_i64)]
    max_data_size: Option<i64>,
    /// Default false.
    require_sandbox: Option<bool>,
    /// Default true; always met.
    require_audit_logging: Option<bool>,
    /// Default false.
    require_encryption: Option<bool>,
    /// At most 50 labels; nothing is checked.
    compliance_standards: Option<Vec<String>>,
    /// Does it bind? Default true.
    is_active: Option<bool>,
}

/// What to change of a policy: its rules, and its name, description and level.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a body that is read by `Change`")]
pub struct PolicyUpdate {
    /// 1 to 100 characters.
    name: Option<String>,
    /// At most 2000 characters.
    description: Option<String>,
    /// The level of the workflows that it binds.
    security_level: Option<SecurityLevel>,
    #[schema(inline)]
    #[serde(flatten)]
    rules: PolicyRules,
}

fn invalid(faults: Vec<Fault>, in_query: &[&str]) -> ApiError {
    let field = |fault: Fault| {
        let place = if in_query.contains(&fault.field.as_str()) { "query" } else { "body" };
        let loc: Vec<Loc> = [place.into(), fault.field.into()].into_iter().chain(fault.item.map(Loc::from)).collect();
        FieldError::value(loc, fault.message)
    };
    ApiError::unprocessable(faults.into_iter().map(field).collect())
}

/// Make a security policy
///
/// It binds from the answer on. A name that another policy has is a 409.
#[utoipa::path(
    post, path = "/api/v1/agents/security/policies", tag = "security", params(CreateQuery), request_body = PolicyRules,
    responses((status = 200, body = Policy), (status = 409), (status = 422, description = "Each member that is no rule or out of bounds"))
)]
pub async fn create(
    State(app): State<App>,
    caller: Admin,
    Query(query): Query<CreateQuery>,
    request: KeyedJson<Option<Map<String, Value>>>,
) -> Result<Response, ApiError> {
    const NAMED: [&str; 3] = ["name", "description", "security_level"];
    let mut sent = request.body.unwrap_or_default();
    if let Some(name) = NAMED.into_iter().find(|name| sent.contains_key(*name)) {
        return Err(ApiError::field(vec!["body".into(), name.into()], "belongs in the query", "value_error"));
    }
    sent.insert("name".into(), query.name.into());
    if let Some(description) = query.description {
        sent.insert("description".into(), description.into());
    }
    if let Some(level) = query.security_level {
        sent.insert("security_level".into(), level.value().into());
    }
    let rules = Change::read(&sent).map_err(|faults| invalid(faults, &NAMED))?;
    let done = app.security_policies.create(&(&caller.0).into(), rules, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// Which policies to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only those that bind workflows of this level.
    security_level: Option<SecurityLevel>,
    /// Only active, or only inactive ones.
    is_active: Option<bool>,
}

/// List security policies
///
/// Newest first, 100 a page. `X-Total-Count` counts them, `Link` leads to the next page.
#[utoipa::path(
    get, path = "/api/v1/agents/security/policies", tag = "security", params(ListQuery, PageQuery),
    responses((status = 200, body = Vec<Policy>))
)]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<ListQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    let filter = Filter { security_level: query.security_level, is_active: query.is_active, page };
    let (rows, total) = app.security_policies.list(&filter).await?;
    let last = rows.last().map(|row| (row.created_at, row.id.as_str()));
    Ok(paging.answer(&filter.page, &rows, total as u64, last))
}

/// One security policy
#[utoipa::path(
    get, path = "/api/v1/agents/security/policies/{policy_id}", tag = "security", params(("policy_id" = String, Path)),
    responses((status = 200, body = Policy), (status = 404))
)]
pub async fn get(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Json<Policy>, ApiError> {
    Ok(Json(app.security_policies.get(&id).await?))
}

/// Change a security policy
///
/// Only the given fields. It binds as it is now from the answer on, runs under way included: their next step.
#[utoipa::path(
    put, path = "/api/v1/agents/security/policies/{policy_id}", tag = "security", params(("policy_id" = String, Path)),
    request_body = PolicyUpdate,
    responses((status = 200, body = Policy), (status = 404), (status = 409), (status = 422))
)]
pub async fn update(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Json(sent): Json<Map<String, Value>>,
) -> Result<Json<Policy>, ApiError> {
    let change = Change::read(&sent).map_err(|faults| invalid(faults, &[]))?;
    Ok(Json(app.security_policies.update(&(&caller.0).into(), &id, change).await?))
}

/// That a policy was deleted.
#[derive(Serialize, ToSchema)]
pub struct PolicyDeleted {
    /// In words.
    message: &'static str,
    /// Which.
    policy_id: String,
}

/// Delete a security policy
///
/// It binds nothing any more.
#[utoipa::path(
    delete, path = "/api/v1/agents/security/policies/{policy_id}", tag = "security", params(("policy_id" = String, Path)),
    responses((status = 200, body = PolicyDeleted), (status = 404))
)]
pub async fn delete(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
) -> Result<Json<PolicyDeleted>, ApiError> {
    let policy = app.security_policies.delete(&(&caller.0).into(), &id).await?;
    Ok(Json(PolicyDeleted { message: "Policy deleted successfully", policy_id: policy.id }))
}
