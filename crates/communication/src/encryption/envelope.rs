//! Envelopes: content encrypted to a recipient's public key, by its sender or by this service on arrival. Only the
//! recipient, who has the private key, can open one.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    agreement,
    rand::fill,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    codec::{decode_base64, encode_base64, recipient_binding},
    error::{EncryptionError, Result},
    model::{EnvelopeBinding, KeyKind, MessageEncryption},
};
use am_core::{
    crypto::{Ed25519PublicKey, Signer},
    ids::AgentKeyId,
    json_number::{JsonReadError, read_json},
};

/// HPKE cipher suite, as envelopes name it.
pub const HPKE_SUITE: &str = "DHKEM(X25519,HKDF-SHA256)/HKDF-SHA256/AES-256-GCM";
/// RSA cipher suite, as envelopes name it.
pub const RSA_SUITE: &str = "RSA-OAEP-SHA256";
/// Cipher suite of AES under a key encrypted by RSA, as envelopes name it.
pub const HYBRID_SUITE: &str = "RSA-OAEP-SHA256/AES-256-GCM";
/// Minimum length of an RSA key in bits.
const MIN_RSA_BITS: usize = 2048;
/// DER prefix of a 32-byte X25519 key (RFC 8410).
const X25519_DER_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];

/// Content encrypted to a recipient's key. Bytes are base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentEnvelope {
    /// HPKE (RFC 9180), base mode, single shot. `info` is the data that the message is bound to, `aad` is empty
    /// (section 8.1).
    Hpke {
        /// Cipher suite, [`HPKE_SUITE`].
        suite: String,
        /// Id of the recipient's key.
        key_id: AgentKeyId,
        /// Encapsulated key, 32 bytes.
        enc: String,
        /// Ciphertext with tag.
        ciphertext: String,
    },
    /// RSAES-OAEP; the label is the data that the message is bound to.
    Rsa {
        /// Cipher suite, [`RSA_SUITE`].
        suite: String,
        /// Id of the recipient's key.
        key_id: AgentKeyId,
        /// Ciphertext, as long as the key.
        ciphertext: String,
    },
    /// AES-256-GCM under a key of its own, which is encrypted by RSA.
    Hybrid {
        /// Cipher suite, [`HYBRID_SUITE`].
        suite: String,
        /// Id of the recipient's key.
        key_id: AgentKeyId,
        /// AES key, encrypted by RSAES-OAEP.
        wrapped_key: String,
        /// Nonce, 12 bytes.
        nonce: String,
        /// Ciphertext with tag.
        ciphertext: String,
    },
}

impl ContentEnvelope {
    /// Parse content as an envelope; `None` when it is not one. An envelope has a single member, `hpke`, `rsa` or
    /// `hybrid`, which is an object with a `ciphertext`.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Invalid`] when it is an envelope but malformed.
    pub fn from_content(content: &Value) -> Result<Option<Self>> {
        let Some(members) = content.as_object().filter(|members| members.len() == 1) else { return Ok(None) };
        let Some((kind, inside)) = members.iter().next() else { return Ok(None) };
        let Some(kind) = ["hpke", "rsa", "hybrid"].into_iter().find(|known| known == kind) else { return Ok(None) };
        if inside.get("ciphertext").is_none() {
            return Ok(None);
        }
        let refused = |message: String| EncryptionError::invalid(&["content", kind], message);
        let read: Self = serde_json::from_value(content.clone()).map_err(|error| refused(error.to_string()))?;
        read.check().map_err(|(member, message)| EncryptionError::invalid(&["content", kind, member], message))?;
        Ok(Some(read))
    }

