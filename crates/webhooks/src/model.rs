//! Deliveries and endpoints as clients see them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use am_db::{codec::Timestamp, stored_enum};

/// The kind of the event that an operator sends to try an endpoint.
pub const TEST: &str = "test";

stored_enum! {
    /// How a delivery stands.
    pub enum State {
        /// It is owed: under way, or due at `next_attempt_at`.
        Pending = "PENDING" / "pending",
        /// The endpoint took it.
        Delivered = "DELIVERED" / "delivered",
        /// Given up; it can be delivered again by hand.
        Dead = "DEAD" / "dead",
    }
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// The `webhook-id` of every attempt.
    pub id: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// The kind of the event.
    pub kind: String,
    /// How it stands.
    pub state: State,
    /// Attempts so far, the one that is under way among them.
    pub attempts: i64,
    /// When it is tried next; none where it has ended. While an attempt is under way: when that counts as lost.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// The last answer's status, if there was an answer.
    pub last_status: Option<i64>,
    /// What was wrong the last time.
    pub last_error: Option<String>,
    /// When the event happened.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the endpoint took it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub delivered_at: Option<Timestamp>,
    /// What is sent, where one delivery is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
}

/// Which deliveries.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// To this endpoint.
    pub endpoint: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
}

/// An endpoint and how its deliveries stand. Never a secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Its address without the query, which may hold a token; none where it is no longer configured.
    pub url: Option<String>,
    /// The kinds of events that it gets; `*`: all.
    pub events: Vec<String>,
    /// Whether its address may be one that is not on the Internet.
    pub allow_private: bool,
    /// How long a call may take.
    pub timeout_seconds: Option<f64>,
    /// False: it is no longer configured, or it has answered 410 since this process started.
    pub active: bool,
    /// Deliveries that are owed.
    pub pending: i64,
    /// Deliveries that it took and that are still kept.
    pub delivered: i64,
    /// Deliveries that were given up and are still kept.
    pub dead: i64,
}
