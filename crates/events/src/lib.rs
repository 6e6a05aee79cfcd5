//! Durable event streams: events are appended in the transaction of the change they tell of, numbered without gaps,
//! and can be read again from any number, also after the stream has ended.

mod follower;
mod hub;
mod store;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use follower::{Follower, Source};
pub use hub::{Hub, Subscription};
pub use store::{append, append_to, read};

use am_db::codec::Timestamp;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in the stream, from 1.
    pub seq: i64,
    /// What happened, a word such as `step_completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// What else is known of it.
    pub data: Value,
}
