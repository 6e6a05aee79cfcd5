//! `/api/v1/agents/security/policies`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        error::FieldError,
        idempotency::{IdempotentOk, KeyedJson},
        page::{PageQuery, Paging},
    },
};
use am_audit::SecurityLevel;
use am_core::validation::{PathSegment, Violation};
use am_security::policies::{Change, Filter, Policy};

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

/// Members named in `in_query` were sent in the query, all others in the body.
fn invalid(violations: Vec<Violation>, in_query: &[&str]) -> ApiError {
    let field = |violation: Violation| {
        let is_in_query = |first: &PathSegment| in_query.iter().any(|name| first == *name);
        let part = if violation.path.segments().first().is_some_and(is_in_query) { "query" } else { "body" };
        FieldError::of(part, violation)
    };
    ApiError::unprocessable(violations.into_iter().map(field).collect())
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
    Admin(caller): Admin,
    Query(query): Query<CreateQuery>,
    request: KeyedJson<Option<Map<String, Value>>>,
) -> Result<IdempotentOk<Policy>, ApiError> {
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
    Ok(IdempotentOk(app.security_policies.create(&caller, rules, request.once).await?))
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
    paging: Paging<100>,
) -> Result<Response, ApiError> {
    let filter = Filter { security_level: query.security_level, is_active: query.is_active, page: paging.page.clone() };
    let found = app.security_policies.list(&filter).await?;
    Ok(paging.answer(found, |policy| (policy.created_at, &policy.id)))
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
    Admin(caller): Admin,
    Path(id): Path<String>,
    Json(sent): Json<Map<String, Value>>,
) -> Result<Json<Policy>, ApiError> {
    let change = Change::read(&sent).map_err(|faults| invalid(faults, &[]))?;
    Ok(Json(app.security_policies.update(&caller, &id, change).await?))
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
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Json<PolicyDeleted>, ApiError> {
    let policy = app.security_policies.delete(&caller, &id).await?;
    Ok(Json(PolicyDeleted { message: "Policy deleted successfully", policy_id: policy.id }))
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;
    use am_security::policies::edit;

    /// The macro takes literals only.
    #[test]
    fn policy_rules_document_the_bounds_that_are_checked() {
        let schema = serde_json::to_value(PolicyRules::schema()).unwrap();
        for (member, bounds) in [
            ("max_execution_time", edit::EXECUTION_SECONDS),
            ("max_memory_usage", edit::MEMORY_MB),
            ("max_concurrent_executions", edit::CONCURRENT_EXECUTIONS),
            ("max_workflow_steps", edit::WORKFLOW_STEPS),
            ("max_data_size", edit::DATA_BYTES),
        ] {
            let shown = &schema["properties"][member];
            let shown = (shown["minimum"].as_f64(), shown["maximum"].as_f64());
            assert_eq!(shown, (Some(*bounds.start() as f64), Some(*bounds.end() as f64)), "{member}");
        }
    }
}
