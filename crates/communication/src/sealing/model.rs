//! How a message is sealed, and for whom.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use am_db::codec::{Doc, Timestamp};

am_db::stored_enum! {
    /// By what the content of a message is sealed.
    pub enum Encryption {
        /// HPKE (RFC 9180) to the recipient's X25519 key.
        Hpke = "HPKE" / "hpke",
        /// AES-256-GCM, by the server, under a key of the channel.
        Aes256 = "AES256" / "aes256",
        /// RSA-OAEP with SHA-256 to the recipient's RSA key.
        Rsa = "RSA" / "rsa",
        /// AES-256-GCM under a key that RSA-OAEP seals to the recipient's RSA key.
        Hybrid = "HYBRID" / "hybrid",
        /// Nothing.
        None = "NONE" / "none",
    }
}

am_db::stored_enum! {
    /// Who could read the content, and from when on nobody but the recipient can.
    pub enum Scope {
        /// The sender sealed it to the recipient's key. This service never had the content.
        EndToEnd = "END_TO_END" / "end_to_end",
        /// It came in the clear and was sealed to the recipient's key on arrival. It was in this service's memory for that
        /// moment, and is stored and forwarded as ciphertext only.
        SealedOnArrival = "SEALED_ON_ARRIVAL" / "sealed_on_arrival",
        /// It is stored as ciphertext that this service can open, and does for whoever may read the message.
        AtRest = "AT_REST" / "at_rest",
        /// It is stored as it came.
        None = "NONE" / "none",
    }
}

am_db::stored_enum! {
    /// What an agent's public key is for.
    pub enum KeyKind {
        /// HPKE.
        X25519 = "X25519" / "x25519",
        /// RSA-OAEP, 2048 bits at least: for peers that have nothing else.
        Rsa = "RSA" / "rsa",
    }
}

/// What a ciphertext is bound to: in another message's place it does not open.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The message.
    pub message_id: &'a str,
    /// Its channel.
    pub channel: &'a str,
    /// Who wrote it.
    pub sender: &'a str,
    /// Whom it is for; none: all in the channel.
    pub recipient: Option<&'a str>,
}

/// How a message that was sent is to be sealed.
#[derive(Clone, Copy, Debug)]
pub struct SealFor<'a> {
    /// Which message it is.
    pub bound: Bound<'a>,
    /// By what, if the sender says.
    pub encryption: Option<Encryption>,
    /// `encrypt` as the sender sent it. False asks for no more than is needed: see [`Scope::AtRest`].
    pub encrypt: bool,
}

/// The content of a message as it is stored.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// By what.
    pub encryption: Encryption,
    /// For whom.
    pub scope: Scope,
    /// The key: the recipient's, or the channel's.
    pub key_id: Option<String>,
    /// What is stored.
    pub stored: Doc,
}

impl Sealed {
    /// Is it stored as ciphertext?
    pub fn is_encrypted(&self) -> bool {
        self.encryption != Encryption::None
    }
}

/// The content of a message as whoever may read it gets it.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// As it was sent.
    Plain(Value),
    /// Sealed to the recipient's key, which this service does not have.
    Envelope(Value),
}

impl Opened {
    /// The JSON that is handed out.
    pub fn into_value(self) -> Value {
        match self {
            Self::Plain(value) | Self::Envelope(value) => value,
        }
    }
}

/// A public key of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentKey {
    /// The first 32 hex digits of the key's SHA-256.
    pub key_id: String,
    /// What it is for.
    pub kind: KeyKind,
    /// The key in base64: 32 bytes of X25519, or DER (SubjectPublicKeyInfo) of RSA.
    pub public_key: String,
    /// Who registered it.
    pub owner_id: String,
    /// When.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// From then on nothing is sealed to it.
    #[schema(value_type = Option<String>)]
    pub revoked_at: Option<Timestamp>,
}

/// What a rotation of the server's own keys did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// The master key that wraps all data keys now.
    pub master_id: String,
    /// Channels whose next message gets a new data key.
    pub retired: u64,
    /// Data keys that another master key had wrapped.
    pub rewrapped: u64,
}

/// A master key, and how many data keys it wraps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MasterUse {
    /// Its name.
    pub master_id: String,
    /// Does this configuration have it?
    pub configured: bool,
    /// Are new data keys wrapped by it?
    pub current: bool,
    /// Data keys that it wraps, retired ones among them.
    pub data_keys: i64,
}
