//! What of the log is kept outside the database: its keys, the codes of the service's own entries, and the last head that was
//! signed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{checkpoint::LogCheckpoint, merkle::NodeHash};
use am_core::{atomic_file::write_atomically, crypto::Signer};

/// Keys of the log beside the one that signs, and where the last head is kept.
#[derive(Default)]
pub struct KeyCustody {
    /// The key that signed before; `None`: the key was not changed.
    pub previous: Option<Signer>,
    /// File of the last signed head, outside the database; `None`: it is kept in memory only.
    pub last_head: Option<PathBuf>,
    /// Whether a key may sign that is not connected with the one before, because that one is lost.
    pub accept_new_key: bool,
}

/// Message whose signature the key of the entries' codes is made from. It is no checkpoint, so nobody else gets it signed.
const MAC_SEED: &[u8] = b"agent-management audit entries 1\n";

/// Computes the codes of the service's own entries.
pub struct EntryMac([u8; 32]);

impl EntryMac {
    /// The codes that go with a signing key. Ed25519 signatures are deterministic, so each process computes the same.
    pub fn derive(signer: &Signer) -> Self {
        Self(Sha256::digest(signer.sign_bytes(MAC_SEED)).into())
    }

    /// The code of the entry with this id and leaf, in hex.
    pub fn tag(&self, id: &str, leaf: &NodeHash) -> String {
        // HMAC accepts keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(leaf);
        mac.update(id.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

/// Read the last signed head from its file; `None` when there is no file.
///
/// # Errors
/// Fails when the file can't be read or holds something else.
pub fn read_last_head(path: &Path) -> io::Result<Option<LogCheckpoint>> {
    match fs::read_to_string(path) {
        Ok(note) => LogCheckpoint::parse(&note).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replace the file of the last signed head, completely or not at all. Only its owner can read it.
///
/// # Errors
/// Fails when the file can't be written.
pub fn write_last_head(path: &Path, note: &str) -> io::Result<()> {
    write_atomically(path, note.as_bytes(), 0o600)
}
