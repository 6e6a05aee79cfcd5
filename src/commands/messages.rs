//! Commands `agent-key`, for agents that encrypt, decrypt and sign messages, and `message-keys`, for operators.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use agent_management::app;
use am_communication::encryption::{
    AgentPrivateKey, ContentEnvelope, EncryptionService, EnvelopeBinding, KeyKind, MessageEncryption,
    RecipientPublicKey, SharedEnvelope, SignedMessage,
};
use am_communication::price::MessageType;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
    crypto::{Signer, read_secret, write_secret},
    ids::{AgentId, ChannelId, MessageId},
    strict_json::parse_strict_json,
};
use am_db::codec::Timestamp;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{CommandError, print_output, read_text};

/// Subcommands of `agent-key`. None of them needs a server or its settings.
#[derive(Subcommand)]
pub enum AgentKeyCommand {
    /// Create a key pair and print the public key as `POST /api/v1/agents/{agent_id}/keys` takes it.
    #[command(after_help = "Example:\n  agent-management agent-key new bob.key")]
    New {
        /// File for the private key: one line of 64 hex digits, mode 0600. An existing file is not overwritten.
        file: PathBuf,
        /// Kind of the key: `x25519` for encryption, `ed25519` for signatures.
        #[arg(long, default_value = "x25519", value_parser = ["x25519", "ed25519"])]
        kind: String,
    },
    /// Print the public key of a private key.
    Public {
        /// File with the private key.
        file: PathBuf,
        /// Kind of the key, as it was created.
        #[arg(long, default_value = "x25519", value_parser = ["x25519", "ed25519"])]
        kind: String,
    },
    /// Sign a message from standard input, as `POST /api/v1/agents/messages/send` takes it, and print it signed.
    ///
    /// A message without an id gets a random one. The signature is accepted for five minutes.
    #[command(after_help = "Example:\n  agent-management agent-key sign alice-signs.key < message.json")]
    Sign {
        /// File with the private Ed25519 key.
        file: PathBuf,
    },
    /// Encrypt JSON from standard input to a recipient's public key, and print the message to send.
    #[command(
        after_help = "Example:\n  agent-management agent-key seal --to \"$BOBS_PUBLIC_KEY\" --sender alice --recipient bob < task.json"
    )]
    Seal {
        /// Recipient's X25519 public key in base64, from `GET /api/v1/agents/{agent_id}/keys`.
        // One of 64 begins with a dash.
        #[arg(long, value_name = "PUBLIC_KEY", allow_hyphen_values = true)]
        to: String,
        /// Sender's agent id.
        #[arg(long, allow_hyphen_values = true)]
        sender: AgentId,
        /// Recipient's agent id.
        #[arg(long, allow_hyphen_values = true)]
        recipient: AgentId,
        /// Message id. The ciphertext is valid for this id only. Default: a random id.
        #[arg(long)]
        message_id: Option<MessageId>,
    },
    /// Decrypt a message, or an inbox, from standard input.
    ///
    /// Prints the content of a message, or each message of an inbox with its content, one per line.
    #[command(after_help = "Example:\n  agent-management agent-key open bob.key < message.json")]
    Open {
        /// File with the private key.
        file: PathBuf,
    },
}

