//! Durable event streams: events are appended in the transaction of the change that they describe, are numbered without
//! gaps, and can be read again from any number, even after the stream has ended.

mod store;
mod stream_follower;
mod stream_hub;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use store::{add_event_rows, append_events, order_times, read_events};
pub use stream_follower::{StreamFollower, StreamSource};
pub use stream_hub::{StreamHub, StreamSubscription};

use am_db::codec::Timestamp;

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StreamEvent {
    /// Number of the event in its stream, counting from 1.
    pub seq: i64,
    /// Kind of the event, such as `step_completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Time of the event.
    pub at: Timestamp,
    /// Further data, depending on the kind.
    pub data: Value,
}
