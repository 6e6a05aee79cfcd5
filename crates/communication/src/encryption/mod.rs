//! Encryption of the content of messages.
//!
//! For agents with a public key the default is end to end: content that arrives encrypted is stored and forwarded
//! unchanged, content that arrives unencrypted is encrypted to that key on arrival. For agents without a key content is
//! encrypted at rest, with one data key per channel that is wrapped by a master key of the configuration. Each
//! ciphertext is bound to its message's id, sender and recipient.

mod agent_keys;
mod codec;
mod envelope;
mod error;
mod key_rotation;
mod master_keys;
mod model;
mod store;

use std::{num::NonZeroUsize, sync::Arc};

use lru::LruCache;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use self::{
    codec::decode_base64,
    envelope::{AgentPrivateKey, ContentEnvelope, HPKE_SUITE, HYBRID_SUITE, RSA_SUITE, RecipientPublicKey},
    error::{EncryptionError, Result},
    model::{
        AgentKey, CiphertextBinding, DecryptedContent, EncryptedContent, EncryptionRequest, EncryptionScope,
        EnvelopeBinding, KeyKind, KeyRotationReport, MasterKeyUsage, MessageEncryption,
    },
};

use self::{
    master_keys::{AtRestCiphertext, DataKey, MasterKeys, WrappedDataKey},
    store::AvailableKeys,
};
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::{AgentId, DataKeyId},
};
use am_db::{
    Connection, Database, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
};

/// Number of unwrapped data keys in the cache.
const DATA_KEY_CACHE_CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Settings of encryption.
#[derive(Default)]
pub struct EncryptionSettings {
    /// Master keys as pairs of name and base64 key; the first wraps new data keys.
    pub masters: Vec<(String, SecretString)>,
    /// Whether messages may be stored unencrypted.
    pub allow_plaintext: bool,
}

/// The encryption service. Cheap to clone.
#[derive(Clone)]
pub struct EncryptionService(Arc<EncryptionServiceInner>);

struct EncryptionServiceInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    masters: MasterKeys,
    allow_plaintext: bool,
    data_keys: Mutex<LruCache<DataKeyId, Arc<DataKey>>>,
}

/// A data key of a channel that is not stored yet.
pub struct DrawnDataKey {
    key: DataKey,
    wrapped: WrappedDataKey,
}

impl DrawnDataKey {
    /// Add the row that stores the key.
    pub fn add_row(&self, rows: &mut RowBatch, now: Timestamp) {
        store::add_data_key_row(rows, &self.wrapped, now);
    }
}

/// Plan how a message will be encrypted.
enum EncryptionPlan {
    /// Stored as it arrived.
    EndToEnd(ContentEnvelope),
    /// Encrypted to this key.
    ToRecipient(RecipientPublicKey, MessageEncryption),
    AtRest,
    Plain,
}

