//! What routes that answer events share: a page of them, or a stream that begins again where a client lost it.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::{
    ApiError, Json, Query,
    sse::{self, Entry, Resume},
};
use am_events::{Event, Follower, Source};

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
    format: Option<Format>,
    /// Number of events of a page, 1 to 1000. Default 200.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// How events are answered.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EventsFormat)]
pub enum Format {
    /// Server-Sent Events.
    Sse,
    /// A page.
    Json,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
pub struct Page {
    /// The events, in order.
    events: Vec<Event>,
    /// Number of the last event, for the next request's `after`.
    next_after: i64,
}

/// What a request for events asks for.
pub struct Asked {
    query: EventsQuery,
    after: i64,
    page: bool,
    /// The client says that it takes a stream.
    streams: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<EventsQuery>::from_request_parts(parts, state).await?;
        let Resume(after) = Resume::from_request_parts(parts, state).await?;
        let limit = query.limit.unwrap_or(200);
        if !(1..=1000).contains(&limit) {
            let loc = vec!["query".into(), "limit".into()];
            return Err(ApiError::field(loc, "Input should be from 1 to 1000", "value_error"));
        }
        let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let streams = accept.contains("text/event-stream");
        let wants_json = accept.contains("application/json") && !streams;
        let page = query.format.map_or(wants_json, |format| format == Format::Json);
        Ok(Self { query, after: i64::try_from(after).unwrap_or(i64::MAX), page, streams })
    }
}

impl Asked {
    /// The same for a stream that never ends: a page, unless the client says that it takes a stream.
    pub fn page_by_default(mut self) -> Self {
        self.page = self.query.format.map_or(!self.streams, |format| format == Format::Json);
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

    /// Answers `first`, which was read with [`Asked::after`] and [`Asked::limit`], as a page made by `page`; or else
    /// everything that `follower` has, until there will be no more.
    pub fn answer<P: Serialize>(
        &self,
        first: Vec<Event>,
        page: impl FnOnce(Page) -> P,
        follower: Follower<impl Source>,
    ) -> Response {
        if self.page {
            let next_after = first.last().map_or(self.after, |last| last.seq);
            return Json(page(Page { events: first, next_after })).into_response();
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
        sse::respond(batches.flat_map(|events| stream::iter(events.into_iter().map(entry))))
    }
}

fn entry(event: Event) -> Entry {
    let data = serde_json::to_string(&event).unwrap_or_default();
    Entry { seq: event.seq.unsigned_abs(), event: event.kind.into(), data }
}
