//! Owners of rows, identified without showing an API key.
//!
//! The coordinator uses the API key itself as the caller's identity and stores it in `owner_id`, `client_id` and
//! `user_id`. This service stores a principal derived from the key, and reads both forms as the same owner.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::Db;
use am_core::ambient::IdGenerator;

/// Principal of a caller without a key on a development server.
pub const DEV_PRINCIPAL: &str = "dev_key";
/// Principal that the coordinator stores for events without a caller.
pub const SYSTEM_PRINCIPAL: &str = "system";

const PRINCIPAL_PREFIX: &str = "key_";
/// Beginning of the principal of a token's subject, which no key's principal has.
const TOKEN_PREFIX: &str = "jwt_";
const PRINCIPAL_HEX_DIGITS: usize = 20;

/// A principal: `key_` or `jwt_` and 20 hex digits, [`DEV_PRINCIPAL`], [`SYSTEM_PRINCIPAL`], or empty (no owner). Never an API key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalName(String);

impl PrincipalName {
    /// The principal of an API key: `key_` and the first 20 hex digits of SHA-256("aitbc-principal:" + key).
    pub fn from_api_key(key: &str) -> Self {
        Self::from_digest(PRINCIPAL_PREFIX, &hash_api_key(key))
    }

    /// The principal of a token's subject: `jwt_` and the first 20 hex digits of SHA-256("aitbc-subject:" + subject).
    pub fn from_token_subject(subject: &str) -> Self {
        let digest: [u8; 32] = Sha256::new().chain_update("aitbc-subject:").chain_update(subject).finalize().into();
        Self::from_digest(TOKEN_PREFIX, &digest)
    }

    fn from_digest(prefix: &str, digest: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(prefix.len() + PRINCIPAL_HEX_DIGITS);
        text.push_str(prefix);
        text.push_str(&hex::encode(&digest[..PRINCIPAL_HEX_DIGITS / 2]));
        Self(text)
    }

    /// A random principal that belongs to no key yet.
    pub fn random(ids: &IdGenerator) -> Self {
        Self(format!("{PRINCIPAL_PREFIX}{}", ids.hex(PRINCIPAL_HEX_DIGITS)))
    }

    /// The owner represented by a stored text: a principal is taken as it is, anything else is an API key and is
    /// converted to its principal.
    pub fn from_stored(stored: &str) -> Self {
        if stored.is_empty() || is_principal(stored) { Self(stored.to_owned()) } else { Self::from_api_key(stored) }
    }

    /// The form shown in answers and logs and stored in new rows.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Hash of a stored API key, for where the key may not be shown; its first digits are those of the key's principal.
/// `None` when the text is not a key.
pub fn hash_if_api_key(stored: &str) -> Option<[u8; 32]> {
    (!stored.is_empty() && !is_principal(stored)).then(|| hash_api_key(stored))
}

fn hash_api_key(key: &str) -> [u8; 32] {
    Sha256::new().chain_update("aitbc-principal:").chain_update(key).finalize().into()
}

/// Whether a text has the form of a principal. API keys of this form are refused, since they could not be told from
/// one.
pub fn is_principal(text: &str) -> bool {
    let hashed = |digits: &str| {
        digits.len() == PRINCIPAL_HEX_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let prefixed =
        || [PRINCIPAL_PREFIX, TOKEN_PREFIX].iter().any(|prefix| text.strip_prefix(prefix).is_some_and(hashed));
    text == DEV_PRINCIPAL || text == SYSTEM_PRINCIPAL || prefixed()
}

/// Whether a principal is that of a token's subject.
pub fn is_token_principal(principal: &str) -> bool {
    principal.starts_with(TOKEN_PREFIX) && is_principal(principal)
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PrincipalName> for String {
    fn from(owner: PrincipalName) -> Self {
        owner.0
    }
}

impl sqlx::Type<Db> for PrincipalName {
    fn type_info() -> <Db as sqlx::Database>::TypeInfo {
        <String as sqlx::Type<Db>>::type_info()
    }
}

/// A principal, or a key, which becomes one.
impl<'r> sqlx::Decode<'r, Db> for PrincipalName {
    fn decode(value: <Db as sqlx::Database>::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self::from_stored(<&str as sqlx::Decode<Db>>::decode(value)?))
    }
}

/// Serialize a stored owner as a principal, for `#[serde(serialize_with)]`.
///
/// # Errors
/// Returns the error of the serializer.
pub fn serialize_as_principal<S: Serializer>(stored: &str, serializer: S) -> Result<S::Ok, S::Error> {
    PrincipalName::from_stored(stored).serialize(serializer)
}

impl Serialize for PrincipalName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_principal_is_stable_and_stays_itself() {
        // printf %s 'aitbc-principal:admin-key-0123456789abcdef' | sha256sum | cut -c1-20
        let owner = PrincipalName::from_api_key("admin-key-0123456789abcdef");
        assert_eq!(owner.as_str(), "key_8211bbf633a893df9505");
        assert!(is_principal(owner.as_str()));
        assert_eq!(PrincipalName::from_stored(owner.as_str()), owner);
        assert_eq!(PrincipalName::from_stored("admin-key-0123456789abcdef"), owner);
        let (ids, drawn) = (IdGenerator::seeded(1), PrincipalName::random(&IdGenerator::seeded(1)));
        assert!(
            is_principal(drawn.as_str())
                && PrincipalName::random(&ids) == drawn
                && PrincipalName::random(&ids) != drawn
        );
    }

    #[test]
    fn subject_of_a_token_is_another_than_a_key_of_the_same_text() {
        // printf %s 'aitbc-subject:alice' | sha256sum | cut -c1-20
        let subject = PrincipalName::from_token_subject("alice");
        assert_eq!(subject.as_str(), "jwt_3b049a9b69ffd110f959");
        assert!(is_principal(subject.as_str()) && PrincipalName::from_stored(subject.as_str()) == subject);
        assert_ne!(subject.as_str()[4..], PrincipalName::from_api_key("alice").as_str()[4..]);
    }

    #[test]
    fn the_names_that_stand_for_no_key_are_kept() {
        for name in [DEV_PRINCIPAL, SYSTEM_PRINCIPAL, ""] {
            assert_eq!(PrincipalName::from_stored(name).as_str(), name);
        }
        assert!(!is_principal("key_0123456789ABCDEF0123"));
        assert!(!is_principal("key_0123456789abcdef012"));
        assert!(!is_principal("key_0123456789abcdef01234"));
        assert!(!is_principal(""));
    }

    proptest! {
        #[test]
        fn what_is_shown_holds_no_key(key in "[ -~]{16,64}") {
            prop_assume!(!is_principal(&key));
            let owner = PrincipalName::from_stored(&key);
            prop_assert!(is_principal(owner.as_str()));
            for shown in [owner.to_string(), format!("{owner:?}"), serde_json::to_string(&owner).unwrap()] {
                prop_assert!(!shown.contains(&key));
            }
        }
    }
}
