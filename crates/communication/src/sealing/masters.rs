//! Master keys, which wrap data keys, and data keys, which encrypt content. Master keys come from the configuration, so
//! that a copy of the database alone decrypts nothing.

use aws_lc_rs::{
    aead::{NONCE_LEN, RandomizedNonceKey},
    rand::fill,
};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{
    codec::{base64, bound_at_rest, bound_data_key, unbase64},
    envelope::{gcm, gcm_open, gcm_seal},
    error::{Result, SealError},
    model::Bound,
};

/// The configured master keys.
pub struct Masters(Vec<(String, RandomizedNonceKey)>);

/// A wrapped data key, as stored.
pub struct Wrapped {
    /// Id of the data key.
    pub id: String,
    /// Id of its channel.
    pub channel: String,
    /// Name of the master key that wraps it.
    pub master_id: String,
    /// Nonce, ciphertext and tag in base64.
    pub wrapped: String,
}

/// Data key, which encrypts the content of a channel.
pub struct DataKey {
    /// Id of the data key.
    pub id: String,
    key: RandomizedNonceKey,
}

/// Content encrypted at rest. Bytes are base64.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct AtRest {
    /// Id of the channel's data key.
    pub key_id: String,
    /// Nonce, 12 bytes.
    pub nonce: String,
    /// Ciphertext with tag.
    pub ciphertext: String,
}

impl Masters {
    /// Create master keys from names and base64 keys; the first wraps new data keys.
    ///
    /// # Errors
    /// Returns [`SealError::Crypto`] for an invalid key, which the configuration rules out.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, &'a SecretString)>) -> Result<Self> {
        let read = |(id, text): (&'a str, &'a SecretString)| {
            let bytes = Zeroizing::new(unbase64(text.expose_secret()).unwrap_or_default());
            let bytes: [u8; 32] =
                bytes.as_slice().try_into().map_err(|_| SealError::Crypto("a master key is not 32 bytes"))?;
            Ok((id.to_owned(), gcm(&Zeroizing::new(bytes))?))
        };
        Ok(Self(keys.into_iter().map(read).collect::<Result<_>>()?))
    }

    /// Names of the keys, the current one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(id, _)| id.as_str())
    }

    /// Name of the key that wraps new data keys.
    ///
    /// # Errors
    /// Returns [`SealError::NoMaster`] when none is configured.
    pub fn current(&self) -> Result<&str> {
        self.names().next().ok_or(SealError::NoMaster)
    }

    fn of(&self, id: &str) -> Result<&RandomizedNonceKey> {
        let found = self.0.iter().find(|(name, _)| name == id);
        found.map(|(_, key)| key).ok_or_else(|| SealError::UnknownMaster(id.to_owned()))
    }

    fn wrap(&self, secret: &[u8; 32], id: &str, channel: &str) -> Result<Wrapped> {
        let master_id = self.current()?.to_owned();
        let (nonce, ciphertext) = gcm_seal(self.of(&master_id)?, &bound_data_key(&master_id, id, channel), secret)?;
        let wrapped = base64(&[&nonce[..], &ciphertext].concat());
        Ok(Wrapped { id: id.to_owned(), channel: channel.to_owned(), master_id, wrapped })
    }

    fn secret(&self, wrapped: &Wrapped) -> Result<Zeroizing<[u8; 32]>> {
        let master = self.of(&wrapped.master_id)?;
        let aad = bound_data_key(&wrapped.master_id, &wrapped.id, &wrapped.channel);
        let bytes = unbase64(&wrapped.wrapped).unwrap_or_default();
        let opened = bytes.split_at_checked(NONCE_LEN).and_then(|(nonce, text)| gcm_open(master, &aad, nonce, text));
        let plain = opened.ok_or_else(|| SealError::Tampered(wrapped.id.clone()))?;
        let secret = plain.as_slice().try_into().map_err(|_| SealError::Tampered(wrapped.id.clone()))?;
        Ok(Zeroizing::new(secret))
    }

    /// Generate a data key. Returns it with its wrapped form.
    ///
    /// # Errors
    /// Returns [`SealError::NoMaster`] when no master key is configured.
    pub fn draw(&self, id: &str, channel: &str) -> Result<(DataKey, Wrapped)> {
        let mut secret = Zeroizing::new([0u8; 32]);
        fill(&mut *secret).map_err(|_| SealError::Crypto("randomness"))?;
        let wrapped = self.wrap(&secret, id, channel)?;
        Ok((DataKey { id: id.to_owned(), key: gcm(&secret)? }, wrapped))
    }

    /// Unwrap a stored data key.
    ///
    /// # Errors
    /// Returns [`SealError::UnknownMaster`] or [`SealError::Tampered`].
    pub fn unwrap(&self, wrapped: &Wrapped) -> Result<DataKey> {
        Ok(DataKey { id: wrapped.id.clone(), key: gcm(&*self.secret(wrapped)?)? })
    }

    /// Wrap a data key by the current master key.
    ///
    /// # Errors
    /// Same as [`Masters::unwrap`].
    pub fn rewrap(&self, wrapped: &Wrapped) -> Result<Wrapped> {
        self.wrap(&*self.secret(wrapped)?, &wrapped.id, &wrapped.channel)
    }
}

impl DataKey {
    /// Encrypt content.
    ///
    /// # Errors
    /// Returns [`SealError::Crypto`] when encryption fails.
    pub fn seal(&self, bound: &Bound<'_>, content: &[u8]) -> Result<AtRest> {
        let (nonce, ciphertext) = gcm_seal(&self.key, &bound_at_rest(bound), content)?;
        Ok(AtRest { key_id: self.id.clone(), nonce: base64(&nonce), ciphertext: base64(&ciphertext) })
    }

    /// Decrypt content.
    ///
    /// # Errors
    /// Returns [`SealError::Tampered`] when it was altered.
    pub fn open(&self, bound: &Bound<'_>, sealed: &AtRest) -> Result<Zeroizing<Vec<u8>>> {
        let opened = unbase64(&sealed.nonce)
            .zip(unbase64(&sealed.ciphertext))
            .and_then(|(nonce, ciphertext)| gcm_open(&self.key, &bound_at_rest(bound), &nonce, &ciphertext));
        opened.ok_or_else(|| SealError::Tampered(bound.message_id.to_owned()))
    }
}

#[cfg(test)]
mod tests;