/// Subcommands of `message-keys`.
#[derive(Subcommand)]
pub enum MasterKeyCommand {
    /// Create a random master key and print it in the form of MESSAGE_KEYS.
    #[command(after_help = "Example:\n  agent-management message-keys new 2027")]
    New {
        /// Name: 1 to 64 letters, digits, `_`, `-` and `.`.
        name: String,
    },
    /// List the master keys with the number of data keys that each wraps.
    ///
    /// A master key that wraps none can be removed from MESSAGE_KEYS.
    List {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Retire all data keys and rewrap them with the first key of MESSAGE_KEYS.
    ///
    /// Each channel gets a new data key with its next message. Servers may run meanwhile if that first key is in their
    /// MESSAGE_KEYS.
    Rotate,
}

/// Run the operation.
///
/// # Errors
/// The reason for which it failed.
pub fn run_agent_key(command: AgentKeyCommand) -> Result<(), CommandError> {
    match command {
        AgentKeyCommand::New { file, kind } => {
            // Both kinds of private keys are 32 random bytes.
            let key = AgentPrivateKey::generate()?;
            if !write_secret(&file, key.bytes())? {
                return Err(format!("{} is there already", file.display()).into());
            }
            print_public_key(&key, &kind)
        }
        AgentKeyCommand::Public { file, kind } => {
            print_public_key(&AgentPrivateKey::from_bytes(read_secret(&file)?), &kind)
        }
        AgentKeyCommand::Sign { file } => {
            let signed = sign_message(&Signer::from_seed(&*read_secret(&file)?), read_json_stdin()?)?;
            print_output(&signed.to_string());
            Ok(())
        }
        AgentKeyCommand::Seal { to, sender, recipient, message_id } => {
            let content = read_json_stdin()?;
            let message_id = match message_id {
                Some(id) => id,
                None => IdGenerator::system()?.random_id("msg_", 32).into(),
            };
            let key = RecipientPublicKey::parse(KeyKind::X25519, &to).map_err(|error| format!("--to {error}"))?;
            let sealed = key.seal(
                MessageEncryption::Hpke,
                &EnvelopeBinding { message_id: &message_id, sender: &sender, recipient: &recipient },
                &content,
            )?;
            let message =
                json!({"message_id": message_id, "sender": sender, "recipient": recipient, "content": sealed});
            print_output(&message.to_string());
            Ok(())
        }
        AgentKeyCommand::Open { file } => {
            open_sealed(&AgentPrivateKey::from_bytes(read_secret(&file)?), read_json_stdin()?)
        }
    }
}

/// Add a signature to a message, and an id if it has none.
fn sign_message(signer: &Signer, mut message: Value) -> Result<Value, CommandError> {
    let members = message.as_object_mut().ok_or("standard input is not a message: it is no object")?;
    if members.get("message_id").is_none_or(Value::is_null) {
        members.insert("message_id".to_owned(), IdGenerator::system()?.random_id("msg_", 32).into());
    }
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let needed = |name: &str| text(name).ok_or_else(|| format!("standard input is not a message: it has no {name}"));
    let content = members.get("content").ok_or("standard input is not a message: it has no content")?;
    let (recipient, channel) = (text("recipient").map(AgentId::from), text("channel_id").map(ChannelId::from));
    let reply_to = text("reply_to").map(MessageId::from);
    let signed = SignedMessage {
        message_id: &needed("message_id")?.into(),
        sender: &needed("sender")?.into(),
        recipient: recipient.as_ref(),
        channel: channel.as_ref(),
        topic: text("topic"),
        message_type: text("message_type").unwrap_or(MessageType::Direct.value()),
        reply_to: reply_to.as_ref(),
        content,
    };
    let now = Timestamp(Clock::system().now()).to_string();
    let signature = signed.sign(signer, RecipientPublicKey::of_signer(signer).id(), now);
    members.insert("signature".to_owned(), serde_json::to_value(signature)?);
    Ok(message)
}

fn print_public_key(key: &AgentPrivateKey, kind: &str) -> Result<(), CommandError> {
    let public = match kind == KeyKind::Ed25519.value() {
        true => RecipientPublicKey::of_signer(&Signer::from_seed(key.bytes())),
        false => key.public_key()?,
    };
    print_output(&json!({"kind": public.kind(), "public_key": public.text(), "key_id": public.id()}).to_string());
    Ok(())
}

fn read_json_stdin() -> Result<Value, CommandError> {
    let text = read_text(Path::new("-"))?;
    Ok(parse_strict_json(text.as_bytes()).map_err(|error| format!("standard input is not JSON: {error}"))?)
}

fn open_sealed(key: &AgentPrivateKey, read: Value) -> Result<(), CommandError> {
    let Some(messages) = read.get("messages").and_then(Value::as_array) else {
        print_output(&open_content(key, &read)?.to_string());
        return Ok(());
    };
    let mut failed = 0;
    for message in messages {
        match open_content(key, message) {
            Ok(content) => {
                let mut message = message.clone();
                message["content"] = content;
                print_output(&message.to_string());
            }
            Err(error) => {
                failed += 1;
                let _ = writeln!(std::io::stderr(), "message {}: {error}", message["message_id"]);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} messages cannot be decrypted with this key").into()) }
}

/// Return the content of a message; content that was not encrypted to an agent is returned unchanged.
fn open_content(key: &AgentPrivateKey, message: &Value) -> Result<Value, CommandError> {
    let content = message.get("content").ok_or("this is not a message: it has no content")?;
    let shared = SharedEnvelope::from_content(content)?;
    let whole = if shared.is_some() { None } else { ContentEnvelope::from_content(content)? };
    if shared.is_none() && whole.is_none() {
        return Ok(content.clone());
    }
    let part = |name: &str| {
        let text = message.get(name).and_then(Value::as_str);
        text.ok_or_else(|| format!("this is not a message: it has no {name}"))
    };
    // An imported message has an id of its own here, and its envelope is bound to the former one.
    let imported = message.get("imported").and_then(|origin| origin.get("message_id")?.as_str());
    let message_id = &imported.map_or_else(|| part("message_id"), Ok)?.into();
    let (sender, recipient) = (&part("sender")?.into(), &part("recipient")?.into());
    let bound = EnvelopeBinding { message_id, sender, recipient };
    Ok(match (shared, whole) {
        (Some(envelope), _) => envelope.open(key, &bound)?,
        (None, Some(envelope)) => key.open(&envelope, &bound)?,
        (None, None) => content.clone(),
    })
}

/// Run the operation on the configured database.
///
/// # Errors
/// The reason for which it failed.
pub async fn run_master_keys(config: &Config, command: MasterKeyCommand) -> Result<(), CommandError> {
    let ids = IdGenerator::system()?;
    if let MasterKeyCommand::New { name } = &command {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err("a name is 1 to 64 letters, digits, `_`, `-` and `.`".into());
        }
        print_output(&format!("{name}:{}", STANDARD.encode(AgentPrivateKey::generate()?.bytes())));
        return Ok(());
    }
    if !config.database.exists() {
        let path = config.database.display();
        return Err(format!("there is no database {path}: start the service or run `agent-management migrate`").into());
    }
    let clock = Clock::system();
    let db = app::open_database(config).await?;
    let (audit, _) = app::open_audit(config, &db, &clock, &ids).await?;
    let sealing = app::open_sealing(config, &audit, &db, &clock, &ids)?;
    let done = run_on_master_keys(&sealing, &command).await;
    db.close().await;
    done
}

async fn run_on_master_keys(sealing: &EncryptionService, command: &MasterKeyCommand) -> Result<(), CommandError> {
    match command {
        MasterKeyCommand::New { .. } => {}
        MasterKeyCommand::List { json: true } => {
            print_output(&serde_json::to_string_pretty(&sealing.masters().await?)?)
        }
        MasterKeyCommand::List { json: false } => {
            for master in sealing.masters().await? {
                let state = match (master.current, master.configured) {
                    (true, _) => "current",
                    (false, true) => "configured",
                    (false, false) => "MISSING",
                };
                print_output(&format!("{:<24} {state:<12} {} data keys", master.master_id, master.data_keys));
            }
        }
        MasterKeyCommand::Rotate => print_output(&serde_json::to_string(&sealing.rotate().await?)?),
    }
    Ok(())
}
