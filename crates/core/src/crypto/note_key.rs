//! Public keys of signed notes (<https://c2sp.org/signed-note>): a name, what the key signs, and the key itself.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{KeyFileError, public_key::Ed25519PublicKey};

/// What a key of signed notes signs. The number is part of the key's id, so that a signature of one kind never counts as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKeyKind {
    /// The text of notes: a log's own key.
    Note = 1,
    /// Cosignatures over heads of logs (<https://c2sp.org/tlog-cosignature>): a witness's key.
    Cosignature = 4,
}

/// A public key of signed notes, written `name+hash+base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    kind: NoteKeyKind,
    key: Ed25519PublicKey,
}

/// Can a key of signed notes have this name? It has no blank and no plus sign.
pub fn is_valid_note_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

impl NoteKey {
    /// The key called `name`.
    pub fn new(name: impl Into<String>, kind: NoteKeyKind, key: Ed25519PublicKey) -> Self {
        Self { name: name.into(), kind, key }
    }

    /// Parse `name+hash+base64` of a key of this kind.
    ///
    /// # Errors
    /// Returns [`KeyFileError::InvalidPublicKey`] when the text is no such key, or its parts do not fit each other.
    pub fn parse(text: &str, kind: NoteKeyKind) -> Result<Self, KeyFileError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(hash), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyFileError::InvalidPublicKey);
        };
        let bytes = STANDARD.decode(encoded).ok().and_then(|bytes| <[u8; 33]>::try_from(bytes).ok());
        let Some([number, key @ ..]) = bytes else { return Err(KeyFileError::InvalidPublicKey) };
        let parsed = Self::new(name, kind, Ed25519PublicKey::from_bytes(&key)?);
        let fits = number == kind as u8 && is_valid_note_name(name) && hex::encode(parsed.id()) == hash;
        if fits { Ok(parsed) } else { Err(KeyFileError::InvalidPublicKey) }
    }

    /// Name of whoever has the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key itself.
    pub fn key(&self) -> &Ed25519PublicKey {
        &self.key
    }

    /// Id in the signatures: the first four bytes of `SHA-256(name || 0x0A || kind || key)`.
    pub fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.kind as u8])
            .chain_update(self.key.bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(self.key.bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Signer;

    #[test]
    fn keys_of_notes_are_read_as_written_and_by_their_kind_alone() {
        let signer = Signer::from_hex(&"17".repeat(32)).unwrap();
        let key = NoteKey::new("witness.example/w1", NoteKeyKind::Cosignature, signer.public_key().clone());
        let text = key.to_string();
        assert_eq!(NoteKey::parse(&format!(" {text}\n"), NoteKeyKind::Cosignature).unwrap(), key);
        assert!(NoteKey::parse(&text, NoteKeyKind::Note).is_err(), "a witness's key is no log's key");
        let log = NoteKey::new("witness.example/w1", NoteKeyKind::Note, signer.public_key().clone());
        assert_ne!(log.id(), key.id());
        let (short, nothing) = (text[..text.len() - 4].to_owned(), String::new());
        for bad in [text.replace("w1", "w2"), short, "a+b".into(), text.replacen("witness", "wit ness", 1), nothing] {
            assert!(NoteKey::parse(&bad, NoteKeyKind::Cosignature).is_err(), "{bad}");
        }
    }
}
