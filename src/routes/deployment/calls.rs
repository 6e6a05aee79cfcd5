//! Calls to deployments, and the route by which instances have their workflow run.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams, RawJson,
        idempotency::{IdempotencyHeader, REPLAYED_HEADER},
    },
    routes::agents::WaitQuery,
};
use am_core::crypto;
use am_deployment::{CallRequest, SnapshotAnswer};

/// Status of the execution, for the proxy in front of instances.
const EXECUTION_STATUS: HeaderName = HeaderName::from_static("x-execution-status");
/// Time that an execution has where the instance says nothing.
const DEFAULT_WAIT: Duration = Duration::from_secs(25);

/// A call of a deployed workflow.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
#[schema(example = json!({"inputs": {"sku": "a-17"}}))]
pub struct DeploymentCall {
    /// Inputs of the execution, which steps read as `$.inputs`. Default: none.
    #[schema(value_type = Object)]
    inputs: Map<String, Value>,
    /// What else was sent, which changes nothing; but a request with another body is another one.
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map<String, Value>,
}

/// An instance's refusal, as far as it is told on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct InstanceRefusal {
    detail: Value,
    code: String,
}

/// Call a deployment
///
/// The call goes to a healthy instance, the less busy of two drawn at random, which has its revision's snapshot of the workflow run.
/// Where there is none yet the call waits for one, up to `DEPLOYMENT_HOLD_SECONDS`. With an `Idempotency-Key` a call whose fate is not known
/// is sent again, and is carried out once; without one it is sent to another instance only if nothing was sent.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/{config_id}/invoke", operation_id = "deployments_invoke",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment"), WaitQuery, IdempotencyHeader),
    request_body = Option<DeploymentCall>,
    responses(
        (status = 200, body = SnapshotAnswer, description = "The execution, which has ended, or goes on after the wait"),
        (status = 404, description = "The caller has no deployment of this id"),
        (status = 409, description = "Nothing is deployed (`not_deployed`), or the workflow can't be run (`workflow_refused`)"),
        (status = 503, description = "No instance is ready (`no_instance`), none could be reached (`instances_unreachable`), or one took the call and did not answer (`instance_failed`)"),
    )
)]
pub async fn invoke_deployment(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    QueryParams(wait): QueryParams<WaitQuery>,
    IdempotencyHeader { key }: IdempotencyHeader,
    JsonBody(body): JsonBody<Option<DeploymentCall>>,
) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(&body.unwrap_or_default()).map_err(ApiError::internal)?;
    let wait = wait.of(&app)?.map(|wait| wait.as_secs_f64());
    let answer = app.deployments.invoke(&caller, &id, CallRequest { body: body.into(), once: key, wait }).await?;
    if answer.status == 200 {
        let mut response = RawJson(answer.body).into_response();
        if answer.replayed {
            response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
        }
        return Ok(response);
    }
    let refusal: InstanceRefusal = serde_json::from_slice(&answer.body).unwrap_or_default();
    let detail = refusal.detail.as_str().map_or_else(|| refusal.detail.to_string(), str::to_owned);
    Err(match StatusCode::from_u16(answer.status) {
        Ok(_) if refusal.code == "idempotency_key_reused" => am_db::DatabaseError::IdempotencyKeyReused.into(),
        Ok(StatusCode::CONFLICT) => ApiError::conflict(detail).code("workflow_refused"),
        Ok(StatusCode::TOO_MANY_REQUESTS) => ApiError::quota(detail),
        Ok(StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST) => ApiError::bad_request(detail),
        _ => ApiError::unavailable(detail, Duration::from_secs(2)).code("instance_failed"),
    })
}

/// Run the workflow of an instance
///
/// For instances only, with their token as `Authorization: Bearer`: runs the snapshot of the instance's revision for the deployment's
/// owner.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/instances/{instance_id}/execute",
    operation_id = "deployments_execute_for_instance", tag = "deployments", security(()),
    params(("instance_id" = String, Path, description = "Id of the instance"), WaitQuery, IdempotencyHeader),
    request_body = Option<DeploymentCall>,
    responses(
        (status = 200, body = SnapshotAnswer, description = "The execution, which has ended, or goes on after the wait"),
        (status = 401, description = "The token is not the instance's (`unauthorized`)"),
        (status = 409, description = "The workflow can't be run (`workflow_refused`)"),
    )
)]
pub async fn execute_for_instance(
    State(app): State<App>,
    PathParams(id): PathParams<String>,
    QueryParams(wait): QueryParams<WaitQuery>,
    IdempotencyHeader { key }: IdempotencyHeader,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Option<DeploymentCall>>,
) -> Result<Response, ApiError> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
    let wait = wait.of(&app)?.unwrap_or(DEFAULT_WAIT);
    let call = body.unwrap_or_default();
    let sent = serde_json::to_value(&call).map_err(ApiError::internal)?;
    let once = key.map(|key| (key, crypto::sha256_hex(&crypto::canonical_results_json(&sent))));
    let answer = app.deployments.run_for_instance((&id, token), call.inputs, once, wait).await?;
    let status = HeaderValue::from_str(&answer.status).unwrap_or(HeaderValue::from_static("unknown"));
    let replayed = answer.replayed;
    let mut response = JsonBody(answer).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    }
    response.headers_mut().insert(EXECUTION_STATUS, status);
    Ok(response)
}
