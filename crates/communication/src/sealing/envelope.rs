//! Envelopes: content that is sealed to a recipient's public key, by its sender or by this service on arrival. Only the
//! recipient, who has the private key, opens one.

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
    codec::{base64, bound_to_recipient, unbase64},
    error::{Result, SealError},
    model::{Encryption, KeyKind},
};

/// The suite of HPKE that is spoken here, as an envelope names it.
pub const HPKE_SUITE: &str = "DHKEM(X25519,HKDF-SHA256)/HKDF-SHA256/AES-256-GCM";
/// The same of RSA.
pub const RSA_SUITE: &str = "RSA-OAEP-SHA256";
/// The same of AES under a key that RSA seals.
pub const HYBRID_SUITE: &str = "RSA-OAEP-SHA256/AES-256-GCM";
/// The least an RSA key may have.
const RSA_BITS: usize = 2048;
/// What stands before the 32 bytes of an X25519 key in DER (RFC 8410).
const X25519_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];

/// Content that is sealed to a recipient's key. Bytes are base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Envelope {
    /// RFC 9180, base mode, single shot; what the message is bound to is `info`, and `aad` is empty (section 8.1).
    Hpke {
        /// [`HPKE_SUITE`].
        suite: String,
        /// The recipient's key.
        key_id: String,
        /// The encapsulated key, 32 bytes.
        enc: String,
        /// Ciphertext and tag.
        ciphertext: String,
    },
    /// RSAES-OAEP, with what the message is bound to as its label.
    Rsa {
        /// [`RSA_SUITE`].
        suite: String,
        /// The recipient's key.
        key_id: String,
        /// As long as the key.
        ciphertext: String,
    },
    /// AES-256-GCM under a key of its own.
    Hybrid {
        /// [`HYBRID_SUITE`].
        suite: String,
        /// The recipient's key.
        key_id: String,
        /// The AES key under RSAES-OAEP.
        wrapped_key: String,
        /// 12 bytes.
        nonce: String,
        /// Ciphertext and tag.
        ciphertext: String,
    },
}

impl Envelope {
    /// The envelope that content is; none: it is no envelope. One has a single member, `hpke`, `rsa` or `hybrid`, which is an
    /// object with a `ciphertext`.
    ///
    /// # Errors
    /// [`SealError::Invalid`] when it is meant to be one and is not well-formed.
    pub fn of(content: &Value) -> Result<Option<Self>> {
        let Some(members) = content.as_object().filter(|members| members.len() == 1) else { return Ok(None) };
        let Some((kind, inside)) = members.iter().next() else { return Ok(None) };
        let Some(kind) = ["hpke", "rsa", "hybrid"].into_iter().find(|known| known == kind) else { return Ok(None) };
        if inside.get("ciphertext").is_none() {
            return Ok(None);
        }
        let refused = |message: String| SealError::invalid(&["content", kind], message);
        let read: Self = serde_json::from_value(content.clone()).map_err(|error| refused(error.to_string()))?;
        read.check().map_err(|(member, message)| SealError::invalid(&["content", kind, member], message))?;
        Ok(Some(read))
    }

