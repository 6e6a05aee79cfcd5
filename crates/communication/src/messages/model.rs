//! Model of a message to be sent: draft and receipt.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    encryption::{ContentEnvelope, EncryptionScope, MessageEncryption, MessageSignature, SignedMessage},
    message_log::StoredMessage,
    model::{MessagePriority, MessageStatus, PaymentStatus, is_printable, validate_agent_name, validate_topic},
    price::MAX_CONTENT_BYTES,
    type_name::MessageTypeName,
};
use am_core::{
    ids::{AgentId, ChannelId, ContentKeyId, MessageId},
    money::Money,
    validation::{Violation, Violations},
};
use am_db::codec::Timestamp;

/// Maximum time that a message waits for its recipient.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// Maximum length of an id that a sender may give a message, in characters.
const MAX_ID_LEN: usize = 128;
/// Beginning of the ids that this service gives copies of a message to several.
pub const COPY_ID_PREFIX: &str = "copy_";
/// Beginning of the ids that this service gives imported messages.
pub const IMPORT_ID_PREFIX: &str = "import_";

/// Destination of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageDestination {
    /// A single agent, through the direct channel with it.
    Agent(AgentId),
    /// Every other member of a channel.
    Channel(ChannelId),
    /// Subscribers of a topic whose filters the content passes.
    Topic(String),
    /// Every agent that this service has seen.
    AllAgents,
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct MessageDraft {
    /// Id chosen by the sender; the same message under a repeated id sends nothing. `None`: an id is generated.
    pub message_id: Option<MessageId>,
    /// Agent that sends the message.
    pub sender: AgentId,
    /// Destination of the message.
    pub to: MessageDestination,
    /// Content as JSON.
    pub content: Value,
    /// Type of the message.
    pub kind: MessageTypeName,
    /// Priority for the recipient.
    pub priority: MessagePriority,
    /// Whether the content must be encrypted.
    pub encrypt: bool,
    /// Requested encryption; `None` leaves the choice to the service.
    pub encryption: Option<MessageEncryption>,
    /// Time that the message waits for its recipient.
    pub ttl: Duration,
    /// Id of the message that this one answers.
    pub reply_to: Option<MessageId>,
    /// Signature of the sender; `None`: the message is not signed.
    pub signature: Option<MessageSignature>,
}

impl MessageDraft {
    /// What the draft's signature covers, and the signature; `None` when it has none, or no id.
    pub fn signed(&self) -> Option<(SignedMessage<'_>, &MessageSignature)> {
        let (message_id, signature) = self.message_id.as_ref().zip(self.signature.as_ref())?;
        let (mut recipient, mut channel, mut topic) = (None, None, None);
        match &self.to {
            MessageDestination::Agent(agent) => recipient = Some(agent),
            MessageDestination::Channel(id) => channel = Some(id),
            MessageDestination::Topic(name) => topic = Some(name.as_str()),
            MessageDestination::AllAgents => {}
        }
        let signed = SignedMessage {
            message_id,
            sender: &self.sender,
            recipient,
            channel,
            topic,
            message_type: self.kind.value(),
            reply_to: self.reply_to.as_ref(),
            content: &self.content,
        };
        Some((signed, signature))
    }

