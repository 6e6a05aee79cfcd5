//! How a message is encrypted: decided from the keys that its recipient and its channel have, without I/O, so that the
//! same decision can be made before a transaction and checked in it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    envelope::{ContentEnvelope, RecipientPublicKey},
    error::{EncryptionError, Result},
    master_keys::{DataKey, WrappedDataKey},
    model::{
        CiphertextBinding, EncryptedContent, EncryptionRequest, EncryptionScope, EnvelopeBinding, KeyKind,
        MessageEncryption,
    },
    shared_content::{SharedDraft, WrappedContentKey},
};
use am_core::ids::{AgentId, AgentKeyId, ChannelId};
use am_db::codec::JsonText;

/// An active public key of a recipient.
pub(super) struct ActiveKey {
    pub kind: KeyKind,
    pub id: AgentKeyId,
    /// The key in base64.
    pub text: String,
}

/// A data key of a channel that is not stored yet.
pub struct DrawnDataKey {
    pub(super) key: Arc<DataKey>,
    pub(super) wrapped: WrappedDataKey,
}

/// Keys that messages may be encrypted by, as they were read for a batch of messages.
#[derive(Default)]
pub struct KeyDirectory {
    /// Active keys of the agents asked for, newest first.
    pub(super) agents: HashMap<AgentId, Vec<ActiveKey>>,
    /// Active data keys of the channels asked for.
    pub(super) channels: HashMap<ChannelId, Option<WrappedDataKey>>,
    /// Data keys generated for channels that have none.
    pub(super) drawn: HashMap<ChannelId, DrawnDataKey>,
}

impl KeyDirectory {
    /// A directory in which nothing is known of stored keys, with the data keys that were generated meanwhile.
    #[must_use]
    pub fn with_drawn_keys_only(self) -> Self {
        Self { drawn: self.drawn, ..Self::default() }
    }

    /// The data key that was generated for a channel, if this content is encrypted by it: whoever stores the content
    /// stores the key too.
    pub fn drawn_key(&self, channel: &ChannelId, sealed: &EncryptedContent) -> Option<&DrawnDataKey> {
        let drawn = self.drawn.get(channel)?;
        (sealed.key_id.as_ref()?.as_str() == drawn.wrapped.id.as_str()).then_some(drawn)
    }

    /// The data keys that were generated for these channels.
    pub fn drawn_keys(&self, channels: &HashSet<ChannelId>) -> impl Iterator<Item = &DrawnDataKey> {
        self.drawn.iter().filter(|(channel, _)| channels.contains(*channel)).map(|(_, drawn)| drawn)
    }
}

/// How a message is encrypted, and by which key.
#[derive(Clone)]
pub enum EncryptionPlan {
    /// Stored as it arrived.
    EndToEnd(ContentEnvelope),
    /// Encrypted to this key.
    ToRecipient(RecipientPublicKey, MessageEncryption),
    /// Encrypted by this key of the channel.
    AtRest(Arc<DataKey>),
    /// Stored as plaintext, because sender and operator allow it.
    Plain,
}

impl PartialEq for EncryptionPlan {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::EndToEnd(one), Self::EndToEnd(two)) => one == two,
            (Self::ToRecipient(one, by), Self::ToRecipient(two, also)) => one == two && by == also,
            (Self::AtRest(one), Self::AtRest(two)) => one.id == two.id,
            (Self::Plain, Self::Plain) => true,
            _ => false,
        }
    }
}

impl EncryptionPlan {
    /// Whether copies may share their content. RSA alone encrypts the content itself.
    pub fn can_share(&self) -> bool {
        !matches!(self, Self::EndToEnd(_) | Self::ToRecipient(_, MessageEncryption::Rsa))
    }

