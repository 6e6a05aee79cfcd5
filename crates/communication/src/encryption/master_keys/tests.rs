use std::{collections::HashSet, sync::LazyLock};

use proptest::prelude::*;

use super::*;
use am_core::ids::{AgentId, MessageId};

static MESSAGE: LazyLock<MessageId> = LazyLock::new(|| "msg-1".into());
static CHANNEL: LazyLock<ChannelId> = LazyLock::new(|| "ch-1".into());
static SENDER: LazyLock<AgentId> = LazyLock::new(|| "a".into());
static RECIPIENT: LazyLock<AgentId> = LazyLock::new(|| "b".into());

fn bound() -> CiphertextBinding<'static> {
    CiphertextBinding { message_id: &MESSAGE, channel: &CHANNEL, sender: &SENDER, recipient: Some(&RECIPIENT) }
}

fn key(byte: u8) -> SecretString {
    let mut bytes = [byte; 32];
    bytes[0] ^= 1;
    encode_base64(&bytes).into()
}

fn masters(names: &[(&str, u8)]) -> MasterKeys {
    let keys: Vec<(&str, SecretString)> = names.iter().map(|(name, byte)| (*name, key(*byte))).collect();
    MasterKeys::new(keys.iter().map(|(name, key)| (*name, key))).unwrap()
}

fn open(key: &DataKey, bound: &CiphertextBinding<'_>, sealed: &AtRestCiphertext) -> Option<Vec<u8>> {
    key.open(bound, sealed).ok().map(|plain| plain.to_vec())
}

#[test]
fn a_data_key_opens_under_its_master_and_goes_to_another() {
    let old = masters(&[("old", 1)]);
    let (first, wrapped) = old.draw(&"k1".into(), &"ch-1".into()).unwrap();
    let sealed = first.seal(&bound(), b"content").unwrap();
    assert_eq!(open(&old.unwrap(&wrapped).unwrap(), &bound(), &sealed).as_deref(), Some(&b"content"[..]));
    let both = masters(&[("new", 2), ("old", 1)]);
    let moved = both.rewrap_data_key(&wrapped).unwrap();
    assert_eq!(moved.master_id, "new");
    let new = masters(&[("new", 2)]);
    assert_eq!(open(&new.unwrap(&moved).unwrap(), &bound(), &sealed).as_deref(), Some(&b"content"[..]));
    assert!(matches!(new.unwrap(&wrapped), Err(EncryptionError::UnknownMasterKey(name)) if name == "old"));
    assert!(matches!(masters(&[]).draw(&"k2".into(), &"ch-1".into()), Err(EncryptionError::NoMasterKey)));
    // The name alone does not make a master.
    assert!(matches!(masters(&[("old", 9)]).unwrap(&wrapped), Err(EncryptionError::Tampered(_))));
}

#[test]
fn a_data_key_is_bound_to_its_name_its_channel_and_its_master() {
    let both = masters(&[("one", 1), ("two", 1)]);
    let (_, good) = both.draw(&"k1".into(), &"ch-1".into()).unwrap();
    let again = |id: &str, channel: &str, master_id: &str| {
        let (id, channel, wrapped) = (id.into(), channel.into(), good.wrapped.clone());
        both.unwrap(&WrappedDataKey { id, channel, master_id: master_id.into(), wrapped }).is_ok()
    };
    assert!(again("k1", "ch-1", "one"));
    assert!(!again("k2", "ch-1", "one") && !again("k1", "ch-2", "one") && !again("k1", "ch-1", "two"));
}

#[test]
fn content_is_bound_to_its_message() {
    let (key, _) = masters(&[("m", 1)]).draw(&"k1".into(), &"ch-1".into()).unwrap();
    let sealed = key.seal(&bound(), b"content").unwrap();
    for other in [
        CiphertextBinding { message_id: &"msg-2".into(), ..bound() },
        CiphertextBinding { channel: &"ch-2".into(), ..bound() },
        CiphertextBinding { sender: &"c".into(), ..bound() },
        CiphertextBinding { recipient: Some(&"c".into()), ..bound() },
        CiphertextBinding { recipient: Some(&"".into()), ..bound() },
        CiphertextBinding { recipient: None, ..bound() },
    ] {
        assert_eq!(open(&key, &other, &sealed), None, "{other:?}");
    }
    let (other, _) = masters(&[("m", 1)]).draw(&"k1".into(), &"ch-1".into()).unwrap();
    assert_eq!(open(&other, &bound(), &sealed), None, "each data key is drawn");
}

#[test]
fn no_nonce_comes_twice() {
    let (key, _) = masters(&[("m", 1)]).draw(&"k1".into(), &"ch-1".into()).unwrap();
    let mut seen = HashSet::new();
    for _ in 0..20_000 {
        assert!(seen.insert(key.seal(&bound(), b"the same content").unwrap().nonce));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_flipped_bit_shows(
        content in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<proptest::sample::Index>(),
        bit in 0u8..8,
        in_nonce: bool,
    ) {
        let (key, _) = masters(&[("m", 1)]).draw(&"k1".into(), &"ch-1".into()).unwrap();
        let mut sealed = key.seal(&bound(), &content).unwrap();
        prop_assert_eq!(open(&key, &bound(), &sealed), Some(content));
        let text = if in_nonce { &mut sealed.nonce } else { &mut sealed.ciphertext };
        let mut bytes = decode_base64(text).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        *text = encode_base64(&bytes);
        prop_assert_eq!(open(&key, &bound(), &sealed), None);
    }

    #[test]
    fn nothing_of_the_content_is_in_the_ciphertext(content in "[a-z]{12,60}") {
        let (key, _) = masters(&[("m", 1)]).draw(&"k1".into(), &"ch-1".into()).unwrap();
        let sealed = serde_json::to_string(&key.seal(&bound(), content.as_bytes()).unwrap()).unwrap();
        prop_assert!(!sealed.contains(&content) && !sealed.contains(&encode_base64(content.as_bytes())));
    }
}
