//! Master keys, which wrap data keys, and data keys, which encrypt content. Master keys come from the configuration, so
//! that a copy of the database alone decrypts nothing.

use aws_lc_rs::{
    aead::{NONCE_LEN, RandomizedNonceKey},
    rand::fill,
};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{
    codec::{at_rest_binding, data_key_binding, decode_base64, encode_base64},
    envelope::{gcm_decrypt, gcm_encrypt, gcm_key},
    error::{EncryptionError, Result},
    model::CiphertextBinding,
};
use am_core::ids::{ChannelId, DataKeyId, MasterKeyId};

/// The configured master keys.
pub struct MasterKeys(Vec<(MasterKeyId, RandomizedNonceKey)>);

/// A wrapped data key, as stored.
pub struct WrappedDataKey {
    /// Id of the data key.
    pub id: DataKeyId,
    /// Id of its channel.
    pub channel: ChannelId,
    /// Name of the master key that wraps it.
    pub master_id: MasterKeyId,
    /// Nonce, ciphertext and tag in base64.
    pub wrapped: String,
}

/// Data key, which encrypts the content of a channel.
pub struct DataKey {
    /// Id of the data key.
    pub id: DataKeyId,
    key: RandomizedNonceKey,
}

/// Content encrypted at rest. Bytes are base64.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct AtRestCiphertext {
    /// Id of the channel's data key.
    pub key_id: DataKeyId,
    /// Nonce, 12 bytes.
    pub nonce: String,
    /// Ciphertext with tag.
    pub ciphertext: String,
}

impl MasterKeys {
    /// Create master keys from names and base64 keys; the first wraps new data keys.
    ///
    /// # Errors
    /// Returns [`EncryptionError::CryptoFailed`] for an invalid key, which the configuration rules out.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, &'a SecretString)>) -> Result<Self> {
        let read = |(id, text): (&'a str, &'a SecretString)| {
            let bytes = Zeroizing::new(decode_base64(text.expose_secret()).unwrap_or_default());
            let bytes: [u8; 32] = bytes
                .as_slice()
                .try_into()
                .map_err(|_| EncryptionError::CryptoFailed("a master key is not 32 bytes"))?;
            Ok((id.into(), gcm_key(&Zeroizing::new(bytes))?))
        };
        Ok(Self(keys.into_iter().map(read).collect::<Result<_>>()?))
    }

    /// Names of the keys, the current one first.
    pub fn names(&self) -> impl Iterator<Item = &MasterKeyId> {
        self.0.iter().map(|(id, _)| id)
    }

    /// Name of the key that wraps new data keys.
    ///
    /// # Errors
    /// Returns [`EncryptionError::NoMasterKey`] when none is configured.
    pub fn current(&self) -> Result<&MasterKeyId> {
        self.names().next().ok_or(EncryptionError::NoMasterKey)
    }

    fn of(&self, id: &MasterKeyId) -> Result<&RandomizedNonceKey> {
        let found = self.0.iter().find(|(name, _)| name == id);
        found.map(|(_, key)| key).ok_or_else(|| EncryptionError::UnknownMasterKey(id.clone()))
    }

    fn wrap(&self, secret: &[u8; 32], id: &DataKeyId, channel: &ChannelId) -> Result<WrappedDataKey> {
        let master_id = self.current()?.clone();
        let (nonce, ciphertext) =
            gcm_encrypt(self.of(&master_id)?, &data_key_binding(&master_id, id, channel), secret)?;
        let wrapped = encode_base64(&[&nonce[..], &ciphertext].concat());
        Ok(WrappedDataKey { id: id.clone(), channel: channel.clone(), master_id, wrapped })
    }

    fn secret(&self, wrapped: &WrappedDataKey) -> Result<Zeroizing<[u8; 32]>> {
        let master = self.of(&wrapped.master_id)?;
        let aad = data_key_binding(&wrapped.master_id, &wrapped.id, &wrapped.channel);
        let bytes = decode_base64(&wrapped.wrapped).unwrap_or_default();
        let opened = bytes.split_at_checked(NONCE_LEN).and_then(|(nonce, text)| gcm_decrypt(master, &aad, nonce, text));
        let plain = opened.ok_or_else(|| EncryptionError::Tampered(wrapped.id.to_string()))?;
        let secret = plain.as_slice().try_into().map_err(|_| EncryptionError::Tampered(wrapped.id.to_string()))?;
        Ok(Zeroizing::new(secret))
    }

    /// Generate a data key. Returns it with its wrapped form.
    ///
    /// # Errors
    /// Returns [`EncryptionError::NoMasterKey`] when no master key is configured.
    pub fn draw(&self, id: &DataKeyId, channel: &ChannelId) -> Result<(DataKey, WrappedDataKey)> {
        let mut secret = Zeroizing::new([0u8; 32]);
        fill(&mut *secret).map_err(|_| EncryptionError::CryptoFailed("randomness"))?;
        let wrapped = self.wrap(&secret, id, channel)?;
        Ok((DataKey { id: id.clone(), key: gcm_key(&secret)? }, wrapped))
    }

    /// Unwrap a stored data key.
    ///
    /// # Errors
    /// Returns [`EncryptionError::UnknownMasterKey`] or [`EncryptionError::Tampered`].
    pub fn unwrap(&self, wrapped: &WrappedDataKey) -> Result<DataKey> {
        Ok(DataKey { id: wrapped.id.clone(), key: gcm_key(&*self.secret(wrapped)?)? })
    }

    /// Wrap a data key by the current master key.
    ///
    /// # Errors
    /// Same as [`MasterKeys::unwrap`].
    pub fn rewrap_data_key(&self, wrapped: &WrappedDataKey) -> Result<WrappedDataKey> {
        self.wrap(&*self.secret(wrapped)?, &wrapped.id, &wrapped.channel)
    }
}

impl DataKey {
    /// Encrypt content.
    ///
    /// # Errors
    /// Returns [`EncryptionError::CryptoFailed`] when encryption fails.
    pub fn seal(&self, bound: &CiphertextBinding<'_>, content: &[u8]) -> Result<AtRestCiphertext> {
        let (nonce, ciphertext) = gcm_encrypt(&self.key, &at_rest_binding(bound), content)?;
        Ok(AtRestCiphertext {
            key_id: self.id.clone(),
            nonce: encode_base64(&nonce),
            ciphertext: encode_base64(&ciphertext),
        })
    }

    /// Decrypt content.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Tampered`] when it was altered.
    pub fn open(&self, bound: &CiphertextBinding<'_>, sealed: &AtRestCiphertext) -> Result<Zeroizing<Vec<u8>>> {
        let opened = decode_base64(&sealed.nonce)
            .zip(decode_base64(&sealed.ciphertext))
            .and_then(|(nonce, ciphertext)| gcm_decrypt(&self.key, &at_rest_binding(bound), &nonce, &ciphertext));
        opened.ok_or_else(|| EncryptionError::Tampered(bound.message_id.to_string()))
    }
}

#[cfg(test)]
mod tests;
