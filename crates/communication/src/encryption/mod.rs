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
mod message_signature;
mod model;
mod plan;
mod randomness;
mod shared_content;
mod store;

use std::{num::NonZeroUsize, sync::Arc};

use lru::LruCache;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::Value;

pub use self::{
    codec::decode_base64,
    envelope::{AgentPrivateKey, ContentEnvelope, HPKE_SUITE, HYBRID_SUITE, RSA_SUITE, RecipientPublicKey},
    error::{EncryptionError, Result},
    message_signature::{MessageSignature, SignedMessage, VerifiedSignature},
    model::{
        AgentKey, CiphertextBinding, DecryptedContent, EncryptedContent, EncryptionRequest, EncryptionScope,
        EnvelopeBinding, KeyKind, KeyRotationReport, MasterKeyUsage, MessageEncryption, NewAgentKey, SharedContent,
    },
    plan::{DrawnDataKey, EncryptionPlan, KeyDirectory},
    shared_content::{HPKE_SHARED_SUITE, HYBRID_SHARED_SUITE, SharedDraft, SharedEnvelope, WrappedContentKey},
};

pub(crate) use self::randomness::prepare_randomness;

use self::master_keys::{AtRestCiphertext, DataKey, MasterKeys, WrappedDataKey};
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::{AgentId, AgentKeyId, ChannelId, DataKeyId},
};
use am_db::{Connection, Database, Tx, bulk_insert::RowBatch, codec::Timestamp};

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

impl DrawnDataKey {
    /// Add the row that stores the key.
    pub fn add_row(&self, rows: &mut RowBatch, now: Timestamp) {
        store::add_data_key_row(rows, &self.wrapped, now);
    }
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
    /// expensive: with many messages call [`EncryptionService::plan`] and [`EncryptionPlan::seal`] before.
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
        let mut keys = KeyDirectory::default();
        self.learn(tx.conn().await?, &mut keys, &[to.bound.channel], to.bound.recipient.as_slice()).await?;
        let sealed = self.plan(&mut keys, to, content)?.seal(&to.bound, content)?;
        if let Some(drawn) = keys.drawn_key(to.bound.channel, &sealed) {
            let mut rows = RowBatch::default();
            drawn.add_row(&mut rows, now);
            rows.execute(tx).await?;
        }
        Ok(sealed)
    }

    /// Read the keys of channels and agents that `keys` does not have yet.
    ///
    /// # Errors
    /// Returns a database error when the query fails.
    #[boxed]
    pub async fn learn(
        &self,
        conn: &mut Connection,
        keys: &mut KeyDirectory,
        channels: &[&ChannelId],
        agents: &[&AgentId],
    ) -> Result<()> {
        let mut channels = channels.to_vec();
        channels.retain(|channel| !keys.channels.contains_key(*channel));
        let mut agents = agents.to_vec();
        agents.retain(|agent| !keys.agents.contains_key(*agent));
        if channels.is_empty() && agents.is_empty() {
            return Ok(());
        }
        Ok(store::read_available_keys(conn, keys, &channels, &agents).await?)
    }

    /// Decide how a message is encrypted, by the keys that were read. A data key is generated for a channel that needs
    /// one and has none.
    ///
    /// # Errors
    /// Same as [`EncryptionService::seal`].
    pub fn plan(&self, keys: &mut KeyDirectory, to: &EncryptionRequest<'_>, content: &Value) -> Result<EncryptionPlan> {
        let draw = |channel: &ChannelId| {
            let (key, wrapped) = self.0.masters.draw(&self.0.ids.random_id("mdk_", 16).into(), channel)?;
            Ok(DrawnDataKey { key: Arc::new(key), wrapped })
        };
        plan::plan_encryption(keys, to, content, self.0.allow_plaintext, |key| self.unwrap_data_key(key), draw)
    }

    /// Encrypt content that the copies of a message share, by a key of its own.
    ///
    /// # Errors
    /// Returns [`EncryptionError::CryptoFailed`] when encryption fails.
    pub fn share(&self, content: &Value, encrypted: bool) -> Result<SharedDraft> {
        SharedDraft::new(self.0.ids.random_id("content_", 24).into(), content, encrypted)
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
        match (stored.scope, &stored.shared) {
            (EncryptionScope::None, None) => Ok(DecryptedContent::Plain(value)),
            (EncryptionScope::None, Some(shared)) => {
                let value = shared.stored.parse().map_err(|_| tampered())?;
                Ok(DecryptedContent::Plain(value.unwrap_or_default()))
            }
            (EncryptionScope::EndToEnd | EncryptionScope::SealedOnArrival, _) => {
                Ok(DecryptedContent::Envelope(stored_envelope(stored).ok_or_else(tampered)?))
            }
            (EncryptionScope::AtRest, shared) => {
                let sealed: AtRestCiphertext =
                    serde_json::from_value(value["aes256"].clone()).map_err(|_| tampered())?;
                let key = self.data_key(conn, &sealed.key_id).await?.ok_or_else(tampered)?;
                let plain = key.open(bound, &sealed)?;
                let content = match shared {
                    None => serde_json::from_slice(&plain).ok(),
                    Some(shared) => shared_content::open_stored(&plain, shared),
                };
                Ok(DecryptedContent::Plain(content.ok_or_else(tampered)?))
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

/// Encryption of an envelope of either kind, and the recipient's key that it names; `None` when content is not one.
///
/// # Errors
/// Returns [`EncryptionError::Invalid`] when it is one but malformed.
pub fn envelope_key(content: &Value) -> Result<Option<(MessageEncryption, AgentKeyId)>> {
    if let Some(envelope) = SharedEnvelope::from_content(content)? {
        return Ok(Some((envelope.key.encryption(), envelope.key.key_id().clone())));
    }
    let envelope = ContentEnvelope::from_content(content)?;
    Ok(envelope.map(|envelope| (envelope.encryption(), envelope.key_id().clone())))
}

/// The envelope of stored content as its recipient gets it; `None` when it was altered.
pub fn stored_envelope(stored: &EncryptedContent) -> Option<Value> {
    let own: Value = stored.stored.parse().ok().flatten()?;
    match &stored.shared {
        None => Some(own),
        Some(shared) => shared_content::complete_envelope(own, shared),
    }
}

#[cfg(test)]
mod tests;
