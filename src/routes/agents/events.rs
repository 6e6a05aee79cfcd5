//! `/api/v1/agents/executions/{execution_id}/events` and `/api/v1/agents/registry/events`.

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{AdminKey, ApiError, PathParams, openapi::LastEventIdHeader},
    routes::stream::{EventPage, EventsQuery, EventsRequest},
};
use am_core::ids::ExecutionId;

/// A page of an execution's events.
#[derive(Serialize, ToSchema)]
pub struct ExecutionEvents {
    /// Id of the execution.
    execution_id: ExecutionId,
    #[serde(flatten)]
    page: EventPage,
}

/// List or follow the events of an execution
///
/// A stream of Server-Sent Events that resumes after `Last-Event-ID`, also when the execution has ended, and ends
/// with it. With `Accept: application/json` or `?format=json` a page of the events so far.
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/events", operation_id = "executions_list_events",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        EventsQuery,
        LastEventIdHeader,
    ),
    responses(
        (status = 200, content((ExecutionEvents = "application/json"), (String = "text/event-stream")), description = "A page of events, or a stream of Server-Sent Events that ends with the execution"),
        (status = 204, description = "The stream has ended, and the client has its last event: nothing will follow"),
        (status = 404, description = "The caller has no execution of this id"),
    )
)]
pub async fn stream_execution_events(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
    asked: EventsRequest,
) -> Result<Response, ApiError> {
    // Also when it is streamed: whether the caller may see it is known before the first event.
    let first = app.executions.events(&caller, &id, asked.after(), asked.limit()).await?;
    let follower = app.executions.follow(&id, asked.after());
    asked.answer(first, |page| ExecutionEvents { execution_id: id, page }, follower).await
}

/// List or follow the events of the registry
///
/// Agents that register, go offline, come back and deregister: a page; or, with `Accept: text/event-stream` or
/// `?format=sse`, a stream of Server-Sent Events without end, which resumes after `Last-Event-ID`.
#[utoipa::path(
    get, path = "/api/v1/agents/registry/events", operation_id = "registry_list_events", tag = "registry",
    security(("ApiKey" = ["admin"])),
    params(EventsQuery, LastEventIdHeader),
    responses(
        (status = 200, content((EventPage = "application/json"), (String = "text/event-stream")), description = "A page of events, or a stream of Server-Sent Events without end"),
    )
)]
pub async fn stream_registry_events(
    State(app): State<App>,
    _: AdminKey,
    asked: EventsRequest,
) -> Result<Response, ApiError> {
    let asked = asked.page_by_default();
    let first = app.registry.events(asked.after(), asked.limit()).await?;
    let follower = app.registry.follow(asked.after());
    asked.answer(first, |page| page, follower).await
}
