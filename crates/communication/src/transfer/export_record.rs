//! Records of an export, and their parsing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    encryption::{EncryptionError, EncryptionScope, envelope_key},
    message_log::{ImportOrigin, MessageView},
    model::{MessagePriority, MessageStatus, PaymentStatus, is_printable, validate_agent_name},
    price::MAX_CONTENT_BYTES,
    type_name::MessageTypeName,
};
use am_core::{
    ids::{AgentId, BroadcastId, ChannelId, MessageId},
    json_number::read_json,
    money::Money,
    validation::{FieldPath, Violation},
};
use am_db::codec::Timestamp;

/// Format identifier of an export.
pub(super) const EXPORT_FORMAT_ID: &str = "agent-management messages v1";
/// Maximum size of an envelope, which is in base64 and larger than its content.
const MAX_ENVELOPE_BYTES: usize = 2 * MAX_CONTENT_BYTES;
/// Maximum length of a message id, in characters: that of a copy is longer than one chosen by a sender.
const MAX_RECORD_ID_LEN: usize = 160;
/// Maximum length of a topic's name, in characters.
const MAX_RECORD_TOPIC_LEN: usize = 200;

/// First line of an export.
#[derive(Serialize, Deserialize)]
pub(super) struct ExportHeader {
    pub format: String,
    pub agent_id: AgentId,
    pub exported_at: Timestamp,
}

/// Last line of an export.
#[derive(Serialize, Deserialize)]
pub(super) struct ExportTrailer {
    pub end: bool,
    /// Number of lines between the first and the last.
    pub messages: u64,
}

/// A message of an export. Members that an import does not need are left out.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ExportRecord {
    pub message_id: MessageId,
    pub sender: AgentId,
    pub recipient: AgentId,
    pub message_type: MessageTypeName,
    pub priority: MessagePriority,
    pub content: Value,
    pub scope: EncryptionScope,
    pub size_bytes: i64,
    pub status: MessageStatus,
    #[serde(default)]
    pub failure: Option<String>,
    #[serde(default)]
    pub topic: Option<String>,
    #[serde(default)]
    pub reply_to: Option<MessageId>,
    #[serde(default)]
    pub broadcast_id: Option<BroadcastId>,
    pub sent_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(default)]
    pub delivered_at: Option<Timestamp>,
    #[serde(default)]
    pub read_at: Option<Timestamp>,
    /// Where the message came from, if it was imported where it was exported.
    #[serde(default)]
    pub imported: Option<ImportOrigin>,
}

/// Fault of a line: the member and the description.
pub(super) type RecordFault = (&'static str, String);

impl ExportRecord {
    /// Parse and check a message of `agent`.
    pub fn parse(text: &str, agent: &AgentId) -> Result<Self, RecordFault> {
        let mut line: Self = read_json(text.as_bytes()).map_err(|error| ("", format!("is not a message: {error}")))?;
        let wrong = |member: &'static str, message: &str| Err((member, message.to_owned()));
        for (member, name) in [("sender", &line.sender), ("recipient", &line.recipient)] {
            if validate_agent_name(member, name).is_ok_and(|checked| checked == *name) {
                continue;
            }
            return wrong(member, "is not the name of an agent");
        }
        if line.sender == line.recipient {
            return wrong("recipient", "is the sender");
        }
        if line.sender != *agent && line.recipient != *agent {
            return wrong("sender", "neither sender nor recipient is the agent of this export");
        }
        let texts = [("reply_to", line.reply_to.as_deref()), ("broadcast_id", line.broadcast_id.as_deref())];
        let fine = |text: &str| is_printable(text, MAX_RECORD_ID_LEN);
        if !fine(&line.message_id) {
            return wrong("message_id", "must be 1 to 160 printable characters");
        }
        if let Some((member, _)) = texts.into_iter().find(|(_, text)| text.is_some_and(|text| !fine(text))) {
            return wrong(member, "must be 1 to 160 printable characters");
        }
        if line.topic.as_deref().is_some_and(|topic| !is_printable(topic, MAX_RECORD_TOPIC_LEN)) {
            return wrong("topic", "must be 1 to 200 printable characters");
        }
        if line.imported.as_ref().is_some_and(|origin| !fine(&origin.message_id)) {
            return wrong("imported", "must have a message_id of 1 to 160 printable characters");
        }
        let bytes = serde_json::to_vec(&line.content).map_or(usize::MAX, |json| json.len());
        let size = line.check_content(bytes)?;
        line.size_bytes = size;
        if line.status == MessageStatus::Pending {
            // An import sends nothing.
            line.status = MessageStatus::Expired;
        }
        Ok(line)
    }

    /// Check the content; returns its original size.
    fn check_content(&self, bytes: usize) -> Result<i64, RecordFault> {
        let in_envelope = matches!(self.scope, EncryptionScope::EndToEnd | EncryptionScope::SealedOnArrival);
        if !in_envelope {
            return match bytes <= MAX_CONTENT_BYTES {
                true => Ok(bytes as i64),
                false => Err(("content", format!("has {bytes} bytes as JSON, over {MAX_CONTENT_BYTES}"))),
            };
        }
        match envelope_key(&self.content) {
            Ok(Some(_)) if bytes > MAX_ENVELOPE_BYTES => {
                Err(("content", format!("has {bytes} bytes, over {MAX_ENVELOPE_BYTES}")))
            }
            Ok(Some(_)) if !(0..=MAX_CONTENT_BYTES as i64).contains(&self.size_bytes) => {
                Err(("size_bytes", format!("must be from 0 to {MAX_CONTENT_BYTES}")))
            }
            Ok(Some(_)) => Ok(self.size_bytes),
            Ok(None) => Err(("content", format!("is not an envelope, and scope is {}", self.scope))),
            Err(EncryptionError::Invalid(Violation { path, message, .. })) => {
                let path: FieldPath = path.into_iter().skip(1).collect();
                Err(("content", format!("{path}: {message}")))
            }
            Err(error) => Err(("content", error.to_string())),
        }
    }

    /// Id of the message where it was sent first, as far as the export tells.
    pub fn original_id(&self) -> &MessageId {
        self.imported.as_ref().map_or(&self.message_id, |origin| &origin.message_id)
    }

    /// Convert the record to a stored message with an id of its own, its number among all, and the channel that it
    /// goes to.
    pub fn message(
        &self,
        (id, message_id): (i64, MessageId),
        (channel_id, seq): (&ChannelId, i64),
        origin: ImportOrigin,
    ) -> MessageView {
        MessageView {
            id,
            message_id,
            channel_id: channel_id.clone(),
            seq,
            sender: self.sender.clone(),
            recipient: self.recipient.clone(),
            sender_id: self.sender.clone(),
            recipient_id: self.recipient.clone(),
            message_type: self.message_type.clone(),
            priority: self.priority,
            content: Value::Null,
            encrypted: true,
            encryption: crate::encryption::MessageEncryption::Aes256,
            scope: self.scope,
            key_id: None,
            size_bytes: self.size_bytes,
            // Nothing is due for it here, whatever was paid elsewhere.
            price: Money::ZERO,
            payment_status: PaymentStatus::Waived,
            status: self.status,
            failure: self.failure.clone(),
            topic: self.topic.clone(),
            reply_to: self.reply_to.clone(),
            broadcast_id: self.broadcast_id.clone(),
            // It was not verified here, and is one of another id.
            signature: None,
            imported: Some(origin),
            sent_at: self.sent_at,
            expires_at: self.expires_at,
            delivered_at: self.delivered_at,
            read_at: self.read_at,
        }
    }
}
