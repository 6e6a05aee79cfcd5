//! All routes of the service, on one page.

/// Workflows, executions, receipts, networks.
pub mod agents;
/// Creative capabilities, ideas, synthesis.
pub mod creativity;
/// Processes that serve workflows.
pub mod deployment;
mod export;
/// Routes for alerts from other systems.
pub mod integration;
/// Policies and their training, and how agents perform.
pub mod performance;
mod recorded_response;
/// Policies, trust, sandboxes, the audit log, webhooks.
pub mod security;
/// GPU work that miners do.
pub mod services;
mod stream;
/// Health, metrics, and the description of the API.
pub mod system;
#[cfg(test)]
mod tests;

use std::convert::Infallible;

use axum::{
    Router,
    extract::{FromRef, Request},
    http::{Method, StatusCode},
    response::Response,
};
use bytes::Bytes;
use serde_json::Value;
use tower::{Layer, Service, util::option_layer};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        ApiError, HttpState, cors, known_names::KnownNames, middleware::RequestLayer, openapi, path_alias::PathRewrite,
    },
};

/// The routes of every group.
pub fn route_groups() -> OpenApiRouter<App> {
    agents::router()
        .merge(performance::router())
        .merge(creativity::router())
        .merge(security::router())
        .merge(integration::router())
        .merge(deployment::router())
        .merge(services::router())
}

/// The OpenAPI document of these routes and the system's.
///
/// # Errors
/// When it can't be written as JSON.
pub fn openapi_document<S>(api: OpenApiRouter<S>) -> Result<Value, serde_json::Error>
where
    S: Clone + Send + Sync + 'static,
    HttpState: FromRef<S>,
{
    openapi::complete_document(with_system(api).into_openapi())
}

/// The whole service. From the outside in: cross-origin rules, aliases of paths, the router, the one middleware, the
/// handlers.
pub fn build_router<S>(
    api: OpenApiRouter<S>,
    state: S,
    shared: &HttpState,
) -> Result<
    impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    cors::InvalidOrigin,
>
where
    S: Clone + Send + Sync + 'static,
    HttpState: FromRef<S>,
{
    let (router, document) = with_system(api).split_for_parts();
    // A document that can't be written stays absent, and its route says so.
    if shared.openapi.get().is_none()
        && let Ok(document) = openapi::complete_document(document)
    {
        shared.known_names.get_or_init(|| KnownNames::from_document(&document));
        shared.openapi.get_or_init(|| Bytes::from(document.to_string()));
    }
    let router: Router = router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
        .layer(RequestLayer(shared.clone()));
    Ok(option_layer(cors::cors_layer(&shared.config.cors_origins)?)
        .layer(PathRewrite::new(router, shared.keyring.clone())))
}

fn with_system<S>(api: OpenApiRouter<S>) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    HttpState: FromRef<S>,
{
    api.merge(system::router())
}

async fn unknown_path() -> ApiError {
    // Not repeated: a path may contain what nobody should read.
    ApiError::not_found("There is no such path")
}

async fn wrong_method(method: Method) -> ApiError {
    let detail = format!("This path does not take {method}");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// What a client sent for a list of words: a list, or one text with commas between them.
fn split_words(text: &str) -> Vec<String> {
    if let Ok(Value::Array(items)) = serde_json::from_str(text) {
        return items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
