//! Content of a message to several, encrypted once by a key of its own. Each copy has that key, encrypted for its
//! recipient and bound to the copy, so that a copy takes little room whatever the size of its content.

use std::sync::Arc;

use aws_lc_rs::{aead::NONCE_LEN, rand::fill};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    codec::{content_key_binding, decode_base64, encode_base64},
    envelope::{AgentPrivateKey, RecipientPublicKey, gcm_decrypt, gcm_encrypt, gcm_key, hpke_decrypt, oaep_encrypt},
    error::{EncryptionError, Result},
    model::{EnvelopeBinding, KeyKind, MessageEncryption, SharedContent},
};
use am_core::{
    ids::{AgentKeyId, ContentId},
    json_number::{JsonReadError, read_json},
};
use am_db::codec::JsonText;

/// HPKE cipher suite of envelopes whose ciphertext several copies share.
pub const HPKE_SHARED_SUITE: &str = "DHKEM(X25519,HKDF-SHA256)/HKDF-SHA256/AES-256-GCM/shared";
/// RSA cipher suite of envelopes whose ciphertext several copies share.
pub const HYBRID_SHARED_SUITE: &str = "RSA-OAEP-SHA256/AES-256-GCM/shared";
/// Bytes of a content key.
const CONTENT_KEY_LEN: usize = 32;
/// Bytes of a content key that HPKE encrypted: the key and its tag.
const HPKE_WRAPPED_LEN: usize = CONTENT_KEY_LEN + 16;

/// Key of the content of one message.
pub type ContentKey = Zeroizing<[u8; CONTENT_KEY_LEN]>;

/// Content that the copies of a message share, with its key. It is not stored yet.
#[derive(Clone)]
pub struct SharedDraft {
    /// The content as it is stored.
    pub content: Arc<SharedContent>,
    /// Its key; `None` when it is not encrypted.
    pub(super) key: Option<ContentKey>,
}

/// Shared ciphertext as stored. Bytes are base64.
#[derive(Serialize, Deserialize)]
struct SharedCiphertext {
    /// Nonce, 12 bytes.
    nonce: String,
    /// Ciphertext with tag.
    ciphertext: String,
}

impl SharedDraft {
    /// Encrypt content by a new key, or keep it as it is unless `encrypted`.
    pub(super) fn new(id: ContentId, content: &Value, encrypted: bool) -> Result<Self> {
        let no_json = |_| EncryptionError::CryptoFailed("no JSON");
        if !encrypted {
            let stored = JsonText::from_value(content).map_err(no_json)?;
            return Ok(Self { content: Arc::new(SharedContent { id, stored }), key: None });
        }
        let plain = Zeroizing::new(serde_json::to_vec(content).map_err(no_json)?);
        let mut key: ContentKey = Zeroizing::new([0; CONTENT_KEY_LEN]);
        fill(&mut *key).map_err(|_| EncryptionError::CryptoFailed("randomness"))?;
        let (nonce, ciphertext) = gcm_encrypt(&gcm_key(&key)?, b"", &plain)?;
        let text = SharedCiphertext { nonce: encode_base64(&nonce), ciphertext: encode_base64(&ciphertext) };
        let stored = JsonText::from_value(&text).map_err(no_json)?;
        Ok(Self { content: Arc::new(SharedContent { id, stored }), key: Some(key) })
    }
}

/// Decrypt shared content by its key; `None` when either was altered.
fn open_shared(key: &[u8], nonce: &str, ciphertext: &str) -> Option<Zeroizing<Vec<u8>>> {
    let key: ContentKey = Zeroizing::new(key.try_into().ok()?);
    let (nonce, ciphertext) = decode_base64(nonce).zip(decode_base64(ciphertext))?;
    gcm_decrypt(&gcm_key(&key).ok()?, b"", &nonce, &ciphertext)
}

/// Decrypt stored shared content by its key; `None` when either was altered.
pub(super) fn open_stored(key: &[u8], stored: &SharedContent) -> Option<Value> {
    let text: SharedCiphertext = stored.stored.parse().ok().flatten()?;
    serde_json::from_slice(&open_shared(key, &text.nonce, &text.ciphertext)?).ok()
}

/// The key of shared content, encrypted to a recipient's key: what a copy has of its own. Bytes are base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WrappedContentKey {
    /// HPKE (RFC 9180), base mode, single shot. `info` is the data that the key is bound to, `aad` is empty.
    Hpke {
        /// Cipher suite, [`HPKE_SHARED_SUITE`].
        suite: String,
        /// Id of the recipient's key.
        key_id: AgentKeyId,
        /// Encapsulated key, 32 bytes.
        enc: String,
        /// The content's key, encrypted.
        wrapped_key: String,
    },
    /// RSAES-OAEP; the label is the data that the key is bound to.
    Hybrid {
        /// Cipher suite, [`HYBRID_SHARED_SUITE`].
        suite: String,
        /// Id of the recipient's key.
        key_id: AgentKeyId,
        /// The content's key, encrypted.
        wrapped_key: String,
    },
}

