//! Encoding of bytes in JSON, and of the data that a ciphertext is bound to.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};

use super::model::{CiphertextBinding, EnvelopeBinding};
use am_core::ids::{ChannelId, DataKeyId, MasterKeyId};

const LENIENT_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64_ALPHABETS: [GeneralPurpose; 2] =
    [GeneralPurpose::new(&URL_SAFE, LENIENT_PADDING), GeneralPurpose::new(&STANDARD, LENIENT_PADDING)];

/// Encode bytes as base64url without padding.
pub fn encode_base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decode base64 of either alphabet, padded or not; `None` when it is malformed.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    BASE64_ALPHABETS.iter().find_map(|engine| engine.decode(text).ok())
}

/// Encode parts unambiguously: each as its length in bytes, a colon, the text, a comma.
fn encode_parts(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| format!("{}:{part},", part.len()).into_bytes()).collect()
}

/// Data that an envelope to a recipient is bound to. Senders and recipients compute the same from the message's id,
/// sender and recipient.
pub fn recipient_binding(bound: &EnvelopeBinding<'_>) -> Vec<u8> {
    encode_parts(&["agent-management message v1", bound.message_id, bound.sender, bound.recipient])
}

/// Data that the key of shared content is bound to, as [`recipient_binding`] is.
pub fn content_key_binding(bound: &EnvelopeBinding<'_>) -> Vec<u8> {
    encode_parts(&["agent-management content key v1", bound.message_id, bound.sender, bound.recipient])
}

/// Data that content encrypted at rest is bound to.
pub fn at_rest_binding(bound: &CiphertextBinding<'_>) -> Vec<u8> {
    let (kind, recipient) = bound.recipient.map_or(("all", ""), |recipient| ("one", recipient.as_str()));
    encode_parts(&["agent-management at rest v1", bound.message_id, bound.channel, bound.sender, kind, recipient])
}

/// Data that a wrapped data key is bound to.
pub fn data_key_binding(master_id: &MasterKeyId, data_key_id: &DataKeyId, channel: &ChannelId) -> Vec<u8> {
    encode_parts(&["agent-management data key v1", master_id, data_key_id, channel])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_read_in_every_usual_form_and_nothing_else() {
        let bytes = [0xfb, 0xff, 0xbf, 0x00];
        for text in ["-_-_AA", "-_-_AA==", "+/+/AA", "+/+/AA=="] {
            assert_eq!(decode_base64(text).as_deref(), Some(&bytes[..]), "{text}");
        }
        for text in ["-/-_AA", "-_-_AB", "-_-_A", "-_-_ AA", "é"] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode_base64(&encode_base64(&bytes)), Some(bytes));
        }

        #[test]
        fn other_parts_give_another_text(a in proptest::collection::vec("[a,:0-9]{0,6}", 3), b in proptest::collection::vec("[a,:0-9]{0,6}", 3)) {
            let of = |list: &[String]| {
                let [message, sender, recipient] = [0, 1, 2].map(|at| list[at].as_str());
                let (message_id, sender, recipient) = (&message.into(), &sender.into(), &recipient.into());
                recipient_binding(&EnvelopeBinding { message_id, sender, recipient })
            };
            prop_assert_eq!(of(&a) == of(&b), a == b);
        }
    }
}
