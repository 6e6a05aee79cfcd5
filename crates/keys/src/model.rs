//! Model of an API key.

use chrono::TimeDelta;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value, json};

use super::secret;
use am_core::{
    ids::{AgentId, ApiKeyId, PrincipalId},
    validation::{self, Violation},
};
use am_db::codec::Timestamp;

am_db::stored_enum! {
    /// Role of an API key, which decides the routes it may use.
    pub enum KeyRole {
        /// Agents, integration, security, and all routes of the other roles.
        Admin = "ADMIN" / "admin",
        /// Services, performance and creativity.
        Client = "CLIENT" / "client",
        /// Performance and creativity.
        Miner = "MINER" / "miner",
        /// What the one agent does that the key is bound to: its messages, its heartbeats, its assignments.
        Agent = "AGENT" / "agent",
    }
}

/// State of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// The key is accepted.
    Active,
    /// The key's expiry has passed.
    Expired,
    /// The key was revoked.
    Revoked,
}

impl KeyState {
    /// The form shown to users.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// What stands for a key where it is shown.
pub(super) struct KeyName {
    pub(super) id: ApiKeyId,
    pub(super) principal: PrincipalId,
    pub(super) name: String,
}

/// An API key without its secret.
#[derive(Clone, Debug, Serialize)]
pub struct ApiKey {
    /// Id: eight hex digits, also a part of the key.
    pub id: ApiKeyId,
    /// Name, unique even among revoked keys.
    pub name: String,
    /// Role of the key.
    pub role: KeyRole,
    /// Agent that a key of the role `agent` is bound to; null: the key has another role.
    pub agent_id: Option<AgentId>,
    /// Principal that the key identifies.
    pub principal: PrincipalId,
    /// State at the time of reading.
    pub state: KeyState,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time from which the key is refused; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// Time of the last rotation; `None`: never rotated.
    pub rotated_at: Option<Timestamp>,
    /// Time until which the previous secret is accepted; `None`: not accepted.
    pub previous_until: Option<Timestamp>,
    /// Time of revocation; `None`: not revoked.
    pub revoked_at: Option<Timestamp>,
    /// Time of the last request with the key, to the minute; `None`: none since this is kept.
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// The key's data for the audit log.
    pub(super) fn told(&self) -> Value {
        json!({
            "role": self.role,
            "agent_id": self.agent_id,
            "principal": self.principal,
            "expires_at": self.expires_at,
            "rotated_at": self.rotated_at,
            "previous_until": self.previous_until,
            "revoked_at": self.revoked_at,
        })
    }
}

/// State of a key with these times at `now`.
pub(super) fn key_state(expires_at: Option<Timestamp>, revoked_at: Option<Timestamp>, now: Timestamp) -> KeyState {
    match (revoked_at, expires_at) {
        (Some(_), _) => KeyState::Revoked,
        (None, Some(end)) if end <= now => KeyState::Expired,
        _ => KeyState::Active,
    }
}

/// A key with its secret, which is shown only once.
#[derive(Debug)]
pub struct IssuedKey {
    /// Stored data of the key.
    pub key: ApiKey,
    /// The complete key, as clients send it.
    pub secret: SecretString,
}

/// Requested expiry of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The key does not expire.
    Never,
    /// A duration from now.
    For(std::time::Duration),
    /// A point in time.
    Until(Timestamp),
}

/// Last moment that a timestamp can represent, in Unix seconds.
const MAX_TIMESTAMP_SECONDS: i64 = 253_402_300_799;

impl Expiry {
    /// The expiry as a time; `None` for [`Expiry::Never`].
    ///
    /// # Errors
    /// When that is past, or later than a timestamp can tell.
    pub(super) fn end(self, field: &'static str, now: Timestamp) -> Result<Option<Timestamp>, Violation> {
        let end = match self {
            Self::Never => return Ok(None),
            Self::Until(end) => Some(end),
            Self::For(time) => {
                TimeDelta::from_std(time).ok().and_then(|time| now.0.checked_add_signed(time)).map(Timestamp)
            }
        };
        match end {
            Some(end) if end <= now => Err(Violation::new(field, format!("{end} is not in the future"))),
            Some(end) if end.0.timestamp() <= MAX_TIMESTAMP_SECONDS => Ok(Some(end)),
            _ => Err(Violation::new(field, "is too far in the future")),
        }
    }
}

