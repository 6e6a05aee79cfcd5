//! Deliveries and endpoints in the form shown to clients.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use am_core::ids::DeliveryId;
use am_db::{codec::Timestamp, stored_enum};

/// Kind of an event that endpoints can receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookEventKind {
    /// A client's job was completed.
    JobCompleted,
    /// A client's job has failed.
    JobFailed,
    /// A client's job was cancelled.
    JobCanceled,
    /// A client's job has expired.
    JobExpired,
    /// An audit entry needs investigation.
    SecurityAlert,
    /// The audit log has a new signed head.
    AuditHead,
    /// An operator tests the endpoint.
    EndpointTest,
}

impl WebhookEventKind {
    /// The kind in payloads, in the configuration and as stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::JobCompleted => "job.completed",
            Self::JobFailed => "job.failed",
            Self::JobCanceled => "job.canceled",
            Self::JobExpired => "job.expired",
            Self::SecurityAlert => "security.alert",
            Self::AuditHead => "audit.head",
            Self::EndpointTest => "test",
        }
    }
}

stored_enum! {
    /// State of a webhook delivery.
    #[schema(as = DeliveryState)]
    pub enum DeliveryState {
        /// Waiting for `next_attempt_at`, or being sent.
        Pending = "PENDING" / "pending",
        /// Accepted by the endpoint.
        Delivered = "DELIVERED" / "delivered",
        /// Given up after the last attempt; can be redelivered by request.
        Dead = "DEAD" / "dead",
    }
}

/// Delivery of one event to one endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct WebhookDelivery {
    /// Id of the delivery, sent as `webhook-id` with every attempt.
    pub id: DeliveryId,
    /// Name of the endpoint.
    pub endpoint: String,
    /// Kind of the event.
    pub kind: String,
    /// State of the delivery.
    pub state: DeliveryState,
    /// Number of attempts so far, including one that is running.
    pub attempts: i64,
    /// Time of the next attempt; null after the delivery has ended. While an attempt is running: the time after which
    /// it is considered lost.
    pub next_attempt_at: Option<Timestamp>,
    /// HTTP status of the last answer; null without an answer.
    pub last_status: Option<i64>,
    /// Error of the last attempt; null when it succeeded or there was none.
    pub last_error: Option<String>,
    /// Time of the event.
    pub created_at: Timestamp,
    /// Time when the endpoint accepted the delivery; null before.
    pub delivered_at: Option<Timestamp>,
    /// Body that is sent; left out in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
}

/// Number of an endpoint's deliveries in one state.
#[derive(Clone, Debug)]
pub(super) struct DeliveryCount {
    /// Name of the endpoint.
    pub(super) endpoint: String,
    pub(super) state: DeliveryState,
    pub(super) deliveries: i64,
}

/// Filter for a list of deliveries. `None` members restrict nothing.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// State of the deliveries.
    pub state: Option<DeliveryState>,
    /// Name of the endpoint.
    pub endpoint: Option<String>,
    /// Kind of the event.
    pub kind: Option<String>,
}

/// An endpoint with counts of its deliveries. Secrets are never shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct EndpointStatus {
    /// Name of the endpoint.
    pub name: String,
    /// URL without its query, which may contain a token; null when the endpoint is no longer configured.
    pub url: Option<String>,
    /// Event kinds that the endpoint receives; `*` stands for all.
    pub events: Vec<String>,
    /// Whether the URL may name a host outside the public Internet.
    pub allow_private: bool,
    /// Time limit of a request in seconds; null when the endpoint is no longer configured.
    pub timeout_seconds: Option<f64>,
    /// Whether the endpoint is called: false when it is no longer configured, or answered 410 since this process
    /// started.
    pub active: bool,
    /// Number of pending deliveries.
    pub pending: i64,
    /// Number of accepted deliveries that are still stored.
    pub delivered: i64,
    /// Number of given-up deliveries that are still stored.
    pub dead: i64,
}
