//! What keeps the content of messages from those whom it is not for.
//!
//! End to end is the default for agents with a public key: what comes sealed is stored and forwarded as it is, what comes
//! in the clear is sealed to that key on arrival. For agents without one content is encrypted at rest, with a data key a
//! channel that a master key of the configuration wraps. Each ciphertext is bound to its message's id, sender and recipient.

mod codec;
mod envelope;
mod error;
mod keys;
mod masters;
mod model;
mod rotation;
mod store;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
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

/// Data keys that are kept unwrapped.
const CACHED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// How messages are sealed here.
#[derive(Default)]
pub struct Settings {
    /// Master keys by their names, in base64; the first wraps what is new.
    pub masters: Vec<(String, SecretString)>,
    /// May messages be stored in the clear?
    pub allow_plaintext: bool,
}

/// Seals and opens. Cheap to clone.
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

/// How a message is going to be sealed.
enum Way {
    /// As it came.
    EndToEnd(Envelope),
    /// To this key.
    To(PublicKey, Encryption),
    AtRest,
    Plain,
}

impl Sealing {
    /// With the keys of `db`.
    ///
    /// # Errors
    /// [`SealError::Crypto`] for master keys that are none.
    pub fn new((db, clock, ids): (Database, Clock, Ids), audit: Audit, settings: Settings) -> Result<Self> {
        let masters = Masters::new(settings.masters.iter().map(|(id, key)| (id.as_str(), key)))?;
        let data_keys = Mutex::new(LruCache::new(CACHED));
        let allow_plaintext = settings.allow_plaintext;
        Ok(Self(Arc::new(Inner { db, clock, ids, audit, masters, allow_plaintext, data_keys })))
    }

    /// Can it encrypt at rest?
    pub fn has_master(&self) -> bool {
        self.0.masters.current().is_ok()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Seal the content of a message, in the transaction that stores it. What is heavy in it is public-key cryptography: on
    /// the way of many messages try [`Sealing::try_seal`] before, off the writer's thread.
    ///
    /// # Errors
    /// [`SealError::Invalid`] for an envelope that is not good or a way that can't be, [`SealError::Plaintext`],
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

    /// The same without writing; none: the channel has no data key yet, which [`Sealing::seal`] makes.
    ///
    /// # Errors
    /// As [`Sealing::seal`].
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
                // Said before anything is written.
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

    /// The content of a message, for whoever may read it.
    ///
    /// # Errors
    /// [`SealError::Tampered`] when it is not what was stored for this message, [`SealError::UnknownMaster`].
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

    /// A data key's secret never changes, so what was unwrapped once is good for as long as anything names it.
    fn cached(&self, id: &str) -> Option<Arc<DataKey>> {
        self.0.data_keys.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn unwrapped(&self, wrapped: &Wrapped) -> Result<Arc<DataKey>> {
        if let Some(key) = self.cached(&wrapped.id) {
            return Ok(key);
        }
        let key = Arc::new(self.0.masters.unwrap(wrapped)?);
        self.0.data_keys.lock().unwrap_or_else(PoisonError::into_inner).put(wrapped.id.clone(), key.clone());
        Ok(key)
    }
}

/// What the sender sealed must be for a key of the recipient's that is in use, and be what else is asked for.
fn end_to_end(to: &SealFor<'_>, envelope: Envelope, found: &Found) -> Result<Way> {
    let kind = envelope.encryption().value();
    if to.bound.recipient.is_none() {
        return Err(SealError::invalid(
            &["content", kind],
            "an envelope has one recipient, and this message has none of its own",
        ));
    }
    if !found.keys.iter().any(|(kind, id, _)| *kind == envelope.needs() && id == envelope.key_id()) {
        let message = format!("names no {} key of the recipient's that is in use", envelope.needs());
        return Err(SealError::invalid(&["content", kind, "key_id"], message));
    }
    match to.encryption {
        Some(other) if other != envelope.encryption() => {
            Err(SealError::invalid(&["encryption"], format!("the content is sealed by {kind}, not by {other}")))
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