/// Check the form of a name, which differs from that of an id.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_name(name: &str) -> Result<(), Violation> {
    let refuse = |message: &str| Err(Violation::new("name", message));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) || name.starts_with('-') {
        return refuse("should be 1 to 64 letters, digits, `_`, `.` and `-` (which is not the first)");
    }
    if secret::is_id(name) {
        return refuse("has the form of a key's id (eight hex digits)");
    }
    Ok(())
}

/// The longest name of an agent, in bytes.
const MAX_AGENT_ID_LEN: usize = 128;

/// Check that a key of the role `agent` is bound to an agent, and no other is.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_agent(role: KeyRole, agent: Option<&AgentId>) -> Result<(), Violation> {
    let refuse = |message: &str| Err(Violation::new("agent", message));
    match (role, agent) {
        (KeyRole::Agent, None) => refuse("is required: a key of the role agent is bound to an agent"),
        (KeyRole::Agent, Some(id)) => {
            let fits = validation::has_length(id, &(1..=MAX_AGENT_ID_LEN));
            if id.trim() != id.as_str() || !fits || id.chars().any(char::is_control) {
                return refuse("should be 1 to 128 characters, no control characters, no blanks around it");
            }
            if secret::parse_key(id).is_some() {
                return refuse("is an API key, which names no agent");
            }
            Ok(())
        }
        (_, Some(_)) => refuse("is for keys of the role agent only"),
        (_, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_stored(text).unwrap()
    }

    #[test]
    fn names_are_plain_and_no_ids() {
        for good in ["ci", "0123abc", "0123abcde", "0123ABCD", "a.b_c-d", &"x".repeat(64)] {
            check_name(good).unwrap();
        }
        for bad in ["", "0123abcd", "a b", "-x", "é", "a/b", "a\n", &"x".repeat(65)] {
            assert_eq!(check_name(bad).unwrap_err().path.to_string(), "name", "{bad}");
        }
    }

    #[test]
    fn keys_of_agents_and_no_others_are_bound_to_one() {
        let agent = |text: &str| AgentId::from(text);
        check_agent(KeyRole::Agent, Some(&agent("a"))).unwrap();
        check_agent(KeyRole::Agent, Some(&agent(&"x".repeat(128)))).unwrap();
        check_agent(KeyRole::Admin, None).unwrap();
        let key = format!("am_01234567_{}", "a".repeat(48));
        for bad in ["", " a", "a\n", &"x".repeat(129), &key] {
            assert_eq!(check_agent(KeyRole::Agent, Some(&agent(bad))).unwrap_err().path.to_string(), "agent", "{bad}");
        }
        check_agent(KeyRole::Agent, None).unwrap_err();
        for role in [KeyRole::Admin, KeyRole::Client, KeyRole::Miner] {
            check_agent(role, Some(&agent("a"))).unwrap_err();
        }
    }

    #[test]
    fn a_term_ends_in_the_future() {
        let now = at("2026-05-12 14:00:00");
        assert_eq!(Expiry::Never.end("expires", now).unwrap(), None);
        let hour = Expiry::For(Duration::from_secs(3600)).end("expires", now).unwrap();
        assert_eq!(hour, Some(at("2026-05-12 15:00:00")));
        assert_eq!(Expiry::Until(at("2026-05-13 00:00")).end("expires", now).unwrap(), Some(at("2026-05-13 00:00")));
        for bad in [
            Expiry::For(Duration::ZERO),
            Expiry::For(Duration::MAX),
            Expiry::For(Duration::from_secs(8000 * 366 * 86400)),
            Expiry::Until(now),
            Expiry::Until(at("2026-05-12 13:59:59.999999")),
        ] {
            assert_eq!(bad.end("expires", now).unwrap_err().path.to_string(), "expires", "{bad:?}");
        }
    }

    #[test]
    fn a_revoked_key_is_that_whatever_else_it_is() {
        let (before, now) = (Some(at("2026-05-12 13:00:00")), at("2026-05-12 14:00:00"));
        assert_eq!(key_state(None, None, now), KeyState::Active);
        assert_eq!(key_state(Some(at("2026-05-12 14:00:00.000001")), None, now), KeyState::Active);
        assert_eq!(key_state(Some(now), None, now), KeyState::Expired);
        assert_eq!(key_state(before, before, now), KeyState::Revoked);
    }
}
