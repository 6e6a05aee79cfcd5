//! `/api/v1/agents/security/policies`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        error::FieldError,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_audit::SecurityLevel;
use am_core::{
    ids::SecurityPolicyId,
    validation::{PathSegment, Violation},
};
use am_security::policies::{PolicyChange, SecurityPolicy, SecurityPolicyFilter};

/// Name, description and level of a policy to create.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CreatePolicyQuery {
    /// Name, 1 to 100 characters, unique among policies.
    #[param(max_length = 100)]
    name: String,
    /// Description, at most 2000 characters. Default: empty.
    description: Option<String>,
    /// Level of the workflows that the policy applies to. Default `public`.
    security_level: Option<SecurityLevel>,
}

/// The rules of a policy. A rule that is left out has its default when a policy is created, and keeps its value when
/// one is changed. Other members and null are refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a body that is read by `Change`")]
pub struct PolicyRules {
    /// Step types that a workflow may have: `inference`, `training`, `data_processing`, `verification`, `custom`.
    /// Empty (default): any.
    allowed_step_types: Option<Vec<String>>,
    /// Most seconds that an execution may take. Default 3600.
    #[schema(minimum = 1, maximum = 31_536_000)]
    max_execution_time: Option<i64>,
    /// Most memory of a step, in MB. Default 8192.
    #[schema(minimum = 1, maximum = 16_777_216)]
    max_memory_usage: Option<i64>,
    /// Whether results must be verified. Default true.
    require_verification: Option<bool>,
    /// Verification levels that a workflow may have: `basic`, `full`, `zero-knowledge`. Empty: any. Default `basic`.
    allowed_verification_levels: Option<Vec<String>>,
    /// Most executions of one client at the same time. Default 10.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_concurrent_executions: Option<i64>,
    /// Most steps of a workflow. Default 100.
    #[schema(minimum = 1, maximum = 1000)]
    max_workflow_steps: Option<i64>,
    /// Most bytes of JSON of an execution's inputs, and of each step's. Default 1073741824.
    #[schema(minimum = 1, maximum = 1_125_899_906_842_624_i64)]
    max_data_size: Option<i64>,
    /// Whether everything must be computed within this service. Default false.
    require_sandbox: Option<bool>,
    /// Whether changes must be audited; always met. Default true.
    require_audit_logging: Option<bool>,
    /// Whether everything that leaves the process must be encrypted on its way. Default false.
    require_encryption: Option<bool>,
    /// At most 50 labels for people; nothing is checked. Default: none.
    compliance_standards: Option<Vec<String>>,
    /// False: no command may reach the network, and no step may call an endpoint or an agent. Null: any may.
    allow_network: Option<bool>,
    /// Hosts that commands and endpoints may reach: a name, `*.name` for its subdomains, `*` for any. Null: any.
    allowed_domains: Option<Vec<String>>,
    /// Programs that commands may start, by their names without a version. Null: those of the sandbox's rules.
    allowed_commands: Option<Vec<String>>,
    /// Highest security level whose sandbox a command may ask for. Null: any.
    max_sandbox_level: Option<SecurityLevel>,
    /// Highest cost limit of a workflow and of an execution, which must then have one. Null: none is needed.
    #[schema(exclusive_minimum = 0, maximum = 1_000_000_000)]
    max_cost_budget: Option<f64>,
    /// Processors that a command may ask for. Null: any number.
    #[schema(minimum = 0.1, maximum = 1024)]
    max_cpu_cores: Option<f64>,
    /// MB of files that a command may ask for. Null: any.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_disk_mb: Option<i64>,
    /// Whether the policy applies. Default true.
    is_active: Option<bool>,
}

/// Changes of a policy: its rules, name, description and level.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a body that is read by `Change`")]
pub struct PolicyUpdate {
    /// Name, 1 to 100 characters, unique among policies.
    name: Option<String>,
    /// Description, at most 2000 characters.
    description: Option<String>,
    /// Level of the workflows that the policy applies to.
    security_level: Option<SecurityLevel>,
    #[schema(inline)]
    #[serde(flatten)]
    rules: PolicyRules,
}

/// Members named in `in_query` were sent in the query, all others in the body.
fn validation_error(violations: Vec<Violation>, in_query: &[&str]) -> ApiError {
    let field = |violation: Violation| {
        let is_in_query = |first: &PathSegment| in_query.iter().any(|name| first == *name);
        let part = if violation.path.segments().first().is_some_and(is_in_query) { "query" } else { "body" };
        FieldError::of(part, violation)
    };
    ApiError::unprocessable(violations.into_iter().map(field).collect())
}

