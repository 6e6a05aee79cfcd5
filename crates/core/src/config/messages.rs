//! How messages between agents are kept.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};

use super::read::Reader;

/// How messages between agents are kept.
#[derive(Clone, Debug)]
pub struct MessageConfig {
    /// `MESSAGE_KEYS`: master keys by their names, in base64; the first wraps what is new.
    pub keys: Vec<(String, SecretString)>,
    /// `MESSAGES_ALLOW_PLAINTEXT`, default false: messages may be stored in the clear where their senders ask for it.
    pub allow_plaintext: bool,
    /// `MESSAGES_REQUIRE_AUTHORIZATION`, default false: an agent of whom nobody has spoken may not take part.
    pub require_authorization: bool,
    /// `MESSAGE_SOCKETS_MAX`, default 10000: sockets of agents that this process holds.
    pub sockets: usize,
    /// `MESSAGE_PING_SECONDS`, default 30: between two pings of a socket; one that is silent for three of them is closed.
    pub ping: Duration,
}

impl Default for MessageConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            allow_plaintext: false,
            require_authorization: false,
            sockets: 10_000,
            ping: Duration::from_secs(30),
        }
    }
}

pub(super) fn messages(from: &mut Reader) -> MessageConfig {
    let default = MessageConfig::default();
    MessageConfig {
        keys: keys(from),
        allow_plaintext: from.truth("MESSAGES_ALLOW_PLAINTEXT", default.allow_plaintext),
        require_authorization: from.truth("MESSAGES_REQUIRE_AUTHORIZATION", default.require_authorization),
        sockets: from.number("MESSAGE_SOCKETS_MAX", default.sockets, 1..=1_000_000),
        ping: from.seconds("MESSAGE_PING_SECONDS", default.ping, 1..=3600),
    }
}

/// Keys are named by their place in the list and never shown.
fn keys(from: &mut Reader) -> Vec<(String, SecretString)> {
    const GOOD: &str = "should be NAME:KEY, a name of 1 to 64 letters, digits, `_`, `-` and `.`, and 32 random bytes in base64 \
                        (agent-management message-keys new NAME)";
    let mut found: Vec<(String, SecretString)> = Vec::new();
    for (place, item) in from.secrets("MESSAGE_KEYS").into_iter().enumerate() {
        let fault = match item.expose_secret().split_once(':') {
            Some((name, key)) if is_name(name) && is_key(key) => {
                if found.iter().all(|(other, _)| other != name) {
                    found.push((name.to_owned(), key.into()));
                    continue;
                }
                "has the name of one before it"
            }
            _ => GOOD,
        };
        from.fault("MESSAGE_KEYS", format!("key {} {fault}", place + 1));
    }
    found
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

fn is_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32 && bytes.iter().any(|byte| *byte != bytes[0]))
}
