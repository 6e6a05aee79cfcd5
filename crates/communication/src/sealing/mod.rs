//! Encryption of the content of messages.
//!
//! For agents with a public key the default is end to end: content that arrives encrypted is stored and forwarded
//! unchanged, content that arrives unencrypted is encrypted to that key on arrival. For agents without a key content is
//! encrypted at rest, with one data key per channel that is wrapped by a master key of the configuration. Each
//! ciphertext is bound to its message's id, sender and recipient.

mod codec;
mod envelope;
mod error;
mod keys;
mod masters;
mod model;
mod rotation;
mod store;

use std::{num::NonZeroUsize, sync::Arc};

use lru::LruCache;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use self::{
    codec::unbase64,
    envelope::{Envelope, HPKE_SUITE, HYBRID_SUITE, PublicKey, RSA_SUITE, SecretKey},
    error::{Result, SealError},
    model::{AgentKey, Bound, Encryption, KeyKind, MasterUse, Opened, Rotated, Scope, SealFor, Sealed},
};

use self::{
    masters::{AtRest, DataKey, Masters, Wrapped},
    store::Found,
};
use am_audit::Audit;
use am_core::ambient::{Clock, Ids};
use am_db::{
    Connection, Database, Tx,
    codec::{Doc, Timestamp},
};

/// Number of unwrapped data keys in the cache.
const CACHED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Settings of encryption.
#[derive(Default)]
pub struct Settings {
    /// Master keys as pairs of name and base64 key; the first wraps new data keys.
    pub masters: Vec<(String, SecretString)>,
    /// Whether messages may be stored unencrypted.
    pub allow_plaintext: bool,
}

/// The encryption service. Cheap to clone.
#[derive(Clone)]
pub struct Sealing(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    masters: Masters,
    allow_plaintext: bool,
    data_keys: Mutex<LruCache<String, Arc<DataKey>>>,
}

/// Plan how a message will be encrypted.
enum Way {
    /// Stored as it arrived.
    EndToEnd(Envelope),
    /// Encrypted to this key.
    To(PublicKey, Encryption),
    AtRest,
    Plain,
}

impl Sealing {
    /// Create the service with the keys of `db`.
    ///
    /// # Errors
    /// Returns [`SealError::Crypto`] for invalid master keys.
    pub fn new((db, clock, ids): (Database, Clock, Ids), audit: Audit, settings: Settings) -> Result<Self> {
        let masters = Masters::new(settings.masters.iter().map(|(id, key)| (id.as_str(), key)))?;
        let data_keys = Mutex::new(LruCache::new(CACHED));
        let allow_plaintext = settings.allow_plaintext;
        Ok(Self(Arc::new(Inner { db, clock, ids, audit, masters, allow_plaintext, data_keys })))
    }

