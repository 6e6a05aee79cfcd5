//! What is known of a key.

use chrono::TimeDelta;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Error, secret};
use am_db::codec::Timestamp;

am_db::stored_enum! {
    /// What a key allows.
    pub enum Role {
        /// Agents, integration, security, and all the rest.
        Admin = "ADMIN" / "admin",
        /// Services, performance, creativity.
        Client = "CLIENT" / "client",
        /// Performance, creativity.
        Miner = "MINER" / "miner",
    }
}

/// Whether a key lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

impl State {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize)]
pub struct ApiKey {
    /// Eight hex digits, which stand in the key too.
    pub id: String,
    /// What it is called; no two have one name, not even after one of them was revoked.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Whom it stands for.
    pub principal: String,
    /// Whether it lets anybody in, when it was read.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused; none: never.
    pub expires_at: Option<Timestamp>,
    /// When it last got another secret.
    pub rotated_at: Option<Timestamp>,
    /// Until when the secret before is taken; none: it is not.
    pub previous_until: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// What the audit log tells of it.
    pub(super) fn told(&self) -> Value {
        json!({
            "role": self.role,
            "principal": self.principal,
            "expires_at": self.expires_at,
            "rotated_at": self.rotated_at,
            "previous_until": self.previous_until,
            "revoked_at": self.revoked_at,
        })
    }
}

/// Where a key with these times stands.
pub(super) fn state(expires_at: Option<Timestamp>, revoked_at: Option<Timestamp>, now: Timestamp) -> State {
    match (revoked_at, expires_at) {
        (Some(_), _) => State::Revoked,
        (None, Some(end)) if end <= now => State::Expired,
        _ => State::Active,
    }
}

/// A key with the secret that is told this once.
#[derive(Debug)]
pub struct Issued {
    /// What is kept of it.
    pub key: ApiKey,
    /// The whole key, as its holder sends it.
    pub secret: SecretString,
}

/// Until when something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// For ever.
    Open,
    /// For this long from now.
    For(std::time::Duration),
    /// Until then.
    Until(Timestamp),
}

/// The last moment that a timestamp can tell.
const LATEST: i64 = 253_402_300_799;

impl Term {
    /// Its end.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that is past, or later than a timestamp can tell.
    pub(super) fn end(self, field: &'static str, now: Timestamp) -> super::Result<Option<Timestamp>> {
        let end = match self {
            Self::Open => return Ok(None),
            Self::Until(end) => Some(end),
            Self::For(time) => {
                TimeDelta::from_std(time).ok().and_then(|time| now.0.checked_add_signed(time)).map(Timestamp)
            }
        };
        match end {
            Some(end) if end <= now => Err(Error::Invalid { field, message: format!("{end} is not in the future") }),
            Some(end) if end.0.timestamp() <= LATEST => Ok(Some(end)),
            _ => Err(Error::Invalid { field, message: "is too far away".to_owned() }),
        }
    }
}

/// A name is told from an id by its form.
///
/// # Errors
/// [`Error::Invalid`].
pub(super) fn check_name(name: &str) -> super::Result<()> {
    let refuse = |message: &str| Err(Error::Invalid { field: "name", message: message.to_owned() });
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) || name.starts_with('-') {
        return refuse("should be 1 to 64 letters, digits, `_`, `.` and `-` (which is not the first)");
    }
    if secret::is_id(name) {
        return refuse("has the form of a key's id (eight hex digits)");
    }
    Ok(())
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
            assert!(matches!(check_name(bad), Err(Error::Invalid { field: "name", .. })), "{bad}");
        }
    }

    #[test]
    fn a_term_ends_in_the_future() {
        let now = at("2026-05-12 14:00:00");
        assert_eq!(Term::Open.end("expires", now).unwrap(), None);
        let hour = Term::For(Duration::from_secs(3600)).end("expires", now).unwrap();
        assert_eq!(hour, Some(at("2026-05-12 15:00:00")));
        assert_eq!(Term::Until(at("2026-05-13 00:00")).end("expires", now).unwrap(), Some(at("2026-05-13 00:00")));
        for bad in [
            Term::For(Duration::ZERO),
            Term::For(Duration::MAX),
            Term::For(Duration::from_secs(8000 * 366 * 86400)),
            Term::Until(now),
            Term::Until(at("2026-05-12 13:59:59.999999")),
        ] {
            assert!(matches!(bad.end("expires", now), Err(Error::Invalid { field: "expires", .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_revoked_key_is_that_whatever_else_it_is() {
        let (before, now) = (Some(at("2026-05-12 13:00:00")), at("2026-05-12 14:00:00"));
        assert_eq!(state(None, None, now), State::Active);
        assert_eq!(state(Some(at("2026-05-12 14:00:00.000001")), None, now), State::Active);
        assert_eq!(state(Some(now), None, now), State::Expired);
        assert_eq!(state(before, before, now), State::Revoked);
    }
}