    /// Is its form good? What is in it nobody here can tell.
    fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        let (suite, good) = match self {
            Self::Hpke { suite, .. } => (suite, HPKE_SUITE),
            Self::Rsa { suite, .. } => (suite, RSA_SUITE),
            Self::Hybrid { suite, .. } => (suite, HYBRID_SUITE),
        };
        if suite != good {
            return Err(("suite", format!("should be {good}")));
        }
        let bytes = |member: &'static str, text: &str, good: &str, fits: &dyn Fn(usize) -> bool| match unbase64(text) {
            Some(bytes) if fits(bytes.len()) => Ok(()),
            _ => Err((member, format!("should be {good} in base64"))),
        };
        let tagged = |text: &str| bytes("ciphertext", text, "at least 16 bytes", &|length| length >= 16);
        let as_key = |member: &'static str, text: &str| {
            bytes(member, text, "as many bytes as an RSA key of 2048 to 8192 bits has", &|length| {
                (RSA_BITS / 8..=1024).contains(&length)
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

    /// The recipient's key.
    pub fn key_id(&self) -> &str {
        match self {
            Self::Hpke { key_id, .. } | Self::Rsa { key_id, .. } | Self::Hybrid { key_id, .. } => key_id,
        }
    }

    /// By what it is sealed.
    pub fn encryption(&self) -> Encryption {
        match self {
            Self::Hpke { .. } => Encryption::Hpke,
            Self::Rsa { .. } => Encryption::Rsa,
            Self::Hybrid { .. } => Encryption::Hybrid,
        }
    }

    /// What kind of key opens it.
    pub fn needs(&self) -> KeyKind {
        match self {
            Self::Hpke { .. } => KeyKind::X25519,
            Self::Rsa { .. } | Self::Hybrid { .. } => KeyKind::Rsa,
        }
    }
}

/// A public key that content can be sealed to.
#[derive(Clone, Debug)]
pub struct PublicKey {
    kind: KeyKind,
    /// 32 bytes, or DER.
    bytes: Vec<u8>,
}

impl PublicKey {
    /// From base64, or PEM. X25519 as 32 bytes or DER, RSA as DER.
    ///
    /// # Errors
    /// [`SealError::Invalid`] for what is no such key, or an RSA key of fewer than 2048 or more than 8192 bits.
    pub fn read(kind: KeyKind, text: &str) -> Result<Self> {
        let refused = |message: &str| SealError::invalid(&["public_key"], message);
        let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let bytes = unbase64(&body).ok_or_else(|| refused("should be base64, or PEM"))?;
        let key = match kind {
            KeyKind::X25519 => Self { kind, bytes: bytes.strip_prefix(&X25519_DER).unwrap_or(&bytes).to_vec() },
            KeyKind::Rsa => Self { kind, bytes },
        };
        match kind {
            // A point of small order gives everybody the same secret; sealing to it fails.
            KeyKind::X25519 if key.bytes.len() != 32 || key.hpke(b"", b"").is_err() => {
                Err(refused("should be an X25519 public key: 32 bytes"))
            }
            KeyKind::Rsa if key.rsa().is_err() => {
                Err(refused("should be an RSA public key of 2048 to 8192 bits, as SubjectPublicKeyInfo"))
            }
            KeyKind::X25519 | KeyKind::Rsa => Ok(key),
        }
    }

    /// As it was stored, which was read before.
    ///
    /// # Errors
    /// [`SealError::Crypto`] when it is not base64.
    pub fn stored(kind: KeyKind, text: &str) -> Result<Self> {
        Ok(Self { kind, bytes: unbase64(text).ok_or(SealError::Crypto("a stored public key is no base64"))? })
    }

    /// What it is for.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// In base64.
    pub fn text(&self) -> String {
        base64(&self.bytes)
    }

    /// The first 32 hex digits of the key's SHA-256.
    pub fn id(&self) -> String {
        hex::encode(&Sha256::digest(&self.bytes)[..16])
    }

    fn rsa(&self) -> Result<OaepPublicEncryptingKey> {
        let failed = |_| SealError::Crypto("an RSA public key is not good");
        let key = PublicEncryptingKey::from_der(&self.bytes).map_err(failed)?;
        if key.key_size_bits() < RSA_BITS {
            return Err(SealError::Crypto("an RSA public key is too short"));
        }
        OaepPublicEncryptingKey::new(key).map_err(|_| SealError::Crypto("an RSA public key is not good"))
    }

    fn hpke(&self, info: &[u8], content: &[u8]) -> Result<(EncapsulatedSecret, Vec<u8>)> {
        let key = HpkePublicKey(self.bytes.clone());
        DH_KEM_X25519_HKDF_SHA256_AES_256.seal(info, b"", content, &key).map_err(|_| SealError::Crypto("HPKE"))
    }

    /// Seal content, which is bound to the message's id, sender and recipient. An RSA key seals by `rsa` itself where that is
    /// asked for, else a key that AES-256-GCM uses.
    ///
    /// # Errors
    /// [`SealError::Invalid`] for content that is too long for RSA itself.
    pub fn seal(
        &self,
        by: Encryption,
        (message_id, sender, recipient): (&str, &str, &str),
        content: &Value,
    ) -> Result<Envelope> {
        let bound = bound_to_recipient(message_id, sender, recipient);
        let content = Zeroizing::new(serde_json::to_vec(content).map_err(|_| SealError::Crypto("no JSON"))?);
        let key_id = self.id();
        match (self.kind, by) {
            (KeyKind::X25519, _) => {
                let (enc, ciphertext) = self.hpke(&bound, &content)?;
                let (enc, ciphertext) = (base64(&enc.0), base64(&ciphertext));
                Ok(Envelope::Hpke { suite: HPKE_SUITE.to_owned(), key_id, enc, ciphertext })
            }
            (KeyKind::Rsa, Encryption::Rsa) => {
                let key = self.rsa()?;
                let most = key.max_plaintext_size(&OAEP_SHA256_MGF1SHA256);
                if content.len() > most {
                    let message =
                        format!("rsa takes {most} bytes with this key, the content has {}: use hybrid", content.len());
                    return Err(SealError::invalid(&["content"], message));
                }
                let ciphertext = base64(&oaep(&key, &content, &bound)?);
                Ok(Envelope::Rsa { suite: RSA_SUITE.to_owned(), key_id, ciphertext })
            }
            (KeyKind::Rsa, _) => {
                let mut secret = Zeroizing::new([0u8; 32]);
                fill(&mut *secret).map_err(|_| SealError::Crypto("randomness"))?;
                let wrapped_key = base64(&oaep(&self.rsa()?, &*secret, &bound)?);
                let (nonce, ciphertext) = gcm_seal(&gcm(&secret)?, &bound, &content)?;
                let (nonce, ciphertext) = (base64(&nonce), base64(&ciphertext));
                Ok(Envelope::Hybrid { suite: HYBRID_SUITE.to_owned(), key_id, wrapped_key, nonce, ciphertext })
            }
        }
    }
}

fn oaep(key: &OaepPublicEncryptingKey, plain: &[u8], label: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![0; key.ciphertext_size()];
    let sealed = key.encrypt(&OAEP_SHA256_MGF1SHA256, plain, &mut out, Some(label));
    Ok(sealed.map_err(|_| SealError::Crypto("RSA-OAEP"))?.to_vec())
}

/// A key of AES-256-GCM. The library draws each nonce.
pub(super) fn gcm(secret: &[u8; 32]) -> Result<RandomizedNonceKey> {
    RandomizedNonceKey::new(&AES_256_GCM, secret).map_err(|_| SealError::Crypto("AES-256-GCM"))
}

/// Nonce, and ciphertext with its tag.
pub(super) fn gcm_seal(key: &RandomizedNonceKey, aad: &[u8], plain: &[u8]) -> Result<([u8; NONCE_LEN], Vec<u8>)> {
    let mut text = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
    text.extend_from_slice(plain);
    let nonce =
        key.seal_in_place_append_tag(Aad::from(aad), &mut text).map_err(|_| SealError::Crypto("AES-256-GCM"))?;
    Ok((*nonce.as_ref(), text))
}

/// The plain text; none: the ciphertext or what it is bound to is not what was sealed.
pub(super) fn gcm_open(
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

/// A peer's own X25519 key.
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// From its 32 bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        fill(&mut *bytes).map_err(|_| SealError::Crypto("randomness"))?;
        Ok(Self(bytes))
    }

    /// The 32 bytes, to be kept in a file.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half.
    ///
    /// # Errors
    /// When these bytes are no key.
    pub fn public_key(&self) -> Result<PublicKey> {
        let failed = || SealError::Crypto("an X25519 key is not good");
        let secret = agreement::PrivateKey::from_private_key(&agreement::X25519, &*self.0).map_err(|_| failed())?;
        let public = secret.compute_public_key().map_err(|_| failed())?;
        Ok(PublicKey { kind: KeyKind::X25519, bytes: public.as_ref().to_vec() })
    }

    /// Open an envelope: its content, if it was sealed to this key for this message.
    ///
    /// # Errors
    /// [`SealError::Tampered`] when it does not open; [`SealError::Invalid`] for one that needs another kind of key.
    pub fn open(&self, envelope: &Envelope, (message_id, sender, recipient): (&str, &str, &str)) -> Result<Value> {
        let Envelope::Hpke { enc, ciphertext, .. } = envelope else {
            return Err(SealError::invalid(&["content"], "was not sealed to an X25519 key"));
        };
        let tampered = || SealError::Tampered(message_id.to_owned());
        let (enc, ciphertext) = unbase64(enc).zip(unbase64(ciphertext)).ok_or_else(tampered)?;
        let bound = bound_to_recipient(message_id, sender, recipient);
        let plain = open_hpke(&self.0, &bound, enc, &ciphertext).ok_or_else(tampered)?;
        serde_json::from_slice(&plain).map_err(|_| tampered())
    }
}

fn open_hpke(secret: &[u8; 32], info: &[u8], enc: Vec<u8>, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let secret = HpkePrivateKey::from(secret.to_vec());
    let opened = DH_KEM_X25519_HKDF_SHA256_AES_256.open(&EncapsulatedSecret(enc), info, b"", ciphertext, &secret);
    opened.ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests;
