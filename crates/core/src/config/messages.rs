//! Settings of messages between agents.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;

use super::{
    group::settings,
    setting_reader::{SettingReader, boolean, days, number, seconds},
};

settings! {
    /// Settings of messages between agents.
    pub struct MessageConfig {
        /// Master keys as pairs of name and base64 key, default none; the first encrypts new data keys.
        "MESSAGE_KEYS" keys: Vec<(String, SecretString)> = Vec::new(), master_keys;
        /// Whether messages may be stored unencrypted when their senders request it, default false.
        "MESSAGES_ALLOW_PLAINTEXT" allow_plaintext: bool = false, boolean;
        /// Whether agents without an explicit authorization are refused, default false.
        "MESSAGES_REQUIRE_AUTHORIZATION" require_authorization: bool = false, boolean;
        /// WebSocket connections of agents that this process accepts, default 10000.
        "MESSAGE_SOCKETS_MAX" sockets: usize = 10_000, number(1..=1_000_000);
        /// Interval between two pings of a connection, default 30 s; a connection that is silent for three intervals is
        /// closed.
        "MESSAGE_PING_SECONDS" ping: Duration = Duration::from_secs(30), seconds(1..=3600);
        /// Time after which an agent without a connection is forgotten, default 30 days: it is in no list of presence,
        /// and a message to all agents does not go to it.
        "MESSAGE_PRESENCE_DAYS" presence_kept: Duration = Duration::from_secs(30 * 24 * 3600), days(1..=3650);
    }
}

/// Error messages name keys by their position in the list and never show them.
fn master_keys(from: &mut SettingReader, key: &str, _: Vec<(String, SecretString)>) -> Vec<(String, SecretString)> {
    const EXPECTED: &str = "should be NAME:KEY, a name of 1 to 64 letters, digits, `_`, `-` and `.`, and 32 random bytes in base64 \
                            (agent-management message-keys new NAME)";
    let mut found: Vec<(String, SecretString)> = Vec::new();
    for (place, item) in from.list(key).into_iter().enumerate() {
        let message = match item.split_once(':') {
            Some((name, secret)) if is_valid_key_name(name) && is_valid_master_key(secret) => {
                if found.iter().all(|(other, _)| other != name) {
                    found.push((name.to_owned(), secret.into()));
                    continue;
                }
                "has the name of one before it"
            }
            _ => EXPECTED,
        };
        from.reject(key, format!("key {} {message}", place + 1));
    }
    found
}

pub(super) fn is_valid_key_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

fn is_valid_master_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32 && bytes.iter().any(|byte| *byte != bytes[0]))
}
