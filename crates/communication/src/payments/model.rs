//! Model of payments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::PaymentStatus;
use am_core::{ids::MessageId, money::Money};

/// A payment to record.
#[derive(Clone, Debug)]
pub struct NewPayment {
    /// Messages that it is for.
    pub messages: Vec<MessageId>,
    /// Payment status of these messages from now on.
    pub status: PaymentStatus,
    /// Reference of the payment elsewhere; `None` without one.
    pub reference: Option<String>,
}

/// Payment status and price of a message.
#[derive(Clone, Debug)]
pub(super) struct MessagePayment {
    pub(super) message_id: MessageId,
    pub(super) payment_status: PaymentStatus,
    pub(super) price: Money,
}

/// Result of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = RecordedPayments)]
pub struct RecordedPayment {
    /// Recorded payment status.
    pub payment_status: PaymentStatus,
    /// Number of messages whose status changed.
    pub changed: usize,
    /// Number of messages that had the status already.
    pub unchanged: usize,
    /// Sum of the prices of the changed messages in the marketplace's currency, with up to 8 decimal places.
    pub amount: Money,
}