    /// Check the form. The ciphertext can't be checked here.
    fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        let (suite, good) = match self {
            Self::Hpke { suite, .. } => (suite, HPKE_SUITE),
            Self::Rsa { suite, .. } => (suite, RSA_SUITE),
            Self::Hybrid { suite, .. } => (suite, HYBRID_SUITE),
        };
        if suite != good {
            return Err(("suite", format!("should be {good}")));
        }
        let bytes =
            |member: &'static str, text: &str, good: &str, fits: &dyn Fn(usize) -> bool| match decode_base64(text) {
                Some(bytes) if fits(bytes.len()) => Ok(()),
                _ => Err((member, format!("should be {good} in base64"))),
            };
        let tagged = |text: &str| bytes("ciphertext", text, "at least 16 bytes", &|length| length >= 16);
        let as_key = |member: &'static str, text: &str| {
            bytes(member, text, "as many bytes as an RSA key of 2048 to 8192 bits has", &|length| {
                (MIN_RSA_BITS / 8..=1024).contains(&length)
            })
        };
        match self {
            Self::Hpke { enc, ciphertext, .. } => {
                bytes("enc", enc, "32 bytes", &|length| length == 32).and_then(|()| tagged(ciphertext))
            }
            Self::Rsa { ciphertext, .. } => as_key("ciphertext", ciphertext),
            Self::Hybrid { wrapped_key, nonce, ciphertext, .. } => as_key("wrapped_key", wrapped_key)
                .and_then(|()| bytes("nonce", nonce, "12 bytes", &|length| length == NONCE_LEN))
                .and_then(|()| tagged(ciphertext)),
        }
    }

    /// Id of the recipient's key.
    pub fn key_id(&self) -> &AgentKeyId {
        match self {
            Self::Hpke { key_id, .. } | Self::Rsa { key_id, .. } | Self::Hybrid { key_id, .. } => key_id,
        }
    }

    /// Encryption of the envelope.
    pub fn encryption(&self) -> MessageEncryption {
        match self {
            Self::Hpke { .. } => MessageEncryption::Hpke,
            Self::Rsa { .. } => MessageEncryption::Rsa,
            Self::Hybrid { .. } => MessageEncryption::Hybrid,
        }
    }

    /// Kind of the key that opens the envelope.
    pub fn required_key_kind(&self) -> KeyKind {
        match self {
            Self::Hpke { .. } => KeyKind::X25519,
            Self::Rsa { .. } | Self::Hybrid { .. } => KeyKind::Rsa,
        }
    }
}

/// DER prefix of a 32-byte Ed25519 key (RFC 8410).
const ED25519_DER_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key that content can be encrypted to, or that signatures are verified by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientPublicKey {
    kind: KeyKind,
    /// 32 bytes of X25519 or Ed25519, or DER of RSA.
    bytes: Vec<u8>,
}

impl RecipientPublicKey {
    /// Parse base64 or PEM. X25519 and Ed25519 keys are 32 bytes or DER, RSA keys are DER.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Invalid`] for a malformed key, or an RSA key of fewer than 2048 or more than 8192 bits.
    pub fn parse(kind: KeyKind, text: &str) -> Result<Self> {
        let refused = |message: &str| EncryptionError::invalid(&["public_key"], message);
        let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let bytes = decode_base64(&body).ok_or_else(|| refused("should be base64, or PEM"))?;
        let key = match kind {
            KeyKind::X25519 => Self { kind, bytes: bytes.strip_prefix(&X25519_DER_PREFIX).unwrap_or(&bytes).to_vec() },
            KeyKind::Ed25519 => {
                Self { kind, bytes: bytes.strip_prefix(&ED25519_DER_PREFIX).unwrap_or(&bytes).to_vec() }
            }
            KeyKind::Rsa => Self { kind, bytes },
        };
        match kind {
            // Points of small order give every sender the same secret; encrypting to them fails.
            KeyKind::X25519 if key.bytes.len() != 32 || key.hpke_encrypt(b"", b"").is_err() => {
                Err(refused("should be an X25519 public key: 32 bytes"))
            }
            KeyKind::Rsa if key.rsa().is_err() => {
                Err(refused("should be an RSA public key of 2048 to 8192 bits, as SubjectPublicKeyInfo"))
            }
            // By keys of small order one signature is good for every message.
            KeyKind::Ed25519
                if !<[u8; 32]>::try_from(&*key.bytes).is_ok_and(|key| Ed25519PublicKey::from_bytes(&key).is_ok()) =>
            {
                Err(refused("should be an Ed25519 public key: 32 bytes"))
            }
            KeyKind::X25519 | KeyKind::Rsa | KeyKind::Ed25519 => Ok(key),
        }
    }

