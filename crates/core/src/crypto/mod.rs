//! Canonical JSON, keys and signatures, in the coordinator's own forms: what is signed here it can check, and the
//! other way round.

mod canonical;
mod keys;
mod secret_file;
mod signature;

pub use canonical::{audit, canonical, results, sha256_hex};
pub use keys::{PublicKey, Signer};
pub use secret_file::{read_secret, secret_file, write_secret};
pub use signature::{Signature, VerifyError, verify};

/// Why there is no key to sign or to verify with. No message shows key material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key is not written as 64 hex digits.
    #[error("a key is 32 bytes, written as 64 hex digits")]
    NotHex,
    /// The 32 bytes are no Ed25519 public key that a signature may be checked with.
    #[error("these 32 bytes are not an Ed25519 public key")]
    NotAPublicKey,
    /// The key file holds something else.
    #[error("{path} holds no key: it should be one line of 64 hex digits")]
    BadFile {
        /// The key file.
        path: std::path::PathBuf,
    },
    /// Others may read the key file, so the key may be known to them.
    #[error("{path} can be read or written by others (mode {mode:04o}); if nobody has read it: chmod 600 {path}")]
    Exposed {
        /// The key file.
        path: std::path::PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file could not be read or made.
    #[error("key {path}: {source}")]
    Io {
        /// The key file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The operating system gave no randomness for a new key.
    #[error("no randomness from the operating system for a new signing key: {0}")]
    NoRandomness(String),
}