    /// Validate the draft. Returns it with normalised names, and the size of its content in bytes of JSON.
    ///
    /// # Errors
    /// Every member that is out of its bounds.
    pub fn checked(mut self) -> Result<(Self, usize), Vec<Violation>> {
        let mut violations = Violations::default();
        self.sender = violations.take(validate_agent_name("sender", &self.sender)).unwrap_or_default();
        self.to = match self.to {
            MessageDestination::Agent(name) => {
                MessageDestination::Agent(violations.take(validate_agent_name("recipient", &name)).unwrap_or_default())
            }
            MessageDestination::Topic(topic) => {
                MessageDestination::Topic(violations.take(validate_topic(&topic)).unwrap_or_default())
            }
            other => other,
        };
        let to_itself = !self.sender.is_empty() && self.to == MessageDestination::Agent(self.sender.clone());
        violations.require(!to_itself, "recipient", "is the sender");
        for (field, id) in [("message_id", &self.message_id), ("reply_to", &self.reply_to)] {
            let message = format!("must be 1 to {MAX_ID_LEN} printable characters");
            violations.require(id.as_deref().is_none_or(|id| is_printable(id, MAX_ID_LEN)), field, message);
        }
        violations.require(
            self.signature.is_none() || self.message_id.is_some(),
            "message_id",
            "is required: the signature covers the message's id",
        );
        let reserved = |id: &str| [COPY_ID_PREFIX, IMPORT_ID_PREFIX].iter().any(|prefix| id.starts_with(prefix));
        violations.require(
            !self.message_id.as_deref().is_some_and(reserved),
            "message_id",
            format!("must not begin with {COPY_ID_PREFIX} or {IMPORT_ID_PREFIX}, as ids that this service gives do"),
        );
        let seconds = format!("must be 1 to {} seconds", MAX_TTL.as_secs());
        violations.require(!self.ttl.is_zero() && self.ttl <= MAX_TTL, "ttl", seconds);
        violations.require(self.content.is_object(), "content", "must be an object");
        self.check_envelope(&mut violations);
        let bytes = serde_json::to_vec(&self.content).map_or(usize::MAX, |json| json.len());
        let message = format!("has {bytes} bytes as JSON, over {MAX_CONTENT_BYTES}");
        violations.require(bytes <= MAX_CONTENT_BYTES, "content", message);
        violations.finish_with(Some((self, bytes)))
    }

    /// An envelope is bound to the message's id and its one recipient: under another id nobody could open it.
    fn check_envelope(&self, violations: &mut Violations) {
        let Ok(Some(envelope)) = ContentEnvelope::from_content(&self.content) else { return };
        let kind = envelope.encryption();
        if !matches!(self.to, MessageDestination::Agent(_)) {
            let message = format!("is an envelope ({kind}), which a single recipient opens; send it to that agent");
            violations.add("content", message);
        } else {
            violations.require(
                self.message_id.is_some(),
                "message_id",
                format!("is required: the {kind} envelope in content is bound to the message's id"),
            );
        }
    }
}

/// Receipt of a sent message.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = MessageReceipt)]
pub struct SendReceipt {
    /// Result, always `success`.
    pub status: String,
    /// Id of the message.
    pub message_id: MessageId,
    /// Agent that sent the message.
    pub sender: AgentId,
    /// Agent that receives the message; null for several.
    pub recipient: Option<AgentId>,
    /// Id of the channel.
    pub channel_id: ChannelId,
    /// Number of the message in the channel; of several copies, the last one's.
    pub seq: i64,
    /// Whether the content is stored as ciphertext.
    pub encrypted: bool,
    /// Encryption of the content; null for several copies, which may differ.
    pub encryption: Option<MessageEncryption>,
    /// Protection of the content: end_to_end, sealed_on_arrival, at_rest or none; null for several copies.
    pub scope: Option<EncryptionScope>,
    /// Id of the key that the content is encrypted with; null without one.
    pub key_id: Option<ContentKeyId>,
    /// Whether the message was sent to a connection of the recipient in this process.
    pub ws_delivered: bool,
    /// Status: pending until the recipient acknowledges or fetches the message, then delivered.
    pub message_status: MessageStatus,
    /// Time when the message was stored.
    pub sent_at: Timestamp,
    /// Time at which the message expires if it is not delivered; null for several copies.
    pub expires_at: Option<Timestamp>,
    /// Price of the message, of all copies together, in the marketplace's currency, with up to 8 decimal places.
    pub price: Money,
    /// Payment status of the message.
    pub payment_status: PaymentStatus,
    /// Number of copies stored, for several recipients; null otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<i64>,
    /// Number of copies sent to connections, for several recipients; null otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed: Option<i64>,
    /// Agents that were left out with the reasons, for several recipients; at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub refused: Vec<RejectedRecipient>,
    /// Whether the message was sent before under this id, so that nothing was sent now.
    pub repeated: bool,
}

impl SendReceipt {
    /// Receipt of a stored message, as its sender got it.
    pub fn of(stored: &StoredMessage) -> Self {
        let message = &stored.message;
        Self {
            status: "success".to_owned(),
            message_id: message.message_id.clone(),
            sender: message.sender.clone(),
            recipient: Some(message.recipient.clone()),
            channel_id: message.channel_id.clone(),
            seq: message.seq,
            encrypted: message.encrypted,
            encryption: Some(message.encryption),
            scope: Some(message.scope),
            key_id: message.key_id.clone(),
            ws_delivered: stored.pushed,
            message_status: message.status,
            sent_at: message.sent_at,
            expires_at: Some(message.expires_at),
            price: message.price,
            payment_status: message.payment_status,
            recipients: None,
            pushed: None,
            refused: Vec::new(),
            repeated: false,
        }
    }
}