/// Envelope of a copy, as its recipient gets it: the wrapped key, and the ciphertext that all copies share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedEnvelope {
    /// The content's key, encrypted to the recipient's.
    pub key: WrappedContentKey,
    nonce: String,
    ciphertext: String,
}

impl WrappedContentKey {
    /// Encrypt the key of shared content to a recipient's key, bound to the copy's id, sender and recipient.
    pub(super) fn wrap(to: &RecipientPublicKey, bound: &EnvelopeBinding<'_>, key: &ContentKey) -> Result<Self> {
        let (bound, key_id) = (content_key_binding(bound), to.id());
        match to.kind() {
            KeyKind::Ed25519 => Err(EncryptionError::CryptoFailed("nothing is encrypted to an Ed25519 key")),
            KeyKind::X25519 => {
                let (enc, wrapped) = to.hpke_encrypt(&bound, &**key)?;
                let (enc, wrapped_key) = (encode_base64(&enc.0), encode_base64(&wrapped));
                Ok(Self::Hpke { suite: HPKE_SHARED_SUITE.to_owned(), key_id, enc, wrapped_key })
            }
            KeyKind::Rsa => {
                let wrapped_key = encode_base64(&oaep_encrypt(&to.rsa()?, &**key, &bound)?);
                Ok(Self::Hybrid { suite: HYBRID_SHARED_SUITE.to_owned(), key_id, wrapped_key })
            }
        }
    }

    /// Id of the recipient's key.
    pub fn key_id(&self) -> &AgentKeyId {
        match self {
            Self::Hpke { key_id, .. } | Self::Hybrid { key_id, .. } => key_id,
        }
    }

    /// Encryption of the key.
    pub fn encryption(&self) -> MessageEncryption {
        match self {
            Self::Hpke { .. } => MessageEncryption::Hpke,
            Self::Hybrid { .. } => MessageEncryption::Hybrid,
        }
    }

    fn is_well_formed(&self) -> bool {
        let long = |text: &str| decode_base64(text).map_or(0, |bytes| bytes.len());
        match self {
            Self::Hpke { enc, wrapped_key, .. } => long(enc) == 32 && long(wrapped_key) == HPKE_WRAPPED_LEN,
            Self::Hybrid { wrapped_key, .. } => (256..=1024).contains(&long(wrapped_key)),
        }
    }
}

impl SharedEnvelope {
    /// Parse content as the envelope of a copy; `None` when it is not one.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Invalid`] when it is one but malformed.
    pub fn from_content(content: &Value) -> Result<Option<Self>> {
        let suites = [("hpke", HPKE_SHARED_SUITE), ("hybrid", HYBRID_SHARED_SUITE)];
        let found = suites.into_iter().find(|(kind, suite)| content[*kind]["suite"] == **suite);
        let Some((kind, _)) = found else { return Ok(None) };
        let refused = |message: String| EncryptionError::invalid(&["content", kind], message);
        let key: WrappedContentKey =
            serde_json::from_value(content.clone()).map_err(|error| refused(error.to_string()))?;
        let text: SharedCiphertext =
            serde_json::from_value(content[kind].clone()).map_err(|error| refused(error.to_string()))?;
        let long = |text: &str| decode_base64(text).map_or(0, |bytes| bytes.len());
        if !key.is_well_formed() || long(&text.nonce) != NONCE_LEN || long(&text.ciphertext) < 16 {
            return Err(refused("has a member that is not as long as its suite says, in base64".to_owned()));
        }
        Ok(Some(Self { key, nonce: text.nonce, ciphertext: text.ciphertext }))
    }

    /// Open the envelope, which was encrypted to this key for this copy.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Tampered`] when it does not open; [`EncryptionError::Invalid`] for one that needs
    /// another kind of key.
    pub fn open(&self, key: &AgentPrivateKey, bound: &EnvelopeBinding<'_>) -> Result<Value> {
        let WrappedContentKey::Hpke { enc, wrapped_key, .. } = &self.key else {
            return Err(EncryptionError::invalid(&["content"], "was not encrypted to an X25519 key"));
        };
        let tampered = || EncryptionError::Tampered(bound.message_id.to_string());
        let (enc, wrapped) = decode_base64(enc).zip(decode_base64(wrapped_key)).ok_or_else(tampered)?;
        let content_key = hpke_decrypt(key.bytes(), &content_key_binding(bound), enc, &wrapped).ok_or_else(tampered)?;
        let plain = open_shared(&content_key, &self.nonce, &self.ciphertext).ok_or_else(tampered)?;
        read_json(&plain).map_err(|error| match error {
            JsonReadError::Number(number) => EncryptionError::invalid(&["content"], number.to_string()),
            JsonReadError::Syntax(_) => tampered(),
        })
    }
}

