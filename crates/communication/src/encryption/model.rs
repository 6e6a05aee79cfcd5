//! Model of encrypted content and its keys.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use am_core::ids::{AgentId, AgentKeyId, ChannelId, ContentId, ContentKeyId, MasterKeyId, MessageId, PrincipalId};
use am_db::codec::{JsonText, Timestamp};

am_db::stored_enum! {
    /// Encryption of a message's content.
    #[schema(as = MessageEncryption)]
    pub enum MessageEncryption {
        /// HPKE (RFC 9180) to the recipient's X25519 key.
        Hpke = "HPKE" / "hpke",
        /// AES-256-GCM by the server, under a key of the channel.
        Aes256 = "AES256" / "aes256",
        /// RSA-OAEP with SHA-256 to the recipient's RSA key.
        Rsa = "RSA" / "rsa",
        /// AES-256-GCM under a key that is encrypted by RSA-OAEP to the recipient's RSA key.
        Hybrid = "HYBRID" / "hybrid",
        /// Content without encryption.
        None = "NONE" / "none",
    }
}

am_db::stored_enum! {
    /// Protection of the content: who could read it before only the recipient can.
    #[schema(as = EncryptionScope)]
    pub enum EncryptionScope {
        /// Encrypted by the sender to the recipient's key. This service never had the content.
        EndToEnd = "END_TO_END" / "end_to_end",
        /// Received unencrypted and encrypted to the recipient's key on arrival. The content was in this service's
        /// memory for that moment, and is stored and forwarded as ciphertext only.
        SealedOnArrival = "SEALED_ON_ARRIVAL" / "sealed_on_arrival",
        /// Stored as ciphertext that this service decrypts for those who may read the message.
        AtRest = "AT_REST" / "at_rest",
        /// Content stored without encryption.
        None = "NONE" / "none",
    }
}

am_db::stored_enum! {
    /// Kind of an agent's public key.
    pub enum KeyKind {
        /// X25519, for HPKE.
        X25519 = "X25519" / "x25519",
        /// RSA of at least 2048 bits, for RSA-OAEP: for agents without X25519.
        Rsa = "RSA" / "rsa",
        /// Ed25519, for signatures of the agent's messages. Nothing is encrypted to it.
        Ed25519 = "ED25519" / "ed25519",
    }
}

/// Data that a ciphertext is bound to: it does not decrypt as part of another message.
#[derive(Clone, Copy, Debug)]
pub struct CiphertextBinding<'a> {
    /// Id of the message.
    pub message_id: &'a MessageId,
    /// Id of the channel.
    pub channel: &'a ChannelId,
    /// Agent that sent the message.
    pub sender: &'a AgentId,
    /// Receiving agent; `None`: all members of the channel.
    pub recipient: Option<&'a AgentId>,
}

/// Data that an envelope to a recipient is bound to: it does not open as another message.
#[derive(Clone, Copy, Debug)]
pub struct EnvelopeBinding<'a> {
    /// Id of the message.
    pub message_id: &'a MessageId,
    /// Agent that sent the message.
    pub sender: &'a AgentId,
    /// Agent that receives the message.
    pub recipient: &'a AgentId,
}

/// Parameters for encrypting a message.
#[derive(Clone, Copy, Debug)]
pub struct EncryptionRequest<'a> {
    /// Data that the ciphertext is bound to.
    pub bound: CiphertextBinding<'a>,
    /// Encryption requested by the sender; `None` leaves the choice to the service.
    pub encryption: Option<MessageEncryption>,
    /// Member `encrypt` of the request. False requests no more protection than required: see [`EncryptionScope::AtRest`].
    pub encrypt: bool,
}

/// The content of a message, as stored.
#[derive(Clone, Debug)]
pub struct EncryptedContent {
    /// Encryption of the content.
    pub encryption: MessageEncryption,
    /// Protection of the content.
    pub scope: EncryptionScope,
    /// Id of the recipient's or the channel's key; `None` without one.
    pub key_id: Option<ContentKeyId>,
    /// Content as stored JSON; of a copy that shares its content, the encrypted key to it.
    pub stored: JsonText,
    /// Content that the copy shares with others; `None` when it has its own.
    pub shared: Option<Arc<SharedContent>>,
}

/// Content of a message to several, stored once for all copies.
#[derive(Clone, Debug)]
pub struct SharedContent {
    /// Id of the content.
    pub id: ContentId,
    /// Nonce and ciphertext as JSON, or the content itself where the copies are not encrypted.
    pub stored: JsonText,
}

impl EncryptedContent {
    /// Whether it is stored as ciphertext.
    pub fn is_encrypted(&self) -> bool {
        self.encryption != MessageEncryption::None
    }
}

/// The content of a message, as shown to those who may read it.
#[derive(Clone, Debug, PartialEq)]
pub enum DecryptedContent {
    /// Content as it was sent.
    Plain(Value),
    /// Envelope for the recipient's key, which this service does not have.
    Envelope(Value),
}

impl DecryptedContent {
    /// The JSON shown to the reader.
    pub fn into_value(self) -> Value {
        match self {
            Self::Plain(value) | Self::Envelope(value) => value,
        }
    }
}

/// A public key of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentKey {
    /// Id: the first 32 hex digits of the key's SHA-256.
    pub key_id: AgentKeyId,
    /// Kind of the key.
    pub kind: KeyKind,
    /// Key in base64: 32 bytes of X25519 or Ed25519, or DER (SubjectPublicKeyInfo) of RSA.
    pub public_key: String,
    /// Principal that registered the key.
    pub owner_id: PrincipalId,
    /// Time of registration.
    pub created_at: Timestamp,
    /// Time of revocation, from which nothing is encrypted to the key and no signature by it is accepted; null while it is
    /// active.
    pub revoked_at: Option<Timestamp>,
}

/// Result of a rotation of the server's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyRotationReport {
    /// Name of the master key that wraps all data keys now.
    pub master_id: MasterKeyId,
    /// Number of channels whose next message gets a new data key.
    pub retired: u64,
    /// Number of data keys that another master key had wrapped.
    pub rewrapped: u64,
}

/// Usage of a master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MasterKeyUsage {
    /// Name of the master key.
    pub master_id: MasterKeyId,
    /// Whether the key is configured.
    pub configured: bool,
    /// Whether the key wraps new data keys.
    pub current: bool,
    /// Number of data keys that it wraps, including retired ones.
    pub data_keys: i64,
}

/// A public key to register.
#[derive(Clone, Debug)]
pub struct NewAgentKey {
    /// Kind of the key.
    pub kind: KeyKind,
    /// The key in base64 or PEM.
    pub public_key: String,
    /// Id that the key must have; `None`: not compared.
    pub key_id: Option<AgentKeyId>,
}
