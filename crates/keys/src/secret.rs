//! Form of an API key, and what is stored of it.

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use am_core::{ambient::IdGenerator, ids::ApiKeyId};

const KEY_PREFIX: &str = "am_";
const ID_HEX_DIGITS: usize = 8;
/// 192 random bits can't be guessed, so a fast hash is sufficient to store the secret. A slow hash is meant for
/// passwords chosen by people, and would slow each request.
const SECRET_HEX_DIGITS: usize = 48;

/// Whether `text` has the form of a key's id.
pub(super) fn is_id(text: &str) -> bool {
    is_hex(text, ID_HEX_DIGITS)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A random id, which may be in use already.
pub(super) fn random_id(ids: &IdGenerator) -> ApiKeyId {
    ids.hex(ID_HEX_DIGITS).into()
}

/// A random secret.
pub(super) fn random_secret(ids: &IdGenerator) -> String {
    ids.hex(SECRET_HEX_DIGITS / 2) + &ids.hex(SECRET_HEX_DIGITS / 2)
}

/// The complete key, as clients send it.
pub(super) fn format_key(id: &ApiKeyId, secret: &str) -> String {
    format!("{KEY_PREFIX}{id}_{secret}")
}

/// Split a key into id and secret; `None` when the text does not have the form of a key.
pub(super) fn parse_key(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(KEY_PREFIX)?.split_once('_')?;
    (is_id(id) && is_hex(secret, SECRET_HEX_DIGITS)).then_some((id, secret))
}

/// Salted hash of a secret.
#[derive(Clone)]
pub(super) struct SaltedHash {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl SaltedHash {
    /// Hash `secret` with a new random salt.
    pub(super) fn hash_secret(secret: &str, ids: &IdGenerator) -> Self {
        let salt = (u128::from(ids.number()) << 64 | u128::from(ids.number())).to_be_bytes();
        Self { salt, hash: salted_sha256(&salt, secret) }
    }

    /// Parse the stored form.
    pub(super) fn from_hex(salt: &str, digest: &str) -> Option<Self> {
        let mut salted = Self { salt: [0; 16], hash: [0; 32] };
        hex::decode_to_slice(salt, &mut salted.salt).ok()?;
        hex::decode_to_slice(digest, &mut salted.hash).ok()?;
        Some(salted)
    }

    /// Salt and hash in hex, as stored.
    pub(super) fn to_hex(&self) -> (String, String) {
        (hex::encode(self.salt), hex::encode(self.hash))
    }

    /// Whether `secret` is the hashed one, compared in constant time.
    pub(super) fn fits(&self, secret: &str) -> Choice {
        salted_sha256(&self.salt, secret).ct_eq(&self.hash)
    }
}

fn salted_sha256(salt: &[u8; 16], secret: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(secret).finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use am_db::owner;

    #[test]
    fn the_hash_is_the_one_that_is_documented() {
        // { printf '\0%.0s' {1..16}; printf secret; } | sha256sum
        let expected = Sha256::digest([&[0u8; 16][..], b"secret"].concat());
        assert_eq!(salted_sha256(&[0; 16], "secret"), <[u8; 32]>::from(expected));
    }

    #[test]
    fn a_key_is_read_as_it_is_written_and_nothing_else_is() {
        let ids = IdGenerator::seeded(1);
        let (id, secret) = (random_id(&ids), random_secret(&ids));
        let key = format_key(&id, &secret);
        assert_eq!(parse_key(&key), Some((id.as_str(), secret.as_str())));
        assert!(!owner::is_principal(&key));
        let bad = [
            "",
            "am_",
            "am__",
            &key[1..],
            &key[..key.len() - 1],
            &format!("{key}0"),
            &key.to_uppercase(),
            &format!(" {key}"),
            &key.replacen("am_", "am-", 1),
            &key.replacen(id.as_str(), "0123456g", 1),
            &key.replacen(id.as_str(), "0123456", 1),
        ];
        for text in bad {
            assert_eq!(parse_key(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_stored_secret_is_recognised_and_no_other(seed: u64, other in "[0-9a-f]{48}") {
            let ids = IdGenerator::seeded(seed);
            let secret = random_secret(&ids);
            let (salt, hash) = SaltedHash::hash_secret(&secret, &ids).to_hex();
            let stored = SaltedHash::from_hex(&salt, &hash).unwrap();
            prop_assert!(bool::from(stored.fits(&secret)));
            prop_assert_eq!(bool::from(stored.fits(&other)), other == secret);
            prop_assert!(!salt.contains(&secret) && !hash.contains(&secret));
            prop_assert_ne!(SaltedHash::hash_secret(&secret, &ids).to_hex().1, hash, "the same secret under another salt");
        }

        #[test]
        fn whatever_is_presented_is_read_or_refused(text in "(am_)?[ -~]{0,80}") {
            if let Some((id, secret)) = parse_key(&text) {
                prop_assert_eq!(format_key(&id.into(), secret), text);
            }
        }
    }
}
