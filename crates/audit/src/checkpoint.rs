//! Signed tree heads in the C2SP formats: a checkpoint (<https://c2sp.org/tlog-checkpoint>) as a signed note
//! (<https://c2sp.org/signed-note>), readable by other tools for transparency logs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::merkle::NodeHash;
use am_core::{
    config::is_valid_log_origin,
    crypto::{Ed25519PublicKey, Signer},
};

/// Number of the algorithm Ed25519 in signed notes.
const ED25519_ALGORITHM: u8 = 1;

/// Content of a signed head: a log's name, its size and its Merkle root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// Name of the log and of its key.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Merkle root over the leaves.
    pub root: NodeHash,
}

/// Reason why a checkpoint was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The text does not have the form of a checkpoint.
    #[error("it is not a checkpoint")]
    Malformed,
    /// The text has no signature by this key under the log's name.
    #[error("it is not signed by this key")]
    MissingSignature,
    /// The signature does not match the text.
    #[error("its signature does not match its content")]
    Mismatch,
}

/// Key id in a note's signature: the first four bytes of `SHA-256(name || 0x0A || 0x01 || key)`.
fn key_hash(name: &str, key: &Ed25519PublicKey) -> [u8; 4] {
    let digest =
        Sha256::new().chain_update(name).chain_update([b'\n', ED25519_ALGORITHM]).chain_update(key.bytes()).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// The key in the form that verifiers of signed notes accept: `name+hash+base64(0x01 || key)`.
pub fn verifier_key(name: &str, key: &Ed25519PublicKey) -> String {
    let mut bytes = vec![ED25519_ALGORITHM];
    bytes.extend_from_slice(key.bytes());
    format!("{name}+{}+{}", hex::encode(key_hash(name, key)), STANDARD.encode(bytes))
}

impl LogCheckpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The checkpoint as a signed note.
    pub fn sign(&self, signer: &Signer) -> String {
        let text = self.text();
        let mut bytes = key_hash(&self.origin, signer.public_key()).to_vec();
        bytes.extend_from_slice(&signer.sign_bytes(text.as_bytes()));
        format!("{text}\n\u{2014} {} {}\n", self.origin, STANDARD.encode(bytes))
    }

    /// Parse a signed note and verify its signature by `key`. Signatures by other keys, such as witnesses', are
    /// ignored.
    ///
    /// # Errors
    /// Returns the reason why the checkpoint was not accepted.
    pub fn parse_verified(note: &str, key: &Ed25519PublicKey) -> Result<Self, CheckpointError> {
        let (text, signatures) = note.split_once("\n\n").ok_or(CheckpointError::Malformed)?;
        let checkpoint = Self::parse_body(text).ok_or(CheckpointError::Malformed)?;
        let wanted = key_hash(&checkpoint.origin, key);
        let signature = signatures.lines().find_map(|line| {
            let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            let bytes = STANDARD.decode(encoded).ok()?;
            (name == checkpoint.origin && bytes.get(..4)? == wanted).then(|| bytes[4..].to_vec())
        });
        let signature = signature.ok_or(CheckpointError::MissingSignature)?;
        let signed = format!("{text}\n");
        if key.verifies(signed.as_bytes(), &signature) { Ok(checkpoint) } else { Err(CheckpointError::Mismatch) }
    }

    fn parse_body(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        // Only the canonical form of a number is accepted: no sign and no leading zero.
        let number: u64 = size.parse().ok()?;
        let sound = is_valid_log_origin(origin) && number.to_string() == size;
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        sound.then(|| Self { origin: origin.to_owned(), size: number, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (LogCheckpoint, Signer, String) {
        let signer = Signer::from_hex(&"17".repeat(32)).unwrap();
        let head = LogCheckpoint { origin: "example.com/agent-management".into(), size: 20_852_163, root: [7; 32] };
        let note = head.sign(&signer);
        (head, signer, note)
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was_signed() {
        let (head, signer, note) = signed();
        assert_eq!(note.lines().next(), Some("example.com/agent-management"));
        assert_eq!(note.lines().nth(1), Some("20852163"));
        assert_eq!(LogCheckpoint::parse_verified(&note, signer.public_key()), Ok(head));
        let other = Signer::from_hex(&"18".repeat(32)).unwrap();
        assert_eq!(LogCheckpoint::parse_verified(&note, other.public_key()), Err(CheckpointError::MissingSignature));
        let both = format!("{note}\u{2014} witness.example AAAAAAAA\n");
        assert!(LogCheckpoint::parse_verified(&both, signer.public_key()).is_ok(), "a witness may have signed too");
    }

    #[test]
    fn every_changed_byte_shows() {
        let (head, signer, note) = signed();
        for (at, _) in note.bytes().enumerate() {
            for bit in 0..8 {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                // What base64 leaves unused, and the end of the last line, say nothing.
                match LogCheckpoint::parse_verified(&changed, signer.public_key()) {
                    Err(_) => {}
                    Ok(read) => {
                        assert_eq!(read, head);
                        assert!(at >= note.trim_end().len(), "bit {bit} of byte {at}: {changed}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_that_would_confuse_a_note_are_refused() {
        assert!(
            is_valid_log_origin("example.com/log")
                && !is_valid_log_origin("")
                && !is_valid_log_origin("a b")
                && !is_valid_log_origin("a+b")
                && !is_valid_log_origin("a\nb")
        );
        let (_, signer, _) = signed();
        let key = verifier_key("example.com/log", signer.public_key());
        assert_eq!(key.split('+').count(), 3);
    }
}