/// Create a security policy
///
/// It applies as soon as this is answered.
#[utoipa::path(
    post, path = "/api/v1/agents/security/policies", operation_id = "security_policies_create",
    tag = "security_policies", security(("ApiKey" = ["admin"])),
    params(CreatePolicyQuery, IdempotencyHeader),
    request_body = Option<PolicyRules>,
    responses(
        (status = 200, body = SecurityPolicy, description = "The policy"),
        (status = 409, description = "Another policy has this name"),
        (status = 422, description = "A member is no rule or out of bounds; `detail` names each"),
    )
)]
pub async fn create_security_policy(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<CreatePolicyQuery>,
    request: IdempotentJson<Option<Map<String, Value>>>,
) -> Result<IdempotentOk<SecurityPolicy>, ApiError> {
    const QUERY_MEMBERS: [&str; 3] = ["name", "description", "security_level"];
    let mut sent = request.body.unwrap_or_default();
    if let Some(name) = QUERY_MEMBERS.into_iter().find(|name| sent.contains_key(*name)) {
        return Err(ApiError::invalid_field(vec!["body".into(), name.into()], "belongs in the query", "value_error"));
    }
    sent.insert("name".into(), query.name.into());
    if let Some(description) = query.description {
        sent.insert("description".into(), description.into());
    }
    if let Some(level) = query.security_level {
        sent.insert("security_level".into(), level.value().into());
    }
    let rules = PolicyChange::parse(&sent).map_err(|faults| validation_error(faults, &QUERY_MEMBERS))?;
    Ok(IdempotentOk(app.security_policies.create(&caller, rules, request.once).await?))
}

/// Filter of policies.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SecurityPoliciesQuery {
    /// Only policies that apply to workflows of this level.
    security_level: Option<SecurityLevel>,
    /// Only active policies, or only inactive ones.
    is_active: Option<bool>,
}

/// List security policies
///
/// The newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/security/policies", operation_id = "security_policies_list",
    tag = "security_policies", security(("ApiKey" = ["admin"])),
    params(SecurityPoliciesQuery, PageQuery),
    responses((status = 200, body = Vec<SecurityPolicy>, description = "A page of policies, the newest first"))
)]
pub async fn list_security_policies(
    State(app): State<App>,
    _: AdminKey,
    QueryParams(query): QueryParams<SecurityPoliciesQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let filter = SecurityPolicyFilter {
        security_level: query.security_level,
        is_active: query.is_active,
        page: paging.page.clone(),
    };
    let found = app.security_policies.list(&filter).await?;
    Ok(paging.answer(found, |policy| (policy.created_at, &policy.id)))
}

/// Get a security policy
#[utoipa::path(
    get, path = "/api/v1/agents/security/policies/{policy_id}", operation_id = "security_policies_get",
    tag = "security_policies", security(("ApiKey" = ["admin"])),
    params(("policy_id" = SecurityPolicyId, Path, description = "Id of the security policy: `policy_` and 8 hexadecimal digits")),
    responses(
        (status = 200, body = SecurityPolicy, description = "The policy"),
        (status = 404, description = "No security policy has this id"),
    )
)]
pub async fn get_security_policy(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<SecurityPolicyId>,
) -> Result<JsonBody<SecurityPolicy>, ApiError> {
    Ok(JsonBody(app.security_policies.get(&id).await?))
}

/// Change a security policy
///
/// Only the given members change. The policy applies in its new form as soon as this is answered, also to the next
/// step of executions that run.
#[utoipa::path(
    put, path = "/api/v1/agents/security/policies/{policy_id}", operation_id = "security_policies_update",
    tag = "security_policies", security(("ApiKey" = ["admin"])),
    params(("policy_id" = SecurityPolicyId, Path, description = "Id of the security policy: `policy_` and 8 hexadecimal digits")),
    request_body = PolicyUpdate,
    responses(
        (status = 200, body = SecurityPolicy, description = "The changed policy"),
        (status = 404, description = "No security policy has this id"),
        (status = 409, description = "Another policy has this name"),
        (status = 422, description = "A member is no rule or out of bounds; `detail` names each"),
    )
)]
pub async fn update_security_policy(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<SecurityPolicyId>,
    JsonBody(sent): JsonBody<Map<String, Value>>,
) -> Result<JsonBody<SecurityPolicy>, ApiError> {
    let change = PolicyChange::parse(&sent).map_err(|faults| validation_error(faults, &[]))?;
    Ok(JsonBody(app.security_policies.update(&caller, &id, change).await?))
}

/// A deleted policy.
#[derive(Serialize, ToSchema)]
pub struct PolicyDeleted {
    /// What was done, in words.
    message: &'static str,
    /// Id of the policy.
    policy_id: SecurityPolicyId,
}

/// Delete a security policy
#[utoipa::path(
    delete, path = "/api/v1/agents/security/policies/{policy_id}", operation_id = "security_policies_delete",
    tag = "security_policies", security(("ApiKey" = ["admin"])),
    params(("policy_id" = SecurityPolicyId, Path, description = "Id of the security policy: `policy_` and 8 hexadecimal digits")),
    responses(
        (status = 200, body = PolicyDeleted, description = "The policy is deleted"),
        (status = 404, description = "No security policy has this id"),
    )
)]
pub async fn delete_security_policy(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<SecurityPolicyId>,
) -> Result<JsonBody<PolicyDeleted>, ApiError> {
    let policy = app.security_policies.delete(&caller, &id).await?;
    Ok(JsonBody(PolicyDeleted { message: "Policy deleted successfully", policy_id: policy.id }))
}
