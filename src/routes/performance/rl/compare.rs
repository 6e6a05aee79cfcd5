//! `rl/compare`: versions of policies beside each other.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, FieldError, JsonBody, KeyRole, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
    },
};
use am_background::BackgroundWork;
use am_core::validation::{Violation, Violations};
use am_performance::{
    PerformanceCaller,
    comparison::{COMPARED_VERSIONS, ComparisonDraft, VersionComparison},
};
use am_rl::PolicyReference;

/// Which versions are compared.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CompareQuery {
    /// 2 to 10 versions with commas between them: `name@version`, `name@alias`, or `name`. The others are compared with the first.
    #[serde(default, deserialize_with = "crate::http::several")]
    #[param(value_type = Vec<String>, style = Form, explode = false, required = true, example = json!(["a@1", "b@2"]))]
    versions: Vec<String>,
}

impl CompareQuery {
    /// The versions that are named, or what is wrong with them.
    fn references(&self) -> Result<Vec<PolicyReference>, ApiError> {
        let mut violations = Violations::default();
        let text = format!("names {} to {} versions", COMPARED_VERSIONS.start(), COMPARED_VERSIONS.end());
        violations.require(COMPARED_VERSIONS.contains(&self.versions.len()), "versions", text);
        let mut references = Vec::new();
        for named in &self.versions {
            let parsed = named.parse::<PolicyReference>();
            references.extend(violations.take(parsed.map_err(|error| Violation::new("versions", error.to_string()))));
        }
        let of_query = |found: Vec<Violation>| found.into_iter().map(|one| FieldError::of("query", one)).collect();
        violations.finish().map_err(|found| ApiError::unprocessable(of_query(found)))?;
        Ok(references)
    }
}

/// Compare versions of policies
///
/// By the evaluations that their trainings recorded, all in the same episodes. Versions of a policy that were trained with the same
/// settings and other seeds are a group: where two have one, the difference of their means has a 95 % interval over the seeds (Welch);
/// otherwise the two versions themselves are compared, over their episodes. Exact expected returns have no width. Where a version has
/// no such evaluation, `reason` says so, and POST makes one.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/compare", operation_id = "rl_policies_compare_versions", tag = "rl_policies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(CompareQuery),
    responses(
        (status = 200, body = VersionComparison, description = "The comparison: each other version beside the first, and which is better"),
        (status = 404, description = "There is no such policy, version or alias"),
    )
)]
pub async fn compare_versions(
    State(app): State<App>,
    _: AnyCaller,
    QueryParams(query): QueryParams<CompareQuery>,
) -> Result<JsonBody<VersionComparison>, ApiError> {
    Ok(JsonBody(app.performance.comparison.compare(&query.references()?).await?))
}

/// Evaluate and compare versions of policies
///
/// Background work, answered at once: each version is evaluated in the same episodes, with several seeds; differences are taken seed by
/// seed. The task's `result` is then a comparison as GET answers it.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/compare", operation_id = "rl_policies_evaluate_versions", tag = "rl_policies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = ComparisonDraft,
    responses(
        (status = 201, body = BackgroundWork, description = "The background task, of kind `comparison`"),
        (status = 404, description = "There is no such policy, version or alias"),
        (status = 429, description = "The caller has too many background tasks that have not ended (`quota_exceeded`)"),
    )
)]
pub async fn evaluate_versions(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<ComparisonDraft>,
) -> Result<IdempotentCreated<BackgroundWork>, ApiError> {
    let caller = PerformanceCaller { is_admin: caller.role == KeyRole::Admin, principal: caller.principal };
    Ok(IdempotentCreated(app.performance.comparison.evaluate(&caller, request.body, request.once).await?))
}