impl EncryptionService {
    /// Create the service with the keys of `db`.
    ///
    /// # Errors
    /// Returns [`EncryptionError::CryptoFailed`] for invalid master keys.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        settings: EncryptionSettings,
    ) -> Result<Self> {
        let masters = MasterKeys::new(settings.masters.iter().map(|(id, key)| (id.as_str(), key)))?;
        let data_keys = Mutex::new(LruCache::new(DATA_KEY_CACHE_CAPACITY));
        let allow_plaintext = settings.allow_plaintext;
        Ok(Self(Arc::new(EncryptionServiceInner { db, clock, ids, audit, masters, allow_plaintext, data_keys })))
    }

    /// Whether a master key is configured, so that content can be encrypted at rest.
    pub fn has_master_key(&self) -> bool {
        self.0.masters.current().is_ok()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Encrypt the content of a message, in the transaction that stores it. Public-key cryptography makes this
    /// expensive: with many messages call [`EncryptionService::try_encrypt`] first, outside the writer's thread.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Invalid`] for a malformed envelope or an impossible encryption, [`EncryptionError::PlaintextForbidden`] or
    /// [`EncryptionError::NoMasterKey`].
    #[boxed]
    pub async fn seal(
        &self,
        tx: &mut Tx,
        to: &EncryptionRequest<'_>,
        content: &Value,
        now: Timestamp,
    ) -> Result<EncryptedContent> {
        let mut drawn = None;
        let sealed = self.encrypt(tx.conn().await?, to, content, &mut drawn).await?;
        if let Some(drawn) = drawn {
            let mut rows = RowBatch::default();
            drawn.add_row(&mut rows, now);
            rows.execute(tx).await?;
        }
        Ok(sealed)
    }

    /// Encrypt without writing. `drawn` is the data key of the channel that is not stored yet; one is generated where
    /// the channel has none, and whoever stores the content stores it too.
    ///
    /// # Errors
    /// Same as [`EncryptionService::seal`].
    pub async fn encrypt(
        &self,
        conn: &mut Connection,
        to: &EncryptionRequest<'_>,
        content: &Value,
        drawn: &mut Option<DrawnDataKey>,
    ) -> Result<EncryptedContent> {
        if let Some(sealed) = self.try_encrypt(conn, to, content).await? {
            return Ok(sealed);
        }
        let drawn = match drawn {
            Some(drawn) => drawn,
            None => {
                let id = self.0.ids.random_id("mdk_", 16).into();
                let (key, wrapped) = self.0.masters.draw(&id, to.bound.channel)?;
                drawn.insert(DrawnDataKey { key, wrapped })
            }
        };
        encrypt_at_rest(&drawn.key, &to.bound, content)
    }

    /// Encrypt without writing; `None` when the channel has no data key yet, which [`EncryptionService::seal`] creates.
    ///
    /// # Errors
    /// Same as [`EncryptionService::seal`].
    pub async fn try_encrypt(
        &self,
        conn: &mut Connection,
        to: &EncryptionRequest<'_>,
        content: &Value,
    ) -> Result<Option<EncryptedContent>> {
        let found = store::find_available_keys(conn, to.bound.channel, to.bound.recipient).await?;
        match self.way(to, content, &found)? {
            EncryptionPlan::EndToEnd(envelope) => Ok(Some(encrypted_envelope(&envelope, EncryptionScope::EndToEnd)?)),
            EncryptionPlan::ToRecipient(key, by) => {
                let nobody = AgentId::default();
                let CiphertextBinding { message_id, sender, recipient, .. } = to.bound;
                let bound = EnvelopeBinding { message_id, sender, recipient: recipient.unwrap_or(&nobody) };
                let envelope = key.seal(by, &bound, content)?;
                Ok(Some(encrypted_envelope(&envelope, EncryptionScope::SealedOnArrival)?))
            }
            EncryptionPlan::Plain => {
                let stored = JsonText::from_value(content).map_err(|_| EncryptionError::CryptoFailed("no JSON"))?;
                Ok(Some(EncryptedContent {
                    encryption: MessageEncryption::None,
                    scope: EncryptionScope::None,
                    key_id: None,
                    stored,
                }))
            }
            EncryptionPlan::AtRest => match found.data_key {
                Some(wrapped) => Ok(Some(encrypt_at_rest(&*self.unwrap_data_key(&wrapped)?, &to.bound, content)?)),
                // Fails before anything is written.
                None => self.0.masters.current().map(|_| None),
            },
        }
    }

    fn way(&self, to: &EncryptionRequest<'_>, content: &Value, found: &AvailableKeys) -> Result<EncryptionPlan> {
        if let Some(envelope) = ContentEnvelope::from_content(content)? {
            return plan_end_to_end(to, envelope, found);
        }
        let newest = |kind: KeyKind| {
            let key = found.keys.iter().find(|key| key.kind == kind);
            key.map(|key| RecipientPublicKey::from_stored(key.kind, &key.text)).transpose()
        };
        let wanted = |kind: KeyKind, by: MessageEncryption| match newest(kind)? {
            Some(key) => Ok(EncryptionPlan::ToRecipient(key, by)),
            None => Err(EncryptionError::invalid(&["encryption"], format!("the recipient has no {kind} key"))),
        };
        match to.encryption {
            Some(MessageEncryption::Hpke) => wanted(KeyKind::X25519, MessageEncryption::Hpke),
            Some(by @ (MessageEncryption::Rsa | MessageEncryption::Hybrid)) => wanted(KeyKind::Rsa, by),
            Some(MessageEncryption::Aes256) => Ok(EncryptionPlan::AtRest),
            Some(MessageEncryption::None) if self.0.allow_plaintext => Ok(EncryptionPlan::Plain),
            Some(MessageEncryption::None) => Err(EncryptionError::PlaintextForbidden),
            None if !to.encrypt && self.0.allow_plaintext => Ok(EncryptionPlan::Plain),
            None if !to.encrypt => Ok(EncryptionPlan::AtRest),
            None => Ok(match (newest(KeyKind::X25519)?, newest(KeyKind::Rsa)?) {
                (Some(key), _) => EncryptionPlan::ToRecipient(key, MessageEncryption::Hpke),
                (None, Some(key)) => EncryptionPlan::ToRecipient(key, MessageEncryption::Hybrid),
                (None, None) => EncryptionPlan::AtRest,
            }),
        }
    }

    /// Decrypt the content of a message, for those who may read it.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Tampered`] when it is not what was stored for this message, [`EncryptionError::UnknownMasterKey`]
    /// when its key is not configured.
    #[boxed]
    pub async fn open(
        &self,
        conn: &mut Connection,
        stored: &EncryptedContent,
        bound: &CiphertextBinding<'_>,
    ) -> Result<DecryptedContent> {
        let tampered = || EncryptionError::Tampered(bound.message_id.to_string());
        let value: Value = stored.stored.parse().map_err(|_| tampered())?.unwrap_or_default();
        match stored.scope {
            EncryptionScope::None => Ok(DecryptedContent::Plain(value)),
            EncryptionScope::EndToEnd | EncryptionScope::SealedOnArrival => Ok(DecryptedContent::Envelope(value)),
            EncryptionScope::AtRest => {
                let sealed: AtRestCiphertext =
                    serde_json::from_value(value["aes256"].clone()).map_err(|_| tampered())?;
                let key = self.data_key(conn, &sealed.key_id).await?.ok_or_else(tampered)?;
                let plain = key.open(bound, &sealed)?;
                Ok(DecryptedContent::Plain(serde_json::from_slice(&plain).map_err(|_| tampered())?))
            }
        }
    }

    async fn data_key(&self, conn: &mut Connection, id: &DataKeyId) -> Result<Option<Arc<DataKey>>> {
        if let Some(key) = self.cached_data_key(id) {
            return Ok(Some(key));
        }
        store::get_data_key(conn, id).await?.map(|wrapped| self.unwrap_data_key(&wrapped)).transpose()
    }

    /// A data key's secret never changes, so a cached key stays valid.
    fn cached_data_key(&self, id: &DataKeyId) -> Option<Arc<DataKey>> {
        self.0.data_keys.lock().get(id).cloned()
    }

    fn unwrap_data_key(&self, wrapped: &WrappedDataKey) -> Result<Arc<DataKey>> {
        if let Some(key) = self.cached_data_key(&wrapped.id) {
            return Ok(key);
        }
        let key = Arc::new(self.0.masters.unwrap(wrapped)?);
        self.0.data_keys.lock().put(wrapped.id.clone(), key.clone());
        Ok(key)
    }
}

