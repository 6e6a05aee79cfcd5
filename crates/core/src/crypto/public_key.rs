//! Ed25519 public keys, which signatures are verified with.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::VerifyingKey;

use super::{KeyFileError, secret_file::parse_hex_key};

/// An Ed25519 public key with its key id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ed25519PublicKey {
    key: VerifyingKey,
    id: String,
}

impl Ed25519PublicKey {
    /// Parse 64 hex digits.
    ///
    /// # Errors
    /// Same as [`Ed25519PublicKey::from_bytes`]; returns [`KeyFileError::InvalidHex`] when the text is not 64 hex digits.
    pub fn from_hex(text: &str) -> Result<Self, KeyFileError> {
        Self::from_bytes(&parse_hex_key(text)?)
    }

    /// Read 32 bytes. Points of small order are refused, because they verify signatures over any message.
    ///
    /// # Errors
    /// Returns [`KeyFileError::InvalidPublicKey`] when the bytes are no acceptable Ed25519 public key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyFileError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyFileError::InvalidPublicKey)?;
        if key.is_weak() { Err(KeyFileError::InvalidPublicKey) } else { Ok(Self::new(key)) }
    }

    pub(super) fn new(key: VerifyingKey) -> Self {
        Self { id: URL_SAFE_NO_PAD.encode(key.as_bytes()), key }
    }

    /// The key in base64url without padding, which signatures carry as `key_id`.
    pub fn key_id(&self) -> &str {
        &self.id
    }

    /// The 32 bytes of the key as 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.key.as_bytes())
    }

    /// The 32 bytes of the key.
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Verify `signature` over `message` strictly: signatures that some implementations accept and others refuse are
    /// refused.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        signature.try_into().is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }

    pub(super) fn inner(&self) -> &VerifyingKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_and_broken_public_keys_are_refused() {
        let neutral = format!("01{}", "00".repeat(31));
        assert!(matches!(Ed25519PublicKey::from_hex(&neutral), Err(KeyFileError::InvalidPublicKey)));
        assert!(matches!(Ed25519PublicKey::from_hex("12"), Err(KeyFileError::InvalidHex)));
        assert!(matches!(Ed25519PublicKey::from_hex(&"é".repeat(32)), Err(KeyFileError::InvalidHex)));
    }
}