    /// Whether the content is stored as ciphertext.
    pub fn is_encrypted(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// Encrypt the content of a message. Public-key cryptography makes this expensive: many are encrypted outside the
    /// transaction that stores them.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Invalid`] for content that is too long for direct RSA.
    pub fn seal(&self, bound: &CiphertextBinding<'_>, content: &Value) -> Result<EncryptedContent> {
        match self {
            Self::EndToEnd(envelope) => encrypted_envelope(envelope, EncryptionScope::EndToEnd),
            Self::ToRecipient(key, by) => {
                let envelope = key.seal(*by, &envelope_binding(bound, &AgentId::default()), content)?;
                encrypted_envelope(&envelope, EncryptionScope::SealedOnArrival)
            }
            Self::AtRest(key) => {
                let plain = Zeroizing::new(serde_json::to_vec(content).map_err(no_json)?);
                encrypt_at_rest(key, bound, &plain)
            }
            Self::Plain => plain_content(JsonText::from_value(content).map_err(no_json)?),
        }
    }

    /// Encrypt the key of shared content for one copy.
    ///
    /// # Errors
    /// Returns [`EncryptionError::CryptoFailed`] when encryption fails, or the plan does not share.
    pub fn seal_copy(&self, bound: &CiphertextBinding<'_>, draft: &SharedDraft) -> Result<EncryptedContent> {
        let sealed = match (self, &draft.key) {
            (Self::ToRecipient(recipient, _), Some(key)) => {
                let nobody = AgentId::default();
                let wrapped = WrappedContentKey::wrap(recipient, &envelope_binding(bound, &nobody), key)?;
                EncryptedContent {
                    encryption: wrapped.encryption(),
                    scope: EncryptionScope::SealedOnArrival,
                    key_id: Some(wrapped.key_id().as_str().into()),
                    stored: JsonText::from_value(&wrapped).map_err(no_json)?,
                    shared: None,
                }
            }
            (Self::AtRest(data_key), Some(key)) => encrypt_at_rest(data_key, bound, &**key)?,
            (Self::Plain, None) => plain_content(JsonText::from_value(&json!({})).map_err(no_json)?)?,
            _ => return Err(EncryptionError::CryptoFailed("this content is not shared")),
        };
        Ok(EncryptedContent { shared: Some(draft.content.clone()), ..sealed })
    }
}

/// Decide how a message is encrypted. `draw` generates the data key of a channel that has none.
pub(super) fn plan_encryption(
    keys: &mut KeyDirectory,
    to: &EncryptionRequest<'_>,
    content: &Value,
    allow_plaintext: bool,
    unwrap: impl FnOnce(&WrappedDataKey) -> Result<Arc<DataKey>>,
    draw: impl FnOnce(&ChannelId) -> Result<DrawnDataKey>,
) -> Result<EncryptionPlan> {
    let of_recipient = to.bound.recipient.and_then(|agent| keys.agents.get(agent)).map_or(&[][..], Vec::as_slice);
    if let Some(envelope) = ContentEnvelope::from_content(content)? {
        return plan_end_to_end(to, envelope, of_recipient);
    }
    let newest = |kind: KeyKind| {
        let key = of_recipient.iter().find(|key| key.kind == kind);
        key.map(|key| RecipientPublicKey::from_stored(key.kind, &key.text)).transpose()
    };
    let wanted = |kind: KeyKind, by: MessageEncryption| match newest(kind)? {
        Some(key) => Ok(EncryptionPlan::ToRecipient(key, by)),
        None => Err(EncryptionError::invalid(&["encryption"], format!("the recipient has no {kind} key"))),
    };
    let found = match to.encryption {
        Some(MessageEncryption::Hpke) => Some(wanted(KeyKind::X25519, MessageEncryption::Hpke)?),
        Some(by @ (MessageEncryption::Rsa | MessageEncryption::Hybrid)) => Some(wanted(KeyKind::Rsa, by)?),
        Some(MessageEncryption::Aes256) => None,
        Some(MessageEncryption::None) if allow_plaintext => Some(EncryptionPlan::Plain),
        Some(MessageEncryption::None) => return Err(EncryptionError::PlaintextForbidden),
        None if !to.encrypt => allow_plaintext.then_some(EncryptionPlan::Plain),
        None => match (newest(KeyKind::X25519)?, newest(KeyKind::Rsa)?) {
            (Some(key), _) => Some(EncryptionPlan::ToRecipient(key, MessageEncryption::Hpke)),
            (None, Some(key)) => Some(EncryptionPlan::ToRecipient(key, MessageEncryption::Hybrid)),
            (None, None) => None,
        },
    };
    if let Some(plan) = found {
        return Ok(plan);
    }
    let channel = to.bound.channel;
    if let Some(Some(wrapped)) = keys.channels.get(channel) {
        return Ok(EncryptionPlan::AtRest(unwrap(wrapped)?));
    }
    if let Some(drawn) = keys.drawn.get(channel) {
        return Ok(EncryptionPlan::AtRest(drawn.key.clone()));
    }
    let drawn = draw(channel)?;
    let key = drawn.key.clone();
    keys.drawn.insert(channel.clone(), drawn);
    Ok(EncryptionPlan::AtRest(key))
}

/// Check that the sender's envelope is for an active key of the recipient and matches the requested encryption.
fn plan_end_to_end(
    to: &EncryptionRequest<'_>,
    envelope: ContentEnvelope,
    of_recipient: &[ActiveKey],
) -> Result<EncryptionPlan> {
    let kind = envelope.encryption().value();
    if to.bound.recipient.is_none() {
        return Err(EncryptionError::invalid(
            &["content", kind],
            "an envelope has a single recipient, and this message has several",
        ));
    }
    if !of_recipient.iter().any(|key| key.kind == envelope.required_key_kind() && key.id == *envelope.key_id()) {
        let message = format!("names no active {} key of the recipient", envelope.required_key_kind());
        return Err(EncryptionError::invalid(&["content", kind, "key_id"], message));
    }
    match to.encryption {
        Some(other) if other != envelope.encryption() => Err(EncryptionError::invalid(
            &["encryption"],
            format!("the content is encrypted with {kind}, not with {other}"),
        )),
        _ => Ok(EncryptionPlan::EndToEnd(envelope)),
    }
}

fn no_json(_: serde_json::Error) -> EncryptionError {
    EncryptionError::CryptoFailed("no JSON")
}

fn envelope_binding<'a>(bound: &CiphertextBinding<'a>, nobody: &'a AgentId) -> EnvelopeBinding<'a> {
    let CiphertextBinding { message_id, sender, recipient, .. } = *bound;
    EnvelopeBinding { message_id, sender, recipient: recipient.unwrap_or(nobody) }
}

fn encrypted_envelope(envelope: &ContentEnvelope, scope: EncryptionScope) -> Result<EncryptedContent> {
    Ok(EncryptedContent {
        encryption: envelope.encryption(),
        scope,
        key_id: Some(envelope.key_id().as_str().into()),
        stored: JsonText::from_value(envelope).map_err(no_json)?,
        shared: None,
    })
}

fn encrypt_at_rest(key: &DataKey, bound: &CiphertextBinding<'_>, plain: &[u8]) -> Result<EncryptedContent> {
    Ok(EncryptedContent {
        encryption: MessageEncryption::Aes256,
        scope: EncryptionScope::AtRest,
        key_id: Some(key.id.as_str().into()),
        stored: JsonText::from_value(&json!({"aes256": key.seal(bound, plain)?})).map_err(no_json)?,
        shared: None,
    })
}

fn plain_content(stored: JsonText) -> Result<EncryptedContent> {
    let (encryption, scope) = (MessageEncryption::None, EncryptionScope::None);
    Ok(EncryptedContent { encryption, scope, key_id: None, stored, shared: None })
}
