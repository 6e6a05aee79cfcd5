//! Model of a stored message.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    encryption::{CiphertextBinding, EncryptedContent, EncryptionScope, MessageEncryption, VerifiedSignature},
    model::{MessagePriority, MessageStatus, PaymentStatus},
    type_name::MessageTypeName,
};
use am_core::{
    ids::{AgentId, BroadcastId, ChannelId, ContentKeyId, MessageId, PrincipalId},
    money::Money,
};
use am_db::codec::Timestamp;

/// Where an imported message comes from. What such a message says of itself, its sender, its times and its status, is
/// what the imported file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ImportOrigin)]
pub struct ImportOrigin {
    /// Export that the message came with: its agent, and when it was made, as it says.
    pub source: String,
    /// Principal that imported the message.
    pub imported_by: PrincipalId,
    /// Id of the message in the export, which an envelope in its content is bound to.
    pub message_id: MessageId,
}

/// A message in the form shown to agents that may read it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageView {
    /// Number among all messages, used as cursor of lists.
    pub id: i64,
    /// Id of the message; the same on each delivery.
    pub message_id: MessageId,
    /// Id of the channel.
    pub channel_id: ChannelId,
    /// Number of the message in the channel.
    pub seq: i64,
    /// Agent that sent the message.
    pub sender: AgentId,
    /// Agent that receives the message.
    pub recipient: AgentId,
    /// Agent that sent the message; the same as `sender`.
    pub sender_id: AgentId,
    /// Agent that receives the message; the same as `recipient`.
    pub recipient_id: AgentId,
    /// Type of the message, as its sender named it.
    #[schema(value_type = String)]
    pub message_type: MessageTypeName,
    /// Priority for the recipient.
    pub priority: MessagePriority,
    /// Content, or an envelope that only the recipient can open; null when it can't be decrypted.
    #[schema(value_type = Object)]
    pub content: Value,
    /// Whether the content is stored as ciphertext.
    pub encrypted: bool,
    /// Encryption of the content.
    pub encryption: MessageEncryption,
    /// Protection of the content.
    pub scope: EncryptionScope,
    /// Id of the key that the content is encrypted with; null without one.
    pub key_id: Option<ContentKeyId>,
    /// Size of the content in bytes of JSON, as it was sent.
    pub size_bytes: i64,
    /// Price of the message in the marketplace's currency, with up to 8 decimal places.
    pub price: Money,
    /// Payment status of the message.
    pub payment_status: PaymentStatus,
    /// Status of the message.
    pub status: MessageStatus,
    /// Reason of a failure; null otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Topic that the message was sent to; null otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Id of the message that this one answers; null if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// Id of the message to several recipients that this is a copy of; null otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast_id: Option<BroadcastId>,
    /// Signature of the sender, verified on arrival; null for a message without one, and for an imported message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<VerifiedSignature>,
    /// Where the message comes from, if it was imported; null for a message that this service got from its sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportOrigin>,
    /// Time when the message was stored; of an imported one, when it was sent as the import says.
    pub sent_at: Timestamp,
    /// Time at which the message expires if it is not delivered.
    pub expires_at: Timestamp,
    /// Time when the recipient acknowledged or fetched the message; null before.
    pub delivered_at: Option<Timestamp>,
    /// Time when the recipient marked the message as read; null before.
    pub read_at: Option<Timestamp>,
}

/// A stored message with its encrypted content.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Message without its content, which is null.
    pub message: MessageView,
    /// Content in encrypted form.
    pub sealed: EncryptedContent,
    /// Whether the recipient was connected when the message was written.
    pub pushed: bool,
    /// Salted hash of the draft; `None` when the sender chose no id.
    pub draft_hash: Option<String>,
}

impl StoredMessage {
    /// Data that the ciphertext is bound to.
    pub fn bound(&self) -> CiphertextBinding<'_> {
        let MessageView { message_id, channel_id, sender, recipient, .. } = &self.message;
        CiphertextBinding { message_id, channel: channel_id, sender, recipient: Some(recipient) }
    }
}

/// Filter for the message history. `None` members restrict nothing.
#[derive(Clone, Debug, Default)]
pub struct HistoryFilter {
    /// Agent that sent the messages.
    pub sender: Option<AgentId>,
    /// Agent that received the messages.
    pub recipient: Option<AgentId>,
    /// Id of the channel.
    pub channel: Option<ChannelId>,
}