    /// The public key of a private key that signs.
    pub fn of_signer(signer: &Signer) -> Self {
        Self { kind: KeyKind::Ed25519, bytes: signer.public_key().bytes().to_vec() }
    }

    /// Parse the stored form of a key that was validated before.
    ///
    /// # Errors
    /// Returns [`EncryptionError::CryptoFailed`] when it is not base64.
    pub fn from_stored(kind: KeyKind, text: &str) -> Result<Self> {
        Ok(Self {
            kind,
            bytes: decode_base64(text).ok_or(EncryptionError::CryptoFailed("a stored public key is not base64"))?,
        })
    }

    /// Kind of the key.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key in base64.
    pub fn text(&self) -> String {
        encode_base64(&self.bytes)
    }

    /// Id of the key: the first 32 hex digits of its SHA-256.
    pub fn id(&self) -> AgentKeyId {
        hex::encode(&Sha256::digest(&self.bytes)[..16]).into()
    }

    pub(super) fn rsa(&self) -> Result<OaepPublicEncryptingKey> {
        let failed = |_| EncryptionError::CryptoFailed("an RSA public key is invalid");
        let key = PublicEncryptingKey::from_der(&self.bytes).map_err(failed)?;
        if key.key_size_bits() < MIN_RSA_BITS {
            return Err(EncryptionError::CryptoFailed("an RSA public key is too short"));
        }
        OaepPublicEncryptingKey::new(key).map_err(|_| EncryptionError::CryptoFailed("an RSA public key is invalid"))
    }

    pub(super) fn hpke_encrypt(&self, info: &[u8], content: &[u8]) -> Result<(EncapsulatedSecret, Vec<u8>)> {
        let key = HpkePublicKey(self.bytes.clone());
        DH_KEM_X25519_HKDF_SHA256_AES_256
            .seal(info, b"", content, &key)
            .map_err(|_| EncryptionError::CryptoFailed("HPKE"))
    }

    /// Encrypt content, bound to the message's id, sender and recipient. An RSA key encrypts the content directly if
    /// `by` is `rsa`, otherwise a key for AES-256-GCM.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Invalid`] for content that is too long for direct RSA.
    pub fn seal(&self, by: MessageEncryption, bound: &EnvelopeBinding<'_>, content: &Value) -> Result<ContentEnvelope> {
        let bound = recipient_binding(bound);
        let content =
            Zeroizing::new(serde_json::to_vec(content).map_err(|_| EncryptionError::CryptoFailed("no JSON"))?);
        let key_id = self.id();
        match (self.kind, by) {
            (KeyKind::Ed25519, _) => Err(EncryptionError::CryptoFailed("nothing is encrypted to an Ed25519 key")),
            (KeyKind::X25519, _) => {
                let (enc, ciphertext) = self.hpke_encrypt(&bound, &content)?;
                let (enc, ciphertext) = (encode_base64(&enc.0), encode_base64(&ciphertext));
                Ok(ContentEnvelope::Hpke { suite: HPKE_SUITE.to_owned(), key_id, enc, ciphertext })
            }
            (KeyKind::Rsa, MessageEncryption::Rsa) => {
                let key = self.rsa()?;
                let most = key.max_plaintext_size(&OAEP_SHA256_MGF1SHA256);
                if content.len() > most {
                    let message =
                        format!("rsa takes {most} bytes with this key, the content has {}: use hybrid", content.len());
                    return Err(EncryptionError::invalid(&["content"], message));
                }
                let ciphertext = encode_base64(&oaep_encrypt(&key, &content, &bound)?);
                Ok(ContentEnvelope::Rsa { suite: RSA_SUITE.to_owned(), key_id, ciphertext })
            }
            (KeyKind::Rsa, _) => {
                let mut secret = Zeroizing::new([0u8; 32]);
                fill(&mut *secret).map_err(|_| EncryptionError::CryptoFailed("randomness"))?;
                let wrapped_key = encode_base64(&oaep_encrypt(&self.rsa()?, &*secret, &bound)?);
                let (nonce, ciphertext) = gcm_encrypt(&gcm_key(&secret)?, &bound, &content)?;
                let (nonce, ciphertext) = (encode_base64(&nonce), encode_base64(&ciphertext));
                Ok(ContentEnvelope::Hybrid { suite: HYBRID_SUITE.to_owned(), key_id, wrapped_key, nonce, ciphertext })
            }
        }
    }
}