    /// Whether a master key is configured, so that content can be encrypted at rest.
    pub fn has_master(&self) -> bool {
        self.0.masters.current().is_ok()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Encrypt the content of a message, in the transaction that stores it. Public-key cryptography makes this
    /// expensive: with many messages call [`Sealing::try_seal`] first, outside the writer's thread.
    ///
    /// # Errors
    /// Returns [`SealError::Invalid`] for a malformed envelope or an impossible encryption, [`SealError::Plaintext`] or
    /// [`SealError::NoMaster`].
    pub async fn seal(&self, tx: &mut Tx, to: &SealFor<'_>, content: &Value, now: Timestamp) -> Result<Sealed> {
        if let Some(sealed) = self.try_seal(tx.conn().await?, to, content).await? {
            return Ok(sealed);
        }
        let id = self.0.ids.prefixed("mdk_", 16);
        let (key, wrapped) = self.0.masters.draw(&id, to.bound.channel)?;
        store::insert_data_key(tx, &wrapped, now).await?;
        at_rest(&key, &to.bound, content)
    }

    /// Encrypt without writing; `None` when the channel has no data key yet, which [`Sealing::seal`] creates.
    ///
    /// # Errors
    /// Same as [`Sealing::seal`].
    pub async fn try_seal(&self, conn: &mut Connection, to: &SealFor<'_>, content: &Value) -> Result<Option<Sealed>> {
        let found = store::find(conn, to.bound.channel, to.bound.recipient).await?;
        match self.way(to, content, &found)? {
            Way::EndToEnd(envelope) => Ok(Some(sealed(&envelope, Scope::EndToEnd)?)),
            Way::To(key, by) => {
                let Bound { message_id, sender, recipient, .. } = to.bound;
                let envelope = key.seal(by, (message_id, sender, recipient.unwrap_or_default()), content)?;
                Ok(Some(sealed(&envelope, Scope::SealedOnArrival)?))
            }
            Way::Plain => {
                let stored = Doc::of(content).map_err(|_| SealError::Crypto("no JSON"))?;
                Ok(Some(Sealed { encryption: Encryption::None, scope: Scope::None, key_id: None, stored }))
            }
            Way::AtRest => match found.data_key {
                Some(wrapped) => Ok(Some(at_rest(&*self.unwrapped(&wrapped)?, &to.bound, content)?)),
                // Fails before anything is written.
                None => self.0.masters.current().map(|_| None),
            },
        }
    }

    fn way(&self, to: &SealFor<'_>, content: &Value, found: &Found) -> Result<Way> {
        if let Some(envelope) = Envelope::of(content)? {
            return end_to_end(to, envelope, found);
        }
        let newest = |kind: KeyKind| {
            let key = found.keys.iter().find(|(other, ..)| *other == kind);
            key.map(|(kind, _, text)| PublicKey::stored(*kind, text)).transpose()
        };
        let wanted = |kind: KeyKind, by: Encryption| match newest(kind)? {
            Some(key) => Ok(Way::To(key, by)),
            None => Err(SealError::invalid(&["encryption"], format!("the recipient has no {kind} key"))),
        };
        match to.encryption {
            Some(Encryption::Hpke) => wanted(KeyKind::X25519, Encryption::Hpke),
            Some(by @ (Encryption::Rsa | Encryption::Hybrid)) => wanted(KeyKind::Rsa, by),
            Some(Encryption::Aes256) => Ok(Way::AtRest),
            Some(Encryption::None) if self.0.allow_plaintext => Ok(Way::Plain),
            Some(Encryption::None) => Err(SealError::Plaintext),
            None if !to.encrypt && self.0.allow_plaintext => Ok(Way::Plain),
            None if !to.encrypt => Ok(Way::AtRest),
            None => Ok(match (newest(KeyKind::X25519)?, newest(KeyKind::Rsa)?) {
                (Some(key), _) => Way::To(key, Encryption::Hpke),
                (None, Some(key)) => Way::To(key, Encryption::Hybrid),
                (None, None) => Way::AtRest,
            }),
        }
    }

    /// Decrypt the content of a message, for those who may read it.
    ///
    /// # Errors
    /// Returns [`SealError::Tampered`] when it is not what was stored for this message, [`SealError::UnknownMaster`]
    /// when its key is not configured.
    pub async fn open(&self, conn: &mut Connection, stored: &Sealed, bound: &Bound<'_>) -> Result<Opened> {
        let tampered = || SealError::Tampered(bound.message_id.to_owned());
        let value: Value = stored.stored.parse().map_err(|_| tampered())?.unwrap_or_default();
        match stored.scope {
            Scope::None => Ok(Opened::Plain(value)),
            Scope::EndToEnd | Scope::SealedOnArrival => Ok(Opened::Envelope(value)),
            Scope::AtRest => {
                let sealed: AtRest = serde_json::from_value(value["aes256"].clone()).map_err(|_| tampered())?;
                let key = self.data_key(conn, &sealed.key_id).await?.ok_or_else(tampered)?;
                let plain = key.open(bound, &sealed)?;
                Ok(Opened::Plain(serde_json::from_slice(&plain).map_err(|_| tampered())?))
            }
        }
    }

    async fn data_key(&self, conn: &mut Connection, id: &str) -> Result<Option<Arc<DataKey>>> {
        if let Some(key) = self.cached(id) {
            return Ok(Some(key));
        }
        store::data_key(conn, id).await?.map(|wrapped| self.unwrapped(&wrapped)).transpose()
    }

    /// A data key's secret never changes, so a cached key stays valid.
    fn cached(&self, id: &str) -> Option<Arc<DataKey>> {
        self.0.data_keys.lock().get(id).cloned()
    }

    fn unwrapped(&self, wrapped: &Wrapped) -> Result<Arc<DataKey>> {
        if let Some(key) = self.cached(&wrapped.id) {
            return Ok(key);
        }
        let key = Arc::new(self.0.masters.unwrap(wrapped)?);
        self.0.data_keys.lock().put(wrapped.id.clone(), key.clone());
        Ok(key)
    }
}

/// Check that the sender's envelope is for an active key of the recipient and matches the requested encryption.
fn end_to_end(to: &SealFor<'_>, envelope: Envelope, found: &Found) -> Result<Way> {
    let kind = envelope.encryption().value();
    if to.bound.recipient.is_none() {
        return Err(SealError::invalid(
            &["content", kind],
            "an envelope has a single recipient, and this message has several",
        ));
    }
    if !found.keys.iter().any(|(kind, id, _)| *kind == envelope.needs() && id == envelope.key_id()) {
        let message = format!("names no active {} key of the recipient", envelope.needs());
        return Err(SealError::invalid(&["content", kind, "key_id"], message));
    }
    match to.encryption {
        Some(other) if other != envelope.encryption() => {
            Err(SealError::invalid(&["encryption"], format!("the content is encrypted with {kind}, not with {other}")))
        }
        _ => Ok(Way::EndToEnd(envelope)),
    }
}

fn sealed(envelope: &Envelope, scope: Scope) -> Result<Sealed> {
    let stored = Doc::of(envelope).map_err(|_| SealError::Crypto("no JSON"))?;
    Ok(Sealed { encryption: envelope.encryption(), scope, key_id: Some(envelope.key_id().to_owned()), stored })
}

fn at_rest(key: &DataKey, bound: &Bound<'_>, content: &Value) -> Result<Sealed> {
    let plain = Zeroizing::new(serde_json::to_vec(content).map_err(|_| SealError::Crypto("no JSON"))?);
    let stored = Doc::of(&json!({"aes256": key.seal(bound, &plain)?})).map_err(|_| SealError::Crypto("no JSON"))?;
    Ok(Sealed { encryption: Encryption::Aes256, scope: Scope::AtRest, key_id: Some(key.id.clone()), stored })
}

#[cfg(test)]
mod tests;
