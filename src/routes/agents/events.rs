//! `/api/v1/agents/executions/{execution_id}/events`.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    events::Event,
    http::{
        Admin, ApiError, Json, Path, Query,
        sse::{self, Entry, Resume},
    },
};

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only those after this number; a `Last-Event-ID` header goes before it.
    #[param(rename = "after")]
    #[expect(dead_code, reason = "read by Resume; named here for OpenAPI")]
    after: Option<u64>,
    /// `json`: a page of what is there, instead of a stream. So does `Accept: application/json`.
    format: Option<Format>,
    /// Events of a page, 1 to 1000.
    limit: Option<usize>,
}

/// How events are answered.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Server-Sent Events.
    Sse,
    /// A page.
    Json,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
pub struct EventPage {
    execution_id: String,
    /// Each with `seq`, `type`, `at`, `data`.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Event>,
    /// Ask for those after this number next.
    next_after: i64,
}

/// The events of an execution
///
/// A stream of Server-Sent Events that begins again after `Last-Event-ID`, also when the execution has ended, and ends
/// with it. With `Accept: application/json` or `?format=json` a page of what is there.
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/events", tag = "agents",
    params(("execution_id" = String, Path), EventsQuery),
    responses((status = 200, description = "`text/event-stream`, or a page", body = EventPage), (status = 403), (status = 404))
)]
pub async fn events(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    Resume(after): Resume,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = query.limit.unwrap_or(200);
    if !(1..=1000).contains(&limit) {
        return Err(ApiError::field(
            vec!["query".into(), "limit".into()],
            "Input should be from 1 to 1000",
            "value_error",
        ));
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let wants_json = accept.contains("application/json") && !accept.contains("text/event-stream");
    let page = query.format.map_or(wants_json, |format| format == Format::Json);
    // Also when it is streamed: whether the caller may see it is known before the first event.
    let events = app.executions.events(&(&caller.0).into(), &id, after, if page { limit } else { 1 }).await?;
    if page {
        let next_after = events.last().map_or(after, |last| last.seq);
        return Ok(Json(EventPage { execution_id: id, events, next_after }).into_response());
    }
    let follower = app.executions.follow(&id, after);
    let batches = stream::unfold(follower, async |mut follower| match follower.next().await {
        Ok(Some(events)) => Some((events, follower)),
        Ok(None) => None,
        Err(error) => {
            // The client takes the stream up again where it lost it.
            tracing::warn!(%error, "an event stream broke off");
            None
        }
    });
    Ok(sse::respond(batches.flat_map(|events| stream::iter(events.into_iter().map(entry)))))
}

fn entry(event: Event) -> Entry {
    let data = serde_json::to_string(&event).unwrap_or_default();
    Entry { seq: event.seq.unsigned_abs(), event: event.kind.into(), data }
}
