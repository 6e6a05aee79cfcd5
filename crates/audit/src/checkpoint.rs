//! Signed tree heads in the C2SP formats: a checkpoint (<https://c2sp.org/tlog-checkpoint>) as a signed note
//! (<https://c2sp.org/signed-note>), readable by other tools for transparency logs.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::merkle::NodeHash;
use am_core::crypto::{Ed25519PublicKey, KeyFileError, NoteKey, NoteKeyKind, Signer, is_valid_note_name};

/// Beginning of the extension line that tells the number of a log's life.
const EPOCH_LINE: &str = "epoch ";

/// Content of a signed head: a log's name, its size and its Merkle root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// Name of the log and of its key.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Merkle root over the leaves.
    pub root: NodeHash,
    /// Number of the log's life, from 1: each restore of an older state begins another. Heads from 2 on have a line for it.
    pub epoch: u64,
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

/// The log's key called `name`, as notes have it.
fn note_key(name: &str, key: &Ed25519PublicKey) -> NoteKey {
    NoteKey::new(name, NoteKeyKind::Note, key.clone())
}

/// The key in the form that verifiers of signed notes accept: `name+hash+base64(0x01 || key)`.
pub fn verifier_key(name: &str, key: &Ed25519PublicKey) -> String {
    note_key(name, key).to_string()
}

/// Parse a public key of the log: 64 hex digits, or the form that verifiers of signed notes accept.
///
/// # Errors
/// Returns [`KeyFileError`] when the text is neither, or its parts do not fit each other.
pub fn parse_log_key(text: &str) -> Result<Ed25519PublicKey, KeyFileError> {
    if text.matches('+').count() < 2 {
        return Ed25519PublicKey::from_hex(text.trim());
    }
    NoteKey::parse(text, NoteKeyKind::Note).map(|key| key.key().clone())
}

/// The lines of a note's text, each with its newline, and its signatures; `None`: it has no empty line between them.
pub(super) fn split_note(note: &str) -> Option<(&str, &str)> {
    let end = note.find("\n\n")?;
    Some((&note[..=end], &note[end + 2..]))
}

/// The bytes of the signature lines that a key of this name and id made. One that is no base64 is by nobody.
pub(super) fn signatures_by<'n>(signatures: &'n str, name: &'n str, id: [u8; 4]) -> impl Iterator<Item = Vec<u8>> + 'n {
    signatures.lines().filter_map(move |line| {
        let (signed_by, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        (signed_by == name && bytes.get(..4)? == id).then(|| bytes[4..].to_vec())
    })
}

/// The line of a signature by the key of this name and id.
pub(super) fn signature_line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", STANDARD.encode([&id[..], signature].concat()))
}

impl LogCheckpoint {
    fn text(&self) -> String {
        let head = format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root));
        if self.epoch == 1 { head } else { format!("{head}{EPOCH_LINE}{}\n", self.epoch) }
    }

    /// The checkpoint as a note signed by each of `signers`.
    pub fn sign<'s>(&self, signers: impl IntoIterator<Item = &'s Signer>) -> String {
        let text = self.text();
        let mut note = format!("{text}\n");
        for signer in signers {
            let id = note_key(&self.origin, signer.public_key()).id();
            note.push_str(&signature_line(&self.origin, id, &signer.sign_bytes(text.as_bytes())));
        }
        note
    }

    /// Parse a signed note without verifying it.
    ///
    /// # Errors
    /// Returns [`CheckpointError::Malformed`] when it is no checkpoint.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        let (text, _) = split_note(note).ok_or(CheckpointError::Malformed)?;
        Self::parse_body(text).ok_or(CheckpointError::Malformed)
    }

    /// Parse a signed note and verify its signature by `key`. Signatures by other keys, such as witnesses', are
    /// ignored.
    ///
    /// # Errors
    /// Returns the reason why the checkpoint was not accepted.
    pub fn parse_verified(note: &str, key: &Ed25519PublicKey) -> Result<Self, CheckpointError> {
        let (text, signatures) = split_note(note).ok_or(CheckpointError::Malformed)?;
        let checkpoint = Self::parse_body(text).ok_or(CheckpointError::Malformed)?;
        let id = note_key(&checkpoint.origin, key).id();
        let signature = signatures_by(signatures, &checkpoint.origin, id).next();
        let signature = signature.ok_or(CheckpointError::MissingSignature)?;
        if key.verifies(text.as_bytes(), &signature) { Ok(checkpoint) } else { Err(CheckpointError::Mismatch) }
    }

    /// Like [`LogCheckpoint::parse_verified`], by the first of `keys` that signed it.
    ///
    /// # Errors
    /// As there; a signature that does not match its text counts more than one that is missing.
    pub fn parse_verified_by<'k>(
        note: &str,
        keys: impl IntoIterator<Item = &'k Ed25519PublicKey>,
    ) -> Result<Self, CheckpointError> {
        let mut reason = CheckpointError::MissingSignature;
        for key in keys {
            match Self::parse_verified(note, key) {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(CheckpointError::MissingSignature) => {}
                Err(other) => reason = other,
            }
        }
        Err(reason)
    }

    fn parse_body(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        // Only the canonical form of a number is accepted: no sign and no leading zero.
        let number: u64 = size.parse().ok()?;
        let sound = is_valid_note_name(origin) && number.to_string() == size;
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        let epoch = lines.find_map(|line| line.strip_prefix(EPOCH_LINE)).map_or(Some(1), |epoch| epoch.parse().ok())?;
        sound.then(|| Self { origin: origin.to_owned(), size: number, root, epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (LogCheckpoint, Signer, String) {
        let signer = Signer::from_hex(&"17".repeat(32)).unwrap();
        let head =
            LogCheckpoint { origin: "example.com/agent-management".into(), size: 20_852_163, root: [7; 32], epoch: 1 };
        let note = head.sign([&signer]);
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
        let second = LogCheckpoint { epoch: 2, ..LogCheckpoint::parse(&note).unwrap() };
        let note = second.sign([&signer, &other]);
        for key in [signer.public_key(), other.public_key()] {
            assert_eq!(LogCheckpoint::parse_verified(&note, key), Ok(second.clone()), "each of both signatures holds");
        }
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
            is_valid_note_name("example.com/log")
                && !is_valid_note_name("")
                && !is_valid_note_name("a b")
                && !is_valid_note_name("a+b")
                && !is_valid_note_name("a\nb")
        );
        let (_, signer, _) = signed();
        let key = verifier_key("example.com/log", signer.public_key());
        assert_eq!(key.split('+').count(), 3);
        assert_eq!(parse_log_key(&key).unwrap(), *signer.public_key());
        assert_eq!(parse_log_key(&signer.public_key_hex()).unwrap(), *signer.public_key());
        for bad in [key.replace("example", "other"), key[..key.len() - 4].to_owned(), "a+b".into(), String::new()] {
            assert!(parse_log_key(&bad).is_err(), "{bad}");
        }
    }
}
