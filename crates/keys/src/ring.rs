//! Cache of valid keys in memory, so that authenticating a request needs no database access.

use std::{collections::HashMap, sync::Arc};

use subtle::Choice;

use super::{
    Role,
    secret::{self, Salted},
};
use am_core::ambient::Ids;
use am_db::codec::Timestamp;

/// A cached key that was not revoked.
pub(super) struct Held {
    pub(super) role: Role,
    pub(super) principal: Arc<str>,
    pub(super) current: Salted,
    /// Previous secret and the time until which it is accepted.
    pub(super) previous: Option<(Salted, Timestamp)>,
    pub(super) expires_at: Option<Timestamp>,
}

/// Identity of a valid key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Principal, shown and stored instead of the key.
    pub principal: Arc<str>,
    /// Role of the key.
    pub role: Role,
}

/// Cached keys by id.
pub(super) struct Ring {
    held: HashMap<String, Held>,
    /// Hash compared with when no key has the id, so that the comparison takes the same time.
    nobody: Salted,
}

impl Ring {
    pub(super) fn new(held: HashMap<String, Held>, ids: &Ids) -> Self {
        Self { held, nobody: Salted::of(&secret::draw_secret(ids), ids) }
    }

    /// The identity of a presented key at the current time. Two hashes are always computed and compared, whether the id
    /// is known or not. The id itself is no secret: lists show it.
    pub(super) fn find(&self, presented: &str, now: impl FnOnce() -> Timestamp) -> Option<Known> {
        let (id, secret) = secret::parse(presented)?;
        let (held, now) = (self.held.get(id), now());
        let (current, previous) = match held {
            Some(held) => (&held.current, held.previous.as_ref()),
            None => (&self.nobody, None),
        };
        let in_grace = previous.is_some_and(|(_, until)| now < *until);
        let fits = current.fits(secret)
            | previous.map_or(&self.nobody, |(salted, _)| salted).fits(secret) & Choice::from(u8::from(in_grace));
        let held = held.filter(|held| held.expires_at.is_none_or(|end| now < end))?;
        bool::from(fits).then(|| Known { principal: held.principal.clone(), role: held.role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(chrono::DateTime::from_timestamp(second, 0).unwrap())
    }

    #[test]
    fn secrets_and_times_decide() {
        let ids = Ids::seeded(3);
        let [old, new, other] = [(); 3].map(|()| secret::draw_secret(&ids));
        let held = |grace: bool, expires_at| Held {
            role: Role::Client,
            principal: "key_0123456789abcdef0123".into(),
            current: Salted::of(&new, &ids),
            previous: grace.then(|| (Salted::of(&old, &ids), at(100))),
            expires_at,
        };
        let all = [
            ("00000001", held(false, None)),
            ("00000002", held(true, Some(at(200)))),
            ("00000003", held(true, Some(at(50)))),
        ];
        let ring = Ring::new(all.map(|(id, held)| (id.to_owned(), held)).into(), &ids);
        let good = |id: &str, secret: &str, second| ring.find(&secret::written(id, secret), || at(second)).is_some();
        assert!(good("00000001", &new, 0) && !good("00000001", &old, 0) && !good("00000001", &other, 0));
        assert!(good("00000002", &old, 99) && !good("00000002", &old, 100), "the grace ends");
        assert!(good("00000002", &new, 199) && !good("00000002", &new, 200), "the key ends");
        assert!(!good("00000002", &other, 0));
        assert!(good("00000003", &old, 49) && !good("00000003", &old, 50), "no grace is longer than the key's time");
        assert!(!good("00000004", &new, 0), "nobody's");
        assert!(ring.find(&new, || at(0)).is_none() && ring.find("", || at(0)).is_none());
        let known = ring.find(&secret::written("00000001", &new), || at(0)).unwrap();
        assert_eq!((known.role, &*known.principal), (Role::Client, "key_0123456789abcdef0123"));
    }
}
