//! Deliveries and endpoints in the form shown to clients.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use am_core::ids::{DeliveryId, PrincipalId};
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
    /// An execution was completed.
    ExecutionCompleted,
    /// An execution has failed.
    ExecutionFailed,
    /// An execution was cancelled.
    ExecutionCancelled,
    /// An execution has failed because its budget was used up.
    BudgetExceeded,
    /// A training run was completed, with a new version.
    TrainingCompleted,
    /// A training run has failed.
    TrainingFailed,
    /// A training run was cancelled.
    TrainingCancelled,
    /// A plan's execution was completed.
    PlanCompleted,
    /// A plan's execution has failed.
    PlanFailed,
    /// A plan was cancelled, or its execution was.
    PlanCancelled,
    /// An agent went offline.
    AgentOffline,
    /// A request of the marketplace was made.
    RequestCreated,
    /// An agent has accepted a request of the marketplace.
    RequestAccepted,
    /// A request of the marketplace was completed.
    RequestCompleted,
    /// A request of the marketplace was paid.
    RequestPaid,
    /// A request of the marketplace was rejected, or given up.
    RequestRejected,
    /// A request of the marketplace was withdrawn.
    RequestCancelled,
    /// The deadline of a request of the marketplace has passed.
    RequestExpired,
    /// A request of the marketplace is disputed.
    RequestDisputed,
    /// A dispute about a request of the marketplace was decided.
    RequestDecided,
    /// The mean of a metric of an agent has changed.
    ProfileChanged,
    /// An alert of a deployment was raised, became more urgent, or is over.
    DeploymentAlert,
    /// An audit entry needs investigation.
    SecurityAlert,
    /// The audit log has a new signed head.
    AuditHead,
    /// An operator tests the endpoint.
    EndpointTest,
}

impl WebhookEventKind {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::JobCompleted,
        Self::JobFailed,
        Self::JobCanceled,
        Self::JobExpired,
        Self::ExecutionCompleted,
        Self::ExecutionFailed,
        Self::ExecutionCancelled,
        Self::BudgetExceeded,
        Self::TrainingCompleted,
        Self::TrainingFailed,
        Self::TrainingCancelled,
        Self::PlanCompleted,
        Self::PlanFailed,
        Self::PlanCancelled,
        Self::AgentOffline,
        Self::RequestCreated,
        Self::RequestAccepted,
        Self::RequestCompleted,
        Self::RequestPaid,
        Self::RequestRejected,
        Self::RequestCancelled,
        Self::RequestExpired,
        Self::RequestDisputed,
        Self::RequestDecided,
        Self::ProfileChanged,
        Self::DeploymentAlert,
        Self::SecurityAlert,
        Self::AuditHead,
        Self::EndpointTest,
    ];

    /// Whether events of this kind are about a resource that has an owner.
    pub fn has_owner(self) -> bool {
        !matches!(self, Self::SecurityAlert | Self::AuditHead)
    }

    /// The kind in payloads, in the configuration and as stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::JobCompleted => "job.completed",
            Self::JobFailed => "job.failed",
            Self::JobCanceled => "job.canceled",
            Self::JobExpired => "job.expired",
            Self::ExecutionCompleted => "execution.completed",
            Self::ExecutionFailed => "execution.failed",
            Self::ExecutionCancelled => "execution.cancelled",
            Self::BudgetExceeded => "budget.exceeded",
            Self::TrainingCompleted => "training.completed",
            Self::TrainingFailed => "training.failed",
            Self::TrainingCancelled => "training.cancelled",
            Self::PlanCompleted => "plan.completed",
            Self::PlanFailed => "plan.failed",
            Self::PlanCancelled => "plan.cancelled",
            Self::AgentOffline => "agent.offline",
            Self::RequestCreated => "market_request.created",
            Self::RequestAccepted => "market_request.accepted",
            Self::RequestCompleted => "market_request.completed",
            Self::RequestPaid => "market_request.paid",
            Self::RequestRejected => "market_request.rejected",
            Self::RequestCancelled => "market_request.cancelled",
            Self::RequestExpired => "market_request.expired",
            Self::RequestDisputed => "market_request.disputed",
            Self::RequestDecided => "market_request.decided",
            Self::ProfileChanged => "profile.changed",
            Self::DeploymentAlert => "deployment.alert",
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
    /// Number of the delivery among those of its endpoint, in the order of their events, sent as `sequence`; null until
    /// the first attempt.
    pub sequence: Option<i64>,
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

/// What is known of an endpoint, over all processes.
#[derive(Clone, Debug, Default)]
pub(super) struct EndpointHealth {
    /// Name of the endpoint.
    pub(super) name: String,
    /// Number of the last delivery.
    pub(super) last_seq: i64,
    /// Attempts that failed since one succeeded.
    pub(super) failures: i64,
    /// The endpoint is not called before; `None` when it is called.
    pub(super) closed_until: Option<Timestamp>,
    /// Time when it answered 410; `None` if it did not.
    pub(super) gone_at: Option<Timestamp>,
    /// Hash of the address that answered 410.
    pub(super) gone_address: Option<String>,
}

impl EndpointHealth {
    /// Whether the endpoint answered 410 at this address.
    pub(super) fn is_gone(&self, address_hash: &str) -> bool {
        self.gone_at.is_some() && self.gone_address.as_deref() == Some(address_hash)
    }
}

/// Filter for a list of deliveries. `None` members restrict nothing.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// State of the deliveries.
    pub state: Option<DeliveryState>,
    /// Names of the endpoints.
    pub endpoints: Option<Vec<String>>,
    /// Kind of the event.
    pub kind: Option<String>,
}

/// Whose events an endpoint receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HookScope {
    /// Events of its owner's resources.
    #[default]
    Own,
    /// Everybody's, and those that belong to nobody; for admins.
    All,
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
    /// Principal that made the endpoint over the API; null: it is set in the configuration.
    #[schema(value_type = Option<String>)]
    pub owner_id: Option<PrincipalId>,
    /// Whose events the endpoint receives; null: it is set in the configuration, and receives everybody's.
    pub scope: Option<HookScope>,
    /// When the endpoint was made over the API; null: it is set in the configuration.
    pub created_at: Option<Timestamp>,
    /// Whether the URL may name a host outside the public Internet.
    pub allow_private: bool,
    /// Time limit of a request in seconds; null when the endpoint is no longer configured.
    pub timeout_seconds: Option<f64>,
    /// Whether the endpoint is called: false when it is no longer configured, or answered 410.
    pub active: bool,
    /// Time when the endpoint answered 410 Gone; null if it did not. It is called again after a test or a redelivery
    /// that an operator asks for, or with another URL.
    pub disabled_at: Option<Timestamp>,
    /// Number of attempts that failed since one succeeded.
    pub failures: i64,
    /// Time before which nothing is sent because of failures; null when the endpoint is called.
    pub paused_until: Option<Timestamp>,
    /// Number of the last delivery that was begun.
    pub last_sequence: i64,
    /// Number of pending deliveries.
    pub pending: i64,
    /// Number of accepted deliveries that are still stored.
    pub delivered: i64,
    /// Number of given-up deliveries that are still stored.
    pub dead: i64,
}
