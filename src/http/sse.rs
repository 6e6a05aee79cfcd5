//! Server-Sent Events: a numbered stream that a client can resume where it was interrupted.

use std::{borrow::Cow, convert::Infallible, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;

use super::{error::ApiError, extract::QueryParams};

/// Interval of comments on an idle stream, which keep proxies from closing it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// An event to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// Number of the event in the stream; sent as `id`, and returned by clients as `Last-Event-ID`.
    pub seq: u64,
    /// Name of the event.
    pub event: Cow<'static, str>,
    /// Content of the event, as JSON.
    pub data: String,
}

/// Build a response that streams events.
pub fn sse_response(events: impl Stream<Item = SseEvent> + Send + 'static) -> Response {
    let events = events.map(|entry| {
        // Names contain no line breaks, with which the stream would panic.
        let name = entry.event.replace(['\r', '\n'], " ");
        Ok::<_, Infallible>(Event::default().id(entry.seq.to_string()).event(name).data(entry.data))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    // nginx would buffer events otherwise.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Number after which a stream is resumed: `Last-Event-ID`, else `?after=`, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastEventId(pub u64);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct After {
            after: Option<u64>,
        }
        // A browser without a previous event sends an empty header.
        if let Some(last) = parts.headers.get("last-event-id").filter(|last| !last.is_empty()) {
            let number = last.to_str().ok().and_then(|last| last.parse().ok());
            let loc = || vec!["header".into(), "Last-Event-ID".into()];
            return number
                .map(Self)
                .ok_or_else(|| ApiError::invalid_field(loc(), "Not a number of this stream", "int_parsing"));
        }
        let QueryParams(After { after }) = QueryParams::from_request_parts(parts, state).await?;
        Ok(Self(after.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, http::Request};
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn an_event_has_id_name_and_data() {
        let entry = |seq, event: &'static str, data: &str| SseEvent { seq, event: event.into(), data: data.to_owned() };
        let events = [entry(1, "step", r#"{"a":1}"#), entry(2, "odd\nname", "{\n\"b\": 2}")];
        let response = sse_response(stream::iter(events));
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        let expected = "id: 1\nevent: step\ndata: {\"a\":1}\n\nid: 2\nevent: odd name\ndata: {\ndata: \"b\": 2}\n\n";
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
    }

    async fn resume(uri: &str, last: Option<&str>) -> Result<LastEventId, ApiError> {
        let mut request = Request::get(uri);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        LastEventId::from_request_parts(&mut request.body(()).unwrap().into_parts().0, &()).await
    }

    #[tokio::test]
    async fn the_header_goes_before_the_query() {
        assert_eq!(resume("/e", None).await.unwrap(), LastEventId(0));
        assert_eq!(resume("/e?after=5", None).await.unwrap(), LastEventId(5));
        assert_eq!(resume("/e?after=5", Some("7")).await.unwrap(), LastEventId(7));
        assert_eq!(resume("/e?after=5", Some("")).await.unwrap(), LastEventId(5));
        assert_eq!(resume("/e", Some("x")).await.unwrap_err().status, 422);
        assert_eq!(resume("/e?after=-1", None).await.unwrap_err().status, 422);
    }
}
