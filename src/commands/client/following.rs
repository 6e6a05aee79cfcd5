//! Following an event stream to the end of what it tells of, however often the connection is lost.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt as _;
use serde_json::Value;
use sse_stream::SseStream;

use super::service_client::{ServiceClient, ServiceError};

/// Interval between two attempts to go on with a stream.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// Failures in a row, without an event between them, after which following ends.
const RECONNECT_ATTEMPTS: u32 = 120;

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowedEvent {
    /// Name of the event.
    pub kind: String,
    /// Content of the event.
    pub data: Value,
}

/// What is followed: its events and its document.
pub struct FollowedThing<'a> {
    /// Path of the stream.
    pub events: &'a str,
    /// Path of the document.
    pub document: &'a str,
    /// Whether the document is that of something which has ended.
    pub is_ended: fn(&Value) -> bool,
}

/// Follow a thing until it has ended, and return its document. `seen` gets each event once.
///
/// # Errors
/// An error that does not pass, or one that has not passed within two minutes.
pub async fn follow_to_end(
    client: &ServiceClient,
    thing: &FollowedThing<'_>,
    mut seen: impl FnMut(FollowedEvent),
) -> Result<Value, ServiceError> {
    let (mut after, mut failures) = (0, 0);
    loop {
        let began = after;
        let ended = match follow_connection(client, thing.events, &mut after, &mut seen).await {
            Ok(()) => client.get(thing.document, &[]).await.map(|answer| answer.body),
            Err(error) => Err(error),
        };
        if after > began {
            failures = 0;
        }
        match ended {
            Ok(document) if (thing.is_ended)(&document) => return Ok(document),
            // The service is stopping, or what is followed has no events.
            Ok(_) => {}
            Err(error) if error.is_passing() && failures < RECONNECT_ATTEMPTS => failures += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(RECONNECT_INTERVAL).await;
    }
}

/// Follow a stream until the connection ends. `after` is the number of the last event.
async fn follow_connection(
    client: &ServiceClient,
    path: &str,
    after: &mut u64,
    seen: &mut impl FnMut(FollowedEvent),
) -> Result<(), ServiceError> {
    let Some(response) = client.open_stream(path, *after).await? else { return Ok(()) };
    let mut events = pin!(SseStream::new(reqwest::Body::from(response)));
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| client.lost(&error))?;
        let Some(data) = event.data.and_then(|data| serde_json::from_str(&data).ok()) else { continue };
        if let Some(number) = event.id.and_then(|id| id.parse().ok()) {
            *after = number;
        }
        seen(FollowedEvent { kind: event.event.unwrap_or_default(), data });
    }
    Ok(())
}
