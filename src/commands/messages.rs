//! `agent-key`, for agents that seal and open what they write, and `message-keys`, for whoever runs the service.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use agent_management::app;
use am_communication::sealing::{Encryption, Envelope, KeyKind, PublicKey, Sealing, SecretKey};
use am_core::{
    ambient::{Clock, Ids},
    config::Config,
    crypto::{read_secret, write_secret},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{Failure, print, text_of};

/// What an agent does with its own key. None of it needs a server or its settings.
#[derive(Subcommand)]
pub enum AgentKey {
    /// Make an X25519 key, and print its public half as the route that registers it takes it.
    New {
        /// Where the key is kept: one line of 64 hex digits, readable by its owner alone. What is there already stays.
        file: PathBuf,
    },
    /// Print the public half again.
    Public {
        /// The key.
        file: PathBuf,
    },
    /// Seal content to a recipient's public key: JSON from standard input, and out the message as it is sent.
    Seal {
        /// The recipient's X25519 key in base64, as its list of keys shows it.
        // One of 64 begins with a dash.
        #[arg(long, value_name = "PUBLIC_KEY", allow_hyphen_values = true)]
        to: String,
        /// Who writes.
        #[arg(long, allow_hyphen_values = true)]
        sender: String,
        /// To whom.
        #[arg(long, allow_hyphen_values = true)]
        recipient: String,
        /// The message's id, by which its content can't be moved to another; without it one is drawn.
        #[arg(long)]
        message_id: Option<String>,
    },
    /// Open what was sealed to this key: a message, or an inbox, from standard input. Out come the message's content, or the
    /// inbox's messages with theirs, one a line.
    Open {
        /// The key.
        file: PathBuf,
    },
}

/// What is done with the keys that messages are encrypted at rest with.
#[derive(Subcommand)]
pub enum MasterKeys {
    /// Draw a master key and print it as MESSAGE_KEYS takes it.
    New {
        /// What it is called: 1 to 64 letters, digits, `_`, `-` and `.`.
        name: String,
    },
    /// Which master keys wrap how many data keys. One that wraps none can be taken out of MESSAGE_KEYS.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let each channel take a new data key, and wrap the old ones by the first of MESSAGE_KEYS. Servers may run meanwhile, if
    /// they have that one.
    Rotate,
}

/// Do it.
///
/// # Errors
/// What keeps it from being done.
pub fn agent_key(command: AgentKey) -> Result<(), Failure> {
    match command {
        AgentKey::New { file } => {
            let key = SecretKey::generate()?;
            if !write_secret(&file, key.bytes())? {
                return Err(format!("{} is there already", file.display()).into());
            }
            public(&key)
        }
        AgentKey::Public { file } => public(&SecretKey::from_bytes(read_secret(&file)?)),
        AgentKey::Seal { to, sender, recipient, message_id } => {
            let content = stdin()?;
            let message_id = match message_id {
                Some(id) => id,
                None => Ids::system()?.prefixed("msg_", 32),
            };
            let key = PublicKey::read(KeyKind::X25519, &to).map_err(|error| format!("--to {error}"))?;
            let sealed = key.seal(Encryption::Hpke, (&message_id, &sender, &recipient), &content)?;
            let message =
                json!({"message_id": message_id, "sender": sender, "recipient": recipient, "content": sealed});
            print(&message.to_string());
            Ok(())
        }
        AgentKey::Open { file } => open(&SecretKey::from_bytes(read_secret(&file)?), stdin()?),
    }
}

fn public(key: &SecretKey) -> Result<(), Failure> {
    let public = key.public_key()?;
    print(&json!({"kind": public.kind(), "public_key": public.text(), "key_id": public.id()}).to_string());
    Ok(())
}

fn stdin() -> Result<Value, Failure> {
    let text = text_of(Path::new("-"))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("standard input is no JSON: {error}"))?)
}

fn open(key: &SecretKey, read: Value) -> Result<(), Failure> {
    let Some(messages) = read.get("messages").and_then(Value::as_array) else {
        print(&content(key, &read)?.to_string());
        return Ok(());
    };
    let mut failed = 0;
    for message in messages {
        match content(key, message) {
            Ok(content) => {
                let mut message = message.clone();
                message["content"] = content;
                print(&message.to_string());
            }
            Err(error) => {
                failed += 1;
                let _ = writeln!(std::io::stderr(), "message {}: {error}", message["message_id"]);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} messages do not open with this key").into()) }
}

/// The content of a message; what was not sealed to anybody comes as it is.
fn content(key: &SecretKey, message: &Value) -> Result<Value, Failure> {
    let content = message.get("content").ok_or("this is no message: it has no content")?;
    let Some(envelope) = Envelope::of(content)? else { return Ok(content.clone()) };
    let part = |name: &str| {
        let text = message.get(name).and_then(Value::as_str);
        text.ok_or_else(|| format!("this is no message: it has no {name}"))
    };
    let (id, sender, recipient) = (part("message_id")?, part("sender")?, part("recipient")?);
    Ok(key.open(&envelope, (id, sender, recipient))?)
}

/// Do it, on the database that is configured.
///
/// # Errors
/// What keeps it from being done.
pub async fn master_keys(config: &Config, command: MasterKeys) -> Result<(), Failure> {
    let ids = Ids::system()?;
    if let MasterKeys::New { name } = &command {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err("a name is 1 to 64 letters, digits, `_`, `-` and `.`".into());
        }
        print(&format!("{name}:{}", STANDARD.encode(SecretKey::generate()?.bytes())));
        return Ok(());
    }
    if !config.database.exists() {
        let path = config.database.display();
        return Err(format!("there is no database {path}: start the service or run `agent-management migrate`").into());
    }
    let clock = Clock::system();
    let db = app::open_database(config, &clock, false).await?;
    let (audit, _) = app::open_audit(config, (&db, &clock, &ids))?;
    let sealing = app::open_sealing(config, &audit, (&db, &clock, &ids))?;
    let done = perform(&sealing, &command).await;
    db.close().await;
    done
}

async fn perform(sealing: &Sealing, command: &MasterKeys) -> Result<(), Failure> {
    match command {
        MasterKeys::New { .. } => {}
        MasterKeys::List { json: true } => print(&serde_json::to_string_pretty(&sealing.masters().await?)?),
        MasterKeys::List { json: false } => {
            for master in sealing.masters().await? {
                let state = match (master.current, master.configured) {
                    (true, _) => "current",
                    (false, true) => "configured",
                    (false, false) => "MISSING",
                };
                print(&format!("{:<24} {state:<12} {} data keys", master.master_id, master.data_keys));
            }
        }
        MasterKeys::Rotate => print(&serde_json::to_string(&sealing.rotate().await?)?),
    }
    Ok(())
}
