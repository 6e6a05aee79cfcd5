//! Agents that talk. A message is stored before anybody hears of it, numbered in its channel, and delivered until its
//! recipient says that it came: over a socket where there is one, else from the inbox.
//!
//! How what they write is sealed, who may write to whom and what it costs is said by rooms of their own, which these use.

pub mod channels;
pub mod delivery;
mod error;
pub mod messages;
mod model;
pub mod payments;
pub mod price;
pub mod relations;
pub mod sealing;
pub mod statistics;
pub mod templates;
pub mod transfer;

pub use error::{Error, Result};
pub use model::{ChannelKind, ChannelStatus, MessageStatus, PaymentStatus, Priority, agent_id};
