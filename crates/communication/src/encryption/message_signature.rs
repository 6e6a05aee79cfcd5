//! Signatures of messages by their senders: what is signed, and how it is checked on arrival.

use am_core::{
    boxed,
    crypto::{Ed25519PublicKey, Signer, canonical_audit_json},
    ids::{AgentId, AgentKeyId, ChannelId, MessageId},
};
use am_db::codec::Timestamp;
use chrono::{DateTime, TimeDelta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    EncryptionService,
    codec::{decode_base64, encode_base64},
    error::{EncryptionError, Result},
    model::{AgentKey, KeyKind},
    store,
};

/// First line of the signed bytes, so that no signature of another kind of document is one of a message.
const SIGNING_DOMAIN: &str = "agent-management/message/v1\n";
/// Maximum length of `signed_at` in bytes: nanoseconds and an offset fit.
const MAX_SIGNED_AT_LEN: usize = 40;
/// How far `signed_at` may be from the time of arrival, in either direction.
const MAX_SIGNING_DISTANCE: TimeDelta = TimeDelta::minutes(5);

/// A signature of a message by its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MessageSignature)]
pub struct MessageSignature {
    /// Id of the sender's Ed25519 key.
    pub key_id: AgentKeyId,
    /// When the message was signed (RFC 3339), within 5 minutes of its arrival. Signed as this text.
    #[schema(format = DateTime)]
    pub signed_at: String,
    /// Ed25519 signature, 64 bytes in base64.
    pub value: String,
}

/// A signature of a message that was verified when the message arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = VerifiedSignature)]
pub struct VerifiedSignature {
    /// Id of the sender's Ed25519 key.
    pub key_id: AgentKeyId,
    /// When the message was signed, as its sender says.
    #[schema(format = DateTime)]
    pub signed_at: String,
    /// Always true: this service verified the signature when the message arrived. The key may have been revoked since.
    pub verified: bool,
    /// Ed25519 signature, 64 bytes in base64.
    pub value: String,
}

impl From<MessageSignature> for VerifiedSignature {
    fn from(MessageSignature { key_id, signed_at, value }: MessageSignature) -> Self {
        Self { key_id, signed_at, verified: true, value }
    }
}

impl VerifiedSignature {
    /// The form that is stored.
    pub fn to_stored(&self) -> String {
        json!({"key_id": self.key_id, "signed_at": self.signed_at, "value": self.value}).to_string()
    }

    /// Read the form that is stored.
    ///
    /// # Errors
    /// Returns [`am_db::DatabaseError::InvalidValue`] when it is something else.
    pub fn from_stored(text: &str) -> am_db::Result<Self> {
        let read: std::result::Result<MessageSignature, _> = serde_json::from_str(text);
        read.map(Self::from).map_err(|error| am_db::DatabaseError::InvalidValue(format!("a signature: {error}")))
    }
}

/// What a signature of a message covers. Of `recipient`, `channel` and `topic` at most one is present; without any the
/// message is to every agent.
#[derive(Clone, Copy, Debug)]
pub struct SignedMessage<'a> {
    /// Id that the sender gave the message.
    pub message_id: &'a MessageId,
    /// Agent that sent the message.
    pub sender: &'a AgentId,
    /// Agent that receives the message; `None`: it has several recipients.
    pub recipient: Option<&'a AgentId>,
    /// Channel whose other members receive the message; `None`: it was sent otherwise.
    pub channel: Option<&'a ChannelId>,
    /// Topic whose subscribers receive the message; `None`: it was sent otherwise.
    pub topic: Option<&'a str>,
    /// Type of the message, as clients name it.
    pub message_type: &'a str,
    /// Id of the message that this one answers; `None`: it answers none.
    pub reply_to: Option<&'a MessageId>,
    /// Content as it is sent: the plaintext, or the sender's envelope.
    pub content: &'a Value,
}

impl SignedMessage<'_> {
    /// The signed bytes: the domain line, and canonical JSON with nulls. Without nulls, content with a null member would
    /// have the signature of content without it.
    fn bytes(&self, signed_at: &str) -> Vec<u8> {
        let document = json!({
            "message_id": self.message_id,
            "sender": self.sender,
            "recipient": self.recipient,
            "channel_id": self.channel,
            "topic": self.topic,
            "message_type": self.message_type,
            "reply_to": self.reply_to,
            "signed_at": signed_at,
            "content": self.content,
        });
        [SIGNING_DOMAIN.as_bytes(), &canonical_audit_json(&document)].concat()
    }

    /// Sign the message with the private key whose public key has this id.
    pub fn sign(&self, signer: &Signer, key_id: AgentKeyId, signed_at: String) -> MessageSignature {
        let value = encode_base64(&signer.sign_bytes(&self.bytes(&signed_at)));
        MessageSignature { key_id, signed_at, value }
    }

    /// Check a signature of the sender, at the time `now`, by the key that its `key_id` names; `None`: the sender has no
    /// such key.
    ///
    /// # Errors
    /// What is wrong with the signature.
    fn check(&self, signature: &MessageSignature, key: Option<&AgentKey>, now: Timestamp) -> Result<()> {
        let refuse = |message: String| Err(EncryptionError::invalid(&["signature"], message));
        // The text is stored as it is, so it is no longer than a time needs.
        let text = Some(signature.signed_at.as_str()).filter(|text| text.len() <= MAX_SIGNED_AT_LEN);
        let Some(signed_at) = text.and_then(|text| DateTime::parse_from_rfc3339(text).ok()) else {
            return refuse("should have the time of signing as signed_at, in the form of RFC 3339".to_owned());
        };
        if (now.0 - signed_at.to_utc()).abs() > MAX_SIGNING_DISTANCE {
            let minutes = MAX_SIGNING_DISTANCE.num_minutes();
            return refuse(format!("was made more than {minutes} minutes from now, as its signed_at says: sign again"));
        }
        let key = match key {
            Some(key) if key.revoked_at.is_some() => return refuse("was made with a key that was revoked".to_owned()),
            Some(key) if key.kind == KeyKind::Ed25519 => key,
            _ => return refuse("has a key_id that is that of no ed25519 key of the sender".to_owned()),
        };
        let public: Option<[u8; 32]> = decode_base64(&key.public_key).and_then(|bytes| bytes.try_into().ok());
        let public = public.and_then(|bytes| Ed25519PublicKey::from_bytes(&bytes).ok());
        let public = public.ok_or(EncryptionError::CryptoFailed("a stored Ed25519 key is invalid"))?;
        let value = decode_base64(&signature.value).unwrap_or_default();
        match public.verifies(&self.bytes(&signature.signed_at), &value) {
            true => Ok(()),
            false => refuse("is not that of this message by this key".to_owned()),
        }
    }
}

