//! Communication between agents. A message is stored before it is sent to anybody, is numbered in its channel, and is
//! delivered until its recipient acknowledges it: over a WebSocket if there is one, otherwise from the inbox.
//!
//! Encryption, permissions and prices are implemented by the modules `sealing`, `relations` and `price`, which the
//! others use.

pub mod channels;
pub mod delivery;
pub mod encryption;
mod error;
pub mod message_log;
pub mod messages;
mod model;
pub mod payments;
pub mod price;
pub mod relations;
pub mod statistics;
pub mod templates;
pub mod transfer;
mod type_name;

pub use error::{CommunicationError, Result};
pub use model::{
    ChannelKind, ChannelStatus, MessagePriority, MessageStatus, PaymentStatus, PermissionRefusal, validate_agent_name,
};
pub use type_name::MessageTypeName;