pub(super) fn oaep_encrypt(key: &OaepPublicEncryptingKey, plain: &[u8], label: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![0; key.ciphertext_size()];
    let sealed = key.encrypt(&OAEP_SHA256_MGF1SHA256, plain, &mut out, Some(label));
    Ok(sealed.map_err(|_| EncryptionError::CryptoFailed("RSA-OAEP"))?.to_vec())
}

/// Create a key of AES-256-GCM. The library generates each nonce.
pub(super) fn gcm_key(secret: &[u8; 32]) -> Result<RandomizedNonceKey> {
    RandomizedNonceKey::new(&AES_256_GCM, secret).map_err(|_| EncryptionError::CryptoFailed("AES-256-GCM"))
}

/// Encrypt; returns the nonce, and the ciphertext with its tag.
pub(super) fn gcm_encrypt(key: &RandomizedNonceKey, aad: &[u8], plain: &[u8]) -> Result<([u8; NONCE_LEN], Vec<u8>)> {
    let mut text = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
    text.extend_from_slice(plain);
    let nonce = key
        .seal_in_place_append_tag(Aad::from(aad), &mut text)
        .map_err(|_| EncryptionError::CryptoFailed("AES-256-GCM"))?;
    Ok((*nonce.as_ref(), text))
}

/// Decrypt; `None` when the ciphertext or the data that it is bound to was altered.
pub(super) fn gcm_decrypt(
    key: &RandomizedNonceKey,
    aad: &[u8],
    nonce: &[u8],
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = Zeroizing::new(ciphertext.to_vec());
    let length = key.open_in_place(nonce, Aad::from(aad), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}

/// X25519 private key of an agent.
pub struct AgentPrivateKey(Zeroizing<[u8; 32]>);

impl AgentPrivateKey {
    /// Create the key from its 32 bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Generate a new key.
    ///
    /// # Errors
    /// Fails when the operating system provides no randomness.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        fill(&mut *bytes).map_err(|_| EncryptionError::CryptoFailed("randomness"))?;
        Ok(Self(bytes))
    }

    /// The 32 bytes, for storage in a file.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public key.
    ///
    /// # Errors
    /// Fails when the bytes are no valid key.
    pub fn public_key(&self) -> Result<RecipientPublicKey> {
        let failed = || EncryptionError::CryptoFailed("an X25519 key is invalid");
        let secret = agreement::PrivateKey::from_private_key(&agreement::X25519, &*self.0).map_err(|_| failed())?;
        let public = secret.compute_public_key().map_err(|_| failed())?;
        Ok(RecipientPublicKey { kind: KeyKind::X25519, bytes: public.as_ref().to_vec() })
    }

    /// Open an envelope that was encrypted to this key for this message.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Tampered`] when it does not open; [`EncryptionError::Invalid`] for one that needs another kind of
    /// key.
    pub fn open(&self, envelope: &ContentEnvelope, bound: &EnvelopeBinding<'_>) -> Result<Value> {
        let ContentEnvelope::Hpke { enc, ciphertext, .. } = envelope else {
            return Err(EncryptionError::invalid(&["content"], "was not encrypted to an X25519 key"));
        };
        let tampered = || EncryptionError::Tampered(bound.message_id.to_string());
        let (enc, ciphertext) = decode_base64(enc).zip(decode_base64(ciphertext)).ok_or_else(tampered)?;
        let bound = recipient_binding(bound);
        let plain = hpke_decrypt(&self.0, &bound, enc, &ciphertext).ok_or_else(tampered)?;
        read_json(&plain).map_err(|error| match error {
            JsonReadError::Number(number) => EncryptionError::invalid(&["content"], number.to_string()),
            JsonReadError::Syntax(_) => tampered(),
        })
    }
}

pub(super) fn hpke_decrypt(
    secret: &[u8; 32],
    info: &[u8],
    enc: Vec<u8>,
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let secret = HpkePrivateKey::from(secret.to_vec());
    let opened = DH_KEM_X25519_HKDF_SHA256_AES_256.open(&EncapsulatedSecret(enc), info, b"", ciphertext, &secret);
    opened.ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests;