impl EncryptionService {
    /// Check the signature of a message that arrives now, by the keys that its sender has.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Invalid`] for a wrong signature, one by an unknown or revoked key, or one that was not
    /// made within five minutes of now.
    #[boxed]
    pub async fn check_signature(&self, message: &SignedMessage<'_>, signature: &MessageSignature) -> Result<()> {
        let key = store::get_key(&mut *self.0.db.read().await?, message.sender, &signature.key_id).await?;
        message.check(signature, key.as_ref(), self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u8) -> Signer {
        Signer::from_seed(&[seed; 32])
    }

    fn key(of: &Signer, kind: KeyKind, revoked: bool) -> AgentKey {
        let now = Timestamp("2027-01-01T00:00:00Z".parse().unwrap());
        AgentKey {
            key_id: "k".into(),
            kind,
            public_key: encode_base64(of.public_key().bytes()),
            owner_id: "key_0".into(),
            created_at: now,
            revoked_at: revoked.then_some(now),
        }
    }

    #[test]
    fn only_the_senders_signature_of_this_message_made_now_is_good() {
        let (content, other) = (json!({"x": null}), json!({}));
        let [id, another]: [MessageId; 2] = ["m1".into(), "m2".into()];
        let [alice, bob, carol]: [AgentId; 3] = ["alice".into(), "bob".into(), "carol".into()];
        let channel: ChannelId = "c".into();
        let message = SignedMessage {
            message_id: &id,
            sender: &alice,
            recipient: Some(&bob),
            channel: None,
            topic: None,
            message_type: "direct",
            reply_to: None,
            content: &content,
        };
        let at = |text: &str| Timestamp(text.parse().unwrap());
        let now = at("2027-01-01T00:00:00Z");
        let mine = signer(1);
        let signed = message.sign(&mine, "k".into(), "2027-01-01T01:00:00+01:00".to_owned());
        let good = key(&mine, KeyKind::Ed25519, false);
        message.check(&signed, Some(&good), now).unwrap();
        for late in ["2027-01-01T00:05:01Z", "2026-12-31T23:54:59Z"] {
            message.check(&signed, Some(&good), at(late)).unwrap_err();
        }
        for wrong in [
            None,
            Some(key(&mine, KeyKind::Ed25519, true)),
            Some(key(&mine, KeyKind::X25519, false)),
            Some(key(&signer(2), KeyKind::Ed25519, false)),
        ] {
            message.check(&signed, wrong.as_ref(), now).unwrap_err();
        }
        let moved = [
            SignedMessage { message_id: &another, ..message },
            SignedMessage { sender: &carol, ..message },
            SignedMessage { recipient: Some(&carol), ..message },
            SignedMessage { recipient: None, ..message },
            SignedMessage { channel: Some(&channel), ..message },
            SignedMessage { topic: Some("t"), ..message },
            SignedMessage { message_type: "urgent", ..message },
            SignedMessage { reply_to: Some(&another), ..message },
            SignedMessage { content: &other, ..message },
        ];
        for moved in moved {
            moved.check(&signed, Some(&good), now).unwrap_err();
        }
        let changed = [
            MessageSignature { signed_at: "2027-01-01T00:00:00Z".to_owned(), ..signed.clone() },
            MessageSignature { signed_at: "now".to_owned(), ..signed.clone() },
            MessageSignature { signed_at: format!("2027-01-01T00:00:00.{}Z", "0".repeat(40)), ..signed.clone() },
            MessageSignature { value: "AAAA".to_owned(), ..signed.clone() },
            MessageSignature { value: "?".to_owned(), ..signed.clone() },
        ];
        for changed in changed {
            message.check(&changed, Some(&good), now).unwrap_err();
        }
        let shown = VerifiedSignature::from(signed);
        assert_eq!(VerifiedSignature::from_stored(&shown.to_stored()).unwrap(), shown);
        VerifiedSignature::from_stored("{}").unwrap_err();
    }

    #[test]
    fn signed_bytes_are_those_of_the_documentation() {
        let message = SignedMessage {
            message_id: &"m1".into(),
            sender: &"alice".into(),
            recipient: Some(&"bob".into()),
            channel: None,
            topic: None,
            message_type: "direct",
            reply_to: None,
            content: &json!({"text": "hi"}),
        };
        let expected = "agent-management/message/v1\n{\"channel_id\":null,\"content\":{\"text\":\"hi\"},\"message_id\":\"m1\",\"message_type\":\"direct\",\"recipient\":\"bob\",\"reply_to\":null,\"sender\":\"alice\",\"signed_at\":\"2027-01-01T00:00:00.000000Z\",\"topic\":null}";
        assert_eq!(String::from_utf8(message.bytes("2027-01-01T00:00:00.000000Z")).unwrap(), expected);
    }
}