/// Check that the sender's envelope is for an active key of the recipient and matches the requested encryption.
fn plan_end_to_end(
    to: &EncryptionRequest<'_>,
    envelope: ContentEnvelope,
    found: &AvailableKeys,
) -> Result<EncryptionPlan> {
    let kind = envelope.encryption().value();
    if to.bound.recipient.is_none() {
        return Err(EncryptionError::invalid(
            &["content", kind],
            "an envelope has a single recipient, and this message has several",
        ));
    }
    if !found.keys.iter().any(|key| key.kind == envelope.required_key_kind() && key.id == *envelope.key_id()) {
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

fn encrypted_envelope(envelope: &ContentEnvelope, scope: EncryptionScope) -> Result<EncryptedContent> {
    let stored = JsonText::from_value(envelope).map_err(|_| EncryptionError::CryptoFailed("no JSON"))?;
    Ok(EncryptedContent {
        encryption: envelope.encryption(),
        scope,
        key_id: Some(envelope.key_id().as_str().into()),
        stored,
    })
}

fn encrypt_at_rest(key: &DataKey, bound: &CiphertextBinding<'_>, content: &Value) -> Result<EncryptedContent> {
    let plain = Zeroizing::new(serde_json::to_vec(content).map_err(|_| EncryptionError::CryptoFailed("no JSON"))?);
    let stored = JsonText::from_value(&json!({"aes256": key.seal(bound, &plain)?}))
        .map_err(|_| EncryptionError::CryptoFailed("no JSON"))?;
    Ok(EncryptedContent {
        encryption: MessageEncryption::Aes256,
        scope: EncryptionScope::AtRest,
        key_id: Some(key.id.as_str().into()),
        stored,
    })
}

#[cfg(test)]
mod tests;