/// The envelope of a copy as its recipient gets it, from the copy's own part and the shared content.
pub(super) fn complete_envelope(mut own: Value, shared: &SharedContent) -> Option<Value> {
    let text: SharedCiphertext = shared.stored.parse().ok().flatten()?;
    let members = own.as_object_mut()?.values_mut().next()?.as_object_mut()?;
    members.insert("nonce".to_owned(), Value::String(text.nonce));
    members.insert("ciphertext".to_owned(), Value::String(text.ciphertext));
    Some(own)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::envelope::{HPKE_SUITE, HYBRID_SUITE},
        *,
    };

    #[test]
    fn copy_opens_for_its_recipient_as_that_copy_only() {
        let (secret, stranger) = (AgentPrivateKey::generate().unwrap(), AgentPrivateKey::generate().unwrap());
        let content = json!({"text": "tomatoes"});
        let draft = SharedDraft::new("content_1".into(), &content, true).unwrap();
        let (first, second, sender, recipient) = (&"copy_1".into(), &"copy_2".into(), &"a".into(), &"b".into());
        let bound = EnvelopeBinding { message_id: first, sender, recipient };
        let public = secret.public_key().unwrap();
        let wrapped = WrappedContentKey::wrap(&public, &bound, draft.key.as_ref().unwrap()).unwrap();
        assert_eq!((wrapped.key_id(), wrapped.encryption()), (&public.id(), MessageEncryption::Hpke));
        let envelope = complete_envelope(json!(wrapped), &draft.content).unwrap();
        let envelope = SharedEnvelope::from_content(&envelope).unwrap().unwrap();
        assert_eq!(envelope.open(&secret, &bound).unwrap(), content);
        assert!(envelope.open(&stranger, &bound).is_err());
        assert!(envelope.open(&secret, &EnvelopeBinding { message_id: second, ..bound }).is_err());
        assert!(envelope.open(&secret, &EnvelopeBinding { sender: recipient, ..bound }).is_err());
        assert!(envelope.open(&secret, &EnvelopeBinding { recipient: sender, ..bound }).is_err());
    }

    /// Made by another implementation: `tests/fixtures/envelopes/make.py`.
    #[test]
    fn copy_that_another_implementation_made_opens() {
        let all: Value =
            serde_json::from_str(include_str!("../../../../tests/fixtures/envelopes/envelopes.json")).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text(&all["hpke"]["secret_hex"]), &mut *secret).unwrap();
        let [message_id, sender, recipient] = [0, 1, 2].map(|at| text(&all["message"][at]));
        let (message_id, sender, recipient) = (&message_id.into(), &sender.into(), &recipient.into());
        let envelope = SharedEnvelope::from_content(&all["shared"]).unwrap().unwrap();
        let bound = EnvelopeBinding { message_id, sender, recipient };
        let opened = envelope.open(&AgentPrivateKey::from_bytes(secret), &bound).unwrap();
        assert_eq!(opened, all["content"]);
    }

    #[test]
    fn suites_of_copies_are_those_of_envelopes_with_a_mark() {
        assert_eq!(HPKE_SHARED_SUITE, format!("{HPKE_SUITE}/shared"));
        assert_eq!(HYBRID_SHARED_SUITE, format!("{HYBRID_SUITE}/shared"));
    }

    #[test]
    fn shared_content_opens_by_its_key_only() {
        let content = json!({"text": "tomatoes"});
        let draft = SharedDraft::new("content_1".into(), &content, true).unwrap();
        let key = draft.key.clone().unwrap();
        assert!(!draft.content.stored.get().unwrap().get().contains("tomatoes"));
        assert_eq!(open_stored(&*key, &draft.content), Some(content.clone()));
        let other = SharedDraft::new("content_2".into(), &content, true).unwrap();
        assert_eq!((open_stored(&*key, &other.content), open_stored(b"short", &draft.content)), (None, None));
        let plain = SharedDraft::new("content_3".into(), &content, false).unwrap();
        assert!(plain.key.is_none());
        assert_eq!(plain.content.stored.parse::<Value>().unwrap(), Some(content));
    }

    #[test]
    fn malformed_envelope_of_a_copy_is_refused_and_other_content_is_not_one() {
        for other in [json!({}), json!({"hpke": {"suite": HPKE_SUITE}}), json!({"hpke": 1}), json!([1]), json!(null)] {
            assert_eq!(SharedEnvelope::from_content(&other).unwrap(), None);
        }
        let wrapped = encode_base64(&[1; HPKE_WRAPPED_LEN]);
        let (enc, nonce, ciphertext) = (encode_base64(&[2; 32]), encode_base64(&[3; 12]), encode_base64(&[4; 20]));
        let good = json!({"hpke": {"suite": HPKE_SHARED_SUITE, "key_id": "k", "enc": enc, "wrapped_key": wrapped,
            "nonce": nonce, "ciphertext": ciphertext}});
        assert!(SharedEnvelope::from_content(&good).unwrap().is_some());
        for member in ["key_id", "enc", "wrapped_key", "nonce", "ciphertext"] {
            for wrong in [json!(null), json!("AAAA"), json!("?")] {
                if member == "key_id" && !wrong.is_null() {
                    continue;
                }
                let mut bad = good.clone();
                bad["hpke"][member] = wrong;
                assert!(matches!(SharedEnvelope::from_content(&bad), Err(EncryptionError::Invalid(_))), "{bad}");
            }
        }
    }
}