/// An agent that a message to several recipients was not sent to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = RejectedRecipient)]
pub struct RejectedRecipient {
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Reason in words.
    pub reason: String,
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A message from ` a ` to `b` that every check accepts.
    pub(crate) fn sample_draft() -> MessageDraft {
        MessageDraft {
            message_id: None,
            sender: " a ".into(),
            to: MessageDestination::Agent("b".into()),
            content: json!({"x": 1}),
            kind: crate::price::MessageType::Text.into(),
            priority: MessagePriority::Normal,
            encrypt: true,
            encryption: None,
            ttl: Duration::from_secs(300),
            reply_to: None,
            signature: None,
        }
    }

    fn signature() -> MessageSignature {
        MessageSignature { key_id: "k".into(), signed_at: String::new(), value: String::new() }
    }

    fn envelope() -> Value {
        let text = "AAAA".repeat(16);
        json!({"hpke": {
            "suite": crate::encryption::HPKE_SUITE, "key_id": "k", "enc": &text[..43], "ciphertext": text,
        }})
    }

    #[test]
    fn bounds_are_named() {
        assert_eq!(sample_draft().checked().unwrap().0.sender, *"a");
        let long = "x".repeat(MAX_CONTENT_BYTES);
        let bad = [
            ("sender", MessageDraft { sender: "\n".into(), ..sample_draft() }),
            ("recipient", MessageDraft { to: MessageDestination::Agent("a".into()), ..sample_draft() }),
            ("recipient", MessageDraft { to: MessageDestination::Agent("x".repeat(129).into()), ..sample_draft() }),
            ("topic", MessageDraft { to: MessageDestination::Topic(String::new()), ..sample_draft() }),
            ("message_id", MessageDraft { message_id: Some(MessageId::default()), ..sample_draft() }),
            ("message_id", MessageDraft { message_id: Some("copy_1".into()), ..sample_draft() }),
            ("message_id", MessageDraft { message_id: Some("import_1".into()), ..sample_draft() }),
            ("reply_to", MessageDraft { reply_to: Some("x".repeat(129).into()), ..sample_draft() }),
            ("reply_to", MessageDraft { reply_to: Some("ü".repeat(129).into()), ..sample_draft() }),
            ("ttl", MessageDraft { ttl: Duration::ZERO, ..sample_draft() }),
            ("ttl", MessageDraft { ttl: MAX_TTL + Duration::from_secs(1), ..sample_draft() }),
            ("content", MessageDraft { content: json!({ "x": long }), ..sample_draft() }),
            ("content", MessageDraft { content: json!("text"), ..sample_draft() }),
            ("content", MessageDraft { content: json!(null), ..sample_draft() }),
            ("message_id", MessageDraft { content: envelope(), ..sample_draft() }),
            ("message_id", MessageDraft { signature: Some(signature()), ..sample_draft() }),
            ("content", MessageDraft { content: envelope(), to: MessageDestination::AllAgents, ..sample_draft() }),
            (
                "content",
                MessageDraft { content: envelope(), to: MessageDestination::Topic("t".into()), ..sample_draft() },
            ),
        ];
        for (field, draft) in bad {
            match draft.checked() {
                Err(found) => assert_eq!(found.iter().map(|one| one.path.to_string()).collect::<Vec<_>>(), [field]),
                other => panic!("{field}: {other:?}"),
            }
        }
        let wide = MessageDraft { message_id: Some("漢".repeat(MAX_ID_LEN).into()), ..sample_draft() };
        assert!(wide.checked().is_ok(), "characters are counted, not bytes");
        let all = MessageDraft {
            sender: AgentId::default(),
            reply_to: Some("\n".into()),
            ttl: Duration::ZERO,
            ..sample_draft()
        };
        assert_eq!(all.checked().unwrap_err().len(), 3, "all are told at once");
        let (_, bytes) = MessageDraft { content: json!({"x": "x".repeat(MAX_CONTENT_BYTES - 8)}), ..sample_draft() }
            .checked()
            .unwrap();
        assert_eq!(bytes, MAX_CONTENT_BYTES, "the whole size may be used");
    }
}
