//! Canonical JSON, keys and signatures in the coordinator's formats: each side can verify what the other signed.

mod canonical_json;
mod hashing_stream;
mod note_key;
mod public_key;
mod secret_file;
mod signature;
mod signer;

pub use canonical_json::{canonical_audit_json, canonical_receipt_json, canonical_results_json, sha256_hex};
pub use hashing_stream::HashingStream;
pub use note_key::{NoteKey, NoteKeyKind, is_valid_note_name};
pub use public_key::Ed25519PublicKey;
pub use secret_file::{load_or_create_secret, read_secret, write_secret};
pub use signature::{Signature, VerifyError, verify_signature};
pub use signer::Signer;

/// Error of reading, creating or checking a key. No message contains key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A key that is not written as 64 hex digits.
    #[error("a key is 32 bytes, written as 64 hex digits")]
    InvalidHex,
    /// 32 bytes that are no Ed25519 public key, or a point of small order.
    #[error("these 32 bytes are not an Ed25519 public key")]
    InvalidPublicKey,
    /// A key file whose content is not one line of 64 hex digits.
    #[error("{path} holds no key: it should be one line of 64 hex digits")]
    MalformedFile {
        /// Path of the key file.
        path: std::path::PathBuf,
    },
    /// A key file that other users can read or write, so its key may be known to them.
    #[error("{path} can be read or written by others (mode {mode:04o}); if nobody has read it: chmod 600 {path}")]
    InsecurePermissions {
        /// Path of the key file.
        path: std::path::PathBuf,
        /// Permission bits of the key file.
        mode: u32,
    },
    /// Failure to read or create the key file.
    #[error("key {path}: {source}")]
    Io {
        /// Path of the key file.
        path: std::path::PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// No randomness from the operating system for a new key; the value is the reason.
    #[error("no randomness from the operating system for a new signing key: {0}")]
    RandomnessUnavailable(String),
}
