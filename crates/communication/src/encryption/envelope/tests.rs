use aws_lc_rs::rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey};
use proptest::prelude::*;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
use serde_json::json;

use super::*;

/// A message's id, sender and recipient.
type MessageNames = (&'static str, &'static str, &'static str);

const MESSAGE: MessageNames = ("msg-1", "agent_a", "agent_ü");

fn bound<T>((message, sender, recipient): MessageNames, work: impl FnOnce(&EnvelopeBinding<'_>) -> T) -> T {
    let (message_id, sender, recipient) = (&message.into(), &sender.into(), &recipient.into());
    work(&EnvelopeBinding { message_id, sender, recipient })
}

fn sealed(
    key: &RecipientPublicKey,
    by: MessageEncryption,
    message: MessageNames,
    content: &Value,
) -> Result<ContentEnvelope> {
    bound(message, |bound| key.seal(by, bound, content))
}

fn opened(key: &AgentPrivateKey, envelope: &ContentEnvelope, message: MessageNames) -> Result<Value> {
    bound(message, |bound| key.open(envelope, bound))
}

/// Made by another implementation: `tests/fixtures/envelopes/make.py`.
fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../../tests/fixtures/envelopes/envelopes.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn secret(hex_digits: &str) -> AgentPrivateKey {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(hex_digits, &mut *bytes).unwrap();
    AgentPrivateKey::from_bytes(bytes)
}

fn invalid(found: Result<impl std::fmt::Debug>) -> (String, String) {
    match found {
        Err(EncryptionError::Invalid(found)) => (found.path.to_string(), found.message),
        other => panic!("{other:?}"),
    }
}

/// RFC 9180, appendix A.1.1, the first encryption.
#[test]
fn hpke_is_that_of_the_rfc() {
    let bytes = |digits: &str| hex::decode(digits).unwrap();
    let opened = DH_KEM_X25519_HKDF_SHA256_AES_128.open(
        &EncapsulatedSecret(bytes("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")),
        &bytes("4f6465206f6e2061204772656369616e2055726e"),
        &bytes("436f756e742d30"),
        &bytes("f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"),
        &HpkePrivateKey::from(bytes("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")),
    );
    assert_eq!(opened.unwrap(), b"Beauty is truth, truth beauty");
}

#[test]
fn another_implementations_envelope_opens() {
    let all = fixture();
    let hpke = &all["hpke"];
    let secret = secret(text(&hpke["secret_hex"]));
    let public = secret.public_key().unwrap();
    assert_eq!(public.text(), text(&hpke["public_key"]));
    let envelope = ContentEnvelope::from_content(&hpke["envelope"]).unwrap().unwrap();
    assert_eq!((envelope.key_id(), envelope.required_key_kind()), (&public.id(), KeyKind::X25519));
    assert_eq!(opened(&secret, &envelope, MESSAGE).unwrap(), all["content"]);
    for other in [("msg-2", MESSAGE.1, MESSAGE.2), (MESSAGE.0, "x", MESSAGE.2), (MESSAGE.0, MESSAGE.1, "x")] {
        assert!(matches!(opened(&secret, &envelope, other), Err(EncryptionError::Tampered(_))), "{other:?}");
    }
    for form in ["rsa", "hybrid"] {
        let envelope = ContentEnvelope::from_content(&all["rsa"][form]).unwrap().unwrap();
        assert_eq!(envelope.encryption().value(), form);
        let key = RecipientPublicKey::parse(KeyKind::Rsa, text(&all["rsa"]["public_key"])).unwrap();
        assert_eq!(*envelope.key_id(), key.id());
        invalid(opened(&secret, &envelope, MESSAGE));
    }
}

#[test]
fn what_is_sealed_here_opens_with_the_private_key() {
    let all = fixture();
    let secret = AgentPrivateKey::generate().unwrap();
    let envelope = sealed(&secret.public_key().unwrap(), MessageEncryption::Hpke, MESSAGE, &all["content"]).unwrap();
    let sent = serde_json::to_value(&envelope).unwrap();
    assert_eq!(ContentEnvelope::from_content(&sent).unwrap().unwrap(), envelope);
    assert_eq!(opened(&secret, &envelope, MESSAGE).unwrap(), all["content"]);
    assert!(opened(&AgentPrivateKey::generate().unwrap(), &envelope, MESSAGE).is_err());

    let pkcs8 = decode_base64(text(&all["rsa"]["pkcs8"])).unwrap();
    let private = OaepPrivateDecryptingKey::new(PrivateDecryptingKey::from_pkcs8(&pkcs8).unwrap()).unwrap();
    let unwrap = |sealed: &str, label: &[u8]| {
        let (bytes, mut out) = (decode_base64(sealed).unwrap(), vec![0; private.min_output_size()]);
        let opened = private.decrypt(&OAEP_SHA256_MGF1SHA256, &bytes, &mut out, Some(label));
        opened.map(|plain| plain.to_vec()).ok()
    };
    let label = bound(MESSAGE, recipient_binding);
    let public = RecipientPublicKey::parse(KeyKind::Rsa, text(&all["rsa"]["pem"])).unwrap();
    let small = json!({"x": 1});
    let ContentEnvelope::Rsa { ciphertext, .. } = sealed(&public, MessageEncryption::Rsa, MESSAGE, &small).unwrap()
    else {
        panic!()
    };
    assert_eq!(unwrap(&ciphertext, &label).as_deref(), Some(&br#"{"x":1}"#[..]));
    assert_eq!(unwrap(&ciphertext, b"another message"), None);
    let hybrid = sealed(&public, MessageEncryption::Hybrid, MESSAGE, &all["content"]).unwrap();
    let ContentEnvelope::Hybrid { wrapped_key, nonce, ciphertext, .. } = &hybrid else { panic!() };
    let aes: [u8; 32] = unwrap(wrapped_key, &label).unwrap().try_into().unwrap();
    let opened_aes = |aad: &[u8]| {
        gcm_decrypt(&gcm_key(&aes).unwrap(), aad, &decode_base64(nonce).unwrap(), &decode_base64(ciphertext).unwrap())
    };
    assert_eq!(serde_json::from_slice::<Value>(&opened_aes(&label).unwrap()).unwrap(), all["content"]);
    assert!(opened_aes(b"another message").is_none());

    let (path, message) = invalid(sealed(&public, MessageEncryption::Rsa, MESSAGE, &json!("x".repeat(189))));
    assert!(path == "content" && message.contains("190 bytes") && message.contains("hybrid"), "{message}");
    assert!(sealed(&public, MessageEncryption::Rsa, MESSAGE, &json!("x".repeat(188))).is_ok());
}

#[test]
fn public_keys_are_read_in_their_usual_forms_and_weak_ones_refused() {
    let all = fixture();
    let (hpke, rsa) = (&all["hpke"], &all["rsa"]);
    let x25519 = |text: &str| RecipientPublicKey::parse(KeyKind::X25519, text).map(|key| key.text());
    for form in ["public_key", "pem"] {
        assert_eq!(x25519(text(&hpke[form])).unwrap(), text(&hpke["public_key"]));
        assert_eq!(RecipientPublicKey::parse(KeyKind::Rsa, text(&rsa[form])).unwrap().text(), text(&rsa["public_key"]));
    }
    let zeros = encode_base64(&[0; 32]);
    let one = encode_base64(&[&[1][..], &[0; 31]].concat());
    for bad in
        ["", "abc", "not base64!", &encode_base64(&[7; 31]), &encode_base64(&[7; 33]), &zeros, &one, text(&rsa["pem"])]
    {
        assert_eq!(invalid(x25519(bad)).0, "public_key", "{bad}");
    }
    for bad in [text(&all["rsa_1024"]), text(&hpke["pem"]), text(&hpke["public_key"]), ""] {
        assert_eq!(invalid(RecipientPublicKey::parse(KeyKind::Rsa, bad)).0, "public_key", "{bad}");
    }
}

#[test]
fn an_envelope_that_is_not_well_formed_is_refused_where_it_is_wrong() {
    let good = fixture()["hpke"]["envelope"].clone();
    for other in [json!({}), json!({"hpke": 1}), json!({"hpke": {"x": 1}}), json!({"hpke": good["hpke"], "more": 1})] {
        assert_eq!(ContentEnvelope::from_content(&other).unwrap(), None, "{other}");
    }
    for (member, value) in [
        ("suite", json!("DHKEM(P-256,HKDF-SHA256)/HKDF-SHA256/AES-128-GCM")),
        ("enc", json!("AAAA")),
        ("ciphertext", json!("AAAA")),
        ("ciphertext", json!("no base64!")),
    ] {
        let mut bad = good.clone();
        bad["hpke"][member] = value;
        assert_eq!(invalid(ContentEnvelope::from_content(&bad)).0, format!("content.hpke.{member}"));
    }
    let mut bad = good;
    bad["hpke"].as_object_mut().unwrap().remove("key_id");
    let (path, message) = invalid(ContentEnvelope::from_content(&bad));
    assert!(path == "content.hpke" && message.contains("key_id"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_flipped_bit_shows(content in "[ -~]{0,60}", at in any::<proptest::sample::Index>(), bit in 0u8..8, in_key: bool) {
        let secret = secret(&"42".repeat(32));
        let envelope = sealed(&secret.public_key().unwrap(), MessageEncryption::Hpke, MESSAGE, &json!(content)).unwrap();
        let ContentEnvelope::Hpke { suite, key_id, enc, ciphertext } = envelope else { unreachable!() };
        let flip = |text: &str| {
            let mut bytes = decode_base64(text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            encode_base64(&bytes)
        };
        let (enc, ciphertext) = if in_key { (flip(&enc), ciphertext) } else { (enc, flip(&ciphertext)) };
        // The highest bit of a point is not part of it (RFC 7748, section 5), but of what is hashed into the key.
        let changed = ContentEnvelope::Hpke { suite, key_id, enc, ciphertext };
        prop_assert!(matches!(opened(&secret, &changed, MESSAGE), Err(EncryptionError::Tampered(_))));
    }
}
