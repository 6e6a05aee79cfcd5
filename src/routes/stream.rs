//! What routes that answer events share: a page of them, or a stream that begins again where a client lost it.

use std::ops::RangeInclusive;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::{
    ApiError, JsonBody, QueryParams,
    sse::{self, LastEventId, SseEvent},
};
use am_events::{StreamEvent, StreamFollower, StreamSource};

/// Number of events of a page.
pub const EVENT_ROWS: RangeInclusive<usize> = 1..=1000;

/// Which events, and how they are answered.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events after this number; a `Last-Event-ID` header overrides it. Default 0.
    #[param(rename = "after")]
    #[expect(dead_code, reason = "read by Resume; named here for OpenAPI")]
    after: Option<u64>,
    /// `sse`: a stream; `json`: a page. Default: as the Accept header says.
    #[param(inline)]
    format: Option<EventFormat>,
    /// Number of events of a page, 1 to 1000. Default 200.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// How events are answered.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EventsFormat)]
pub enum EventFormat {
    /// Answer as Server-Sent Events.
    Sse,
    /// Answer one page as JSON.
    Json,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
pub struct EventPage {
    /// The events, in order.
    events: Vec<StreamEvent>,
    /// Number of the last event, for the next request's `after`.
    next_after: i64,
}

/// What a request for events asks for.
pub struct EventsRequest {
    query: EventsQuery,
    after: i64,
    page: bool,
    /// The client says that it takes a stream.
    streams: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for EventsRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let QueryParams(query) = QueryParams::<EventsQuery>::from_request_parts(parts, state).await?;
        let LastEventId(after) = LastEventId::from_request_parts(parts, state).await?;
        let limit = query.limit.unwrap_or(200);
        if !EVENT_ROWS.contains(&limit) {
            let (loc, message) = (vec!["query".into(), "limit".into()], "Input should be from 1 to 1000");
            return Err(ApiError::invalid_field(loc, message, "value_error"));
        }
        let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let streams = accept.contains("text/event-stream");
        let wants_json = accept.contains("application/json") && !streams;
        let page = query.format.map_or(wants_json, |format| format == EventFormat::Json);
        Ok(Self { query, after: i64::try_from(after).unwrap_or(i64::MAX), page, streams })
    }
}

impl EventsRequest {
    /// The same for a stream that never ends: a page, unless the client says that it takes a stream.
    pub fn page_by_default(mut self) -> Self {
        self.page = self.query.format.map_or(!self.streams, |format| format == EventFormat::Json);
        self
    }

    /// Events after this number.
    pub fn after(&self) -> i64 {
        self.after
    }

    /// How many to read before it is known that the caller may see them: a page of them, or one.
    pub fn limit(&self) -> usize {
        if self.page { self.query.limit.unwrap_or(200) } else { 1 }
    }

    /// Answers `first`, which was read with [`EventsRequest::after`] and [`EventsRequest::limit`], as a page made by `page`; or else
    /// everything that `follower` has, until there will be no more. When a stream has ended and the client has its last event,
    /// 204 says so: after it a browser does not connect again.
    ///
    /// # Errors
    /// A database error.
    pub async fn answer<P: Serialize>(
        &self,
        first: Vec<StreamEvent>,
        page: impl FnOnce(EventPage) -> P,
        follower: StreamFollower<impl StreamSource>,
    ) -> Result<Response, ApiError> {
        if self.page {
            let next_after = first.last().map_or(self.after, |last| last.seq);
            return Ok(JsonBody(page(EventPage { events: first, next_after })).into_response());
        }
        if self.after > 0 && first.is_empty() && follower.is_exhausted().await? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let batches = stream::unfold(follower, async |mut follower| match follower.next().await {
            Ok(Some(events)) => Some((events, follower)),
            Ok(None) => None,
            Err(error) => {
                // The client takes the stream up again where it lost it.
                tracing::warn!(%error, "an event stream was interrupted");
                None
            }
        });
        Ok(sse::sse_response(batches.flat_map(|events| stream::iter(events.into_iter().map(sse_event)))))
    }
}

fn sse_event(event: StreamEvent) -> SseEvent {
    let data = serde_json::to_string(&event).unwrap_or_default();
    SseEvent { seq: event.seq.unsigned_abs(), event: event.kind.into(), data }
}
