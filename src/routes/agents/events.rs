//! `/api/v1/agents/executions/{execution_id}/events`.

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{Admin, ApiError, Path},
    routes::stream::{Asked, EventsQuery, Page},
};

/// A page of an execution's events.
#[derive(Serialize, ToSchema)]
pub struct ExecutionEvents {
    execution_id: String,
    #[serde(flatten)]
    page: Page,
}

/// The events of an execution
///
/// A stream of Server-Sent Events that begins again after `Last-Event-ID`, also when the execution has ended, and ends
/// with it. With `Accept: application/json` or `?format=json` a page of what is there.
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/events", tag = "agents",
    params(("execution_id" = String, Path), EventsQuery),
    responses((status = 200, description = "`text/event-stream`, or a page", body = ExecutionEvents), (status = 403), (status = 404))
)]
pub async fn events(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, ApiError> {
    // Also when it is streamed: whether the caller may see it is known before the first event.
    let first = app.executions.events(&caller, &id, asked.after(), asked.limit()).await?;
    let follower = app.executions.follow(&id, asked.after());
    Ok(asked.answer(first, |page| ExecutionEvents { execution_id: id, page }, follower))
}
