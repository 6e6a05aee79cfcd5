//! The service's Ed25519 signing key, from configuration or from a file beside the database.

use std::{fmt, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::Value;

use super::{
    KeyFileError, canonical_receipt_json,
    public_key::Ed25519PublicKey,
    secret_file::{load_or_create_secret, parse_hex_key},
    signature::{SIGNATURE_ALGORITHM, Signature},
};

/// The service's Ed25519 signing key. Its secret half is never shown and is erased from memory on drop.
#[derive(Clone)]
pub struct Signer {
    secret: SigningKey,
    public: Ed25519PublicKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Signer").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

impl Signer {
    /// Parse the 32 secret bytes from 64 hex digits (`RECEIPT_SIGNING_KEY_HEX`).
    pub fn from_hex(text: &str) -> Result<Self, KeyFileError> {
        Ok(Self::from_seed(&parse_hex_key(text)?))
    }

    /// Create the key from its 32 secret bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(seed);
        Self { public: Ed25519PublicKey::new(secret.verifying_key()), secret }
    }

    /// Read the key from a file, or create the file with a new key ([`load_or_create_secret`]). The second value is true when the
    /// key is new.
    ///
    /// # Errors
    /// Same as [`load_or_create_secret`].
    pub fn load_or_create(path: &Path) -> Result<(Self, bool), KeyFileError> {
        let (seed, created) = load_or_create_secret(path)?;
        Ok((Self::from_seed(&seed), created))
    }

    /// The `key_id` in this key's signatures: the public key in base64url without padding.
    pub fn key_id(&self) -> &str {
        self.public.key_id()
    }

    /// The public key as 64 lower-case hex digits, for offline verification.
    pub fn public_key_hex(&self) -> String {
        self.public.to_hex()
    }

    /// The public key.
    pub fn public_key(&self) -> &Ed25519PublicKey {
        &self.public
    }

    /// Sign `message`; the result is the 64 bytes of the Ed25519 signature.
    pub fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }

    /// Sign the canonical JSON of `payload`.
    pub fn sign(&self, payload: &Value) -> Signature {
        let signature = self.secret.sign(&canonical_receipt_json(payload));
        Signature {
            alg: SIGNATURE_ALGORITHM.to_owned(),
            key_id: self.key_id().to_owned(),
            sig: URL_SAFE_NO_PAD.encode(signature.to_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use serde_json::json;

    use super::*;
    use crate::crypto::verify_signature;

    #[test]
    fn a_made_key_is_private_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data").join("receipt_signing.key");
        let (first, created) = Signer::load_or_create(&path).unwrap();
        assert!(created);
        let (second, created) = Signer::load_or_create(&path).unwrap();
        assert!(!created);
        assert_eq!(first.key_id(), second.key_id());
        let signature = first.sign(&json!({"a": 1}));
        assert_eq!(verify_signature(&json!({"a": 1}), &signature, &[second.public_key().clone()]), Ok(()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing temporary is left");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(Signer::from_hex(text.trim()).unwrap().key_id(), first.key_id());

        let other = home.path().join("other.key");
        assert_ne!(Signer::load_or_create(&other).unwrap().0.key_id(), first.key_id());
    }

    #[test]
    fn of_many_that_start_at_once_one_makes_the_key() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("receipt_signing.key");
        let made: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| Signer::load_or_create(&path).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|(_, created)| *created).count(), 1);
        assert!(made.iter().all(|(signer, _)| signer.key_id() == made[0].0.key_id()));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("receipt_signing.key");
        let (signer, _) = Signer::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let said = Signer::load_or_create(&path).unwrap_err().to_string();
            assert!(said.contains(path.to_str().unwrap()) && said.contains(&format!("{mode:04o}")), "{said}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(Signer::load_or_create(&path).unwrap().0.key_id(), signer.key_id());
    }

    #[test]
    fn a_damaged_file_is_refused_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("receipt_signing.key");
        for content in ["", "\n", "abc", &"ab".repeat(31), &"ab".repeat(33), &"zz".repeat(32)] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let said = Signer::load_or_create(&path).unwrap_err();
            assert!(matches!(said, KeyFileError::MalformedFile { .. }), "{said}");
            assert!(said.to_string().contains(path.to_str().unwrap()));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert!(Signer::load_or_create(home.path()).is_err(), "a directory");
    }

    #[test]
    fn no_output_shows_the_secret() {
        let secret = "17".repeat(32);
        let shown = format!("{:?}", Signer::from_hex(&secret).unwrap());
        assert!(!shown.contains("1717") && !shown.contains("23, 23"), "{shown}");
        let said = Signer::from_hex("17171717").unwrap_err().to_string();
        assert!(!said.contains("1717"), "{said}");
    }
}
