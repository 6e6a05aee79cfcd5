//! Cache of valid keys in memory, so that authenticating a request needs no database access.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use subtle::Choice;

use super::{
    KeyRole,
    model::KeyName,
    secret::{self, SaltedHash},
};
use am_core::{
    ambient::IdGenerator,
    ids::{AgentId, ApiKeyId},
};
use am_db::codec::Timestamp;

/// Seconds after which the use of a key is stored again.
const USE_SECONDS: i64 = 60;

/// A cached key that was not revoked.
pub(super) struct CachedKey {
    pub(super) role: KeyRole,
    /// Agent that the key is bound to; `None`: none.
    pub(super) agent: Option<AgentId>,
    pub(super) principal: Arc<str>,
    pub(super) current: SaltedHash,
    /// Previous secret and the time until which it is accepted.
    pub(super) previous: Option<(SaltedHash, Timestamp)>,
    pub(super) expires_at: Option<Timestamp>,
    /// When it was used; the next cache takes it over.
    pub(super) used: Arc<KeyUse>,
}

/// When a key was used last, and up to when that is stored, in seconds of Unix time; 0: never.
#[derive(Debug, Default)]
pub(super) struct KeyUse {
    last: AtomicI64,
    stored: AtomicI64,
}

impl KeyUse {
    fn note(&self, now: Timestamp) {
        self.last.store(now.0.timestamp(), Ordering::Relaxed);
    }

    /// The last use, if a minute has passed since what is stored.
    fn due(&self) -> Option<Timestamp> {
        let (last, stored) = (self.last.load(Ordering::Relaxed), self.stored.load(Ordering::Relaxed));
        let is_due = last > 0 && (stored == 0 || last - stored >= USE_SECONDS);
        is_due.then(|| chrono::DateTime::from_timestamp(last, 0).map(Timestamp)).flatten()
    }
}

/// Identity of a valid key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyIdentity {
    /// Principal, shown and stored instead of the key.
    pub principal: Arc<str>,
    /// Role of the key.
    pub role: KeyRole,
    /// Agent that the key is bound to; `None`: the key has another role.
    pub agent: Option<AgentId>,
    /// Time at which the presented secret ends: the key's own end, or the end of a replaced secret's grace; `None`:
    /// without end.
    pub until: Option<Timestamp>,
}

/// Cached keys by id.
pub(super) struct KeyCache {
    held: HashMap<ApiKeyId, CachedKey>,
    /// Agents that keys are bound to, and when the last of these keys ends; `None`: one does not.
    agents: HashMap<AgentId, Option<Timestamp>>,
    /// Names of keys by principal, of revoked ones too.
    names: HashMap<Arc<str>, Arc<str>>,
    /// Ids of all keys, of revoked ones too.
    ids: HashSet<ApiKeyId>,
    /// Hash compared with when no key has the id, so that the comparison takes the same time.
    nobody: SaltedHash,
}

impl KeyCache {
    pub(super) fn new(held: HashMap<ApiKeyId, CachedKey>, ids: &IdGenerator) -> Self {
        let mut agents: HashMap<AgentId, Option<Timestamp>> = HashMap::new();
        for key in held.values() {
            let Some(agent) = key.agent.as_ref().filter(|_| key.role == KeyRole::Agent) else { continue };
            let last = agents.entry(agent.clone()).or_insert(key.expires_at);
            *last = last.zip(key.expires_at).map(|(one, other)| one.max(other));
        }
        let nobody = SaltedHash::hash_secret(&secret::random_secret(ids), ids);
        Self { held, agents, names: HashMap::new(), ids: HashSet::new(), nobody }
    }

    /// The same cache with the ids, principals and names of all keys.
    pub(super) fn with_names(mut self, all: Vec<KeyName>) -> Self {
        for KeyName { id, principal, name } in all {
            self.ids.insert(id);
            self.names.insert(principal.as_str().into(), name.into());
        }
        self
    }

    /// The id that a text names which has the form of a key, if there is or was a key of this id, whatever its secret.
    pub(super) fn id_of(&self, presented: &str) -> Option<&ApiKeyId> {
        let (id, _) = secret::parse_key(presented)?;
        self.ids.get(id)
    }

    /// The name of the key with this principal.
    pub(super) fn name_of(&self, principal: &str) -> Option<Arc<str>> {
        self.names.get(principal).cloned()
    }

    /// Take over from `before` when keys were used.
    pub(super) fn keep_use(&mut self, before: &Self) {
        for (id, key) in &mut self.held {
            if let Some(known) = before.held.get(id) {
                key.used = known.used.clone();
            }
        }
    }

    /// The keys whose last use is to be stored.
    pub(super) fn due_uses(&self) -> Vec<(ApiKeyId, Timestamp)> {
        self.held.iter().filter_map(|(id, key)| Some((id.clone(), key.used.due()?))).collect()
    }

    /// Note that these uses are stored.
    pub(super) fn mark_stored(&self, uses: &[(ApiKeyId, Timestamp)]) {
        for (id, at) in uses {
            if let Some(key) = self.held.get(id) {
                key.used.stored.store(at.0.timestamp(), Ordering::Relaxed);
            }
        }
    }

    /// Whether a key that is bound to `agent` is valid at the current time.
    pub(super) fn has_agent(&self, agent: &AgentId, now: impl FnOnce() -> Timestamp) -> bool {
        self.agents.get(agent).is_some_and(|end| end.is_none_or(|end| now() < end))
    }

    /// The identity of a presented key at the current time. Two hashes are always computed and compared, whether the id
    /// is known or not. The id itself is no secret: lists show it.
    pub(super) fn find(&self, presented: &str, now: impl FnOnce() -> Timestamp) -> Option<KeyIdentity> {
        let (id, secret) = secret::parse_key(presented)?;
        let (held, now) = (self.held.get(id), now());
        let (current, previous) = match held {
            Some(held) => (&held.current, held.previous.as_ref()),
            None => (&self.nobody, None),
        };
        let in_grace = previous.is_some_and(|(_, until)| now < *until);
        let is_current = current.fits(secret);
        let fits = is_current
            | previous.map_or(&self.nobody, |(salted, _)| salted).fits(secret) & Choice::from(u8::from(in_grace));
        let held = held.filter(|held| held.expires_at.is_none_or(|end| now < end))?;
        let grace = held.previous.as_ref().filter(|_| !bool::from(is_current)).map(|(_, until)| *until);
        let until = [held.expires_at, grace].into_iter().flatten().min();
        if bool::from(fits) {
            held.used.note(now);
        }
        bool::from(fits).then(|| KeyIdentity {
            principal: held.principal.clone(),
            role: held.role,
            agent: held.agent.clone(),
            until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(chrono::DateTime::from_timestamp(second, 0).unwrap())
    }

    #[test]
    fn an_agent_has_a_key_as_long_as_one_of_its_keys_is_valid() {
        let ids = IdGenerator::seeded(4);
        let held = |role, agent: &str, expires_at| CachedKey {
            role,
            agent: Some(agent.into()),
            principal: "key_0123456789abcdef0123".into(),
            current: SaltedHash::hash_secret("x", &ids),
            previous: None,
            expires_at,
            used: Arc::default(),
        };
        let all = [
            ("00000001", held(KeyRole::Agent, "a", Some(at(50)))),
            ("00000002", held(KeyRole::Agent, "a", Some(at(100)))),
            ("00000003", held(KeyRole::Agent, "b", Some(at(50)))),
            ("00000004", held(KeyRole::Agent, "b", None)),
        ];
        let ring = KeyCache::new(all.map(|(id, held)| (id.into(), held)).into(), &ids);
        let has = |agent: &str, second| ring.has_agent(&agent.into(), || at(second));
        assert!(has("a", 0) && has("a", 99) && !has("a", 100));
        assert!(has("b", 1_000_000) && !has("c", 0));
    }

    #[test]
    fn a_use_is_stored_at_once_and_then_once_a_minute() {
        let use_of = KeyUse::default();
        assert_eq!(use_of.due(), None, "it was never used");
        for (used, due) in [(1000, true), (1030, false), (1059, false), (1060, true), (1100, false)] {
            use_of.note(at(used));
            assert_eq!(use_of.due(), due.then(|| at(used)), "{used}");
            if due {
                use_of.stored.store(used, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn secrets_and_times_decide() {
        let ids = IdGenerator::seeded(3);
        let [old, new, other] = [(); 3].map(|()| secret::random_secret(&ids));
        let held = |grace: bool, expires_at| CachedKey {
            role: KeyRole::Client,
            agent: None,
            principal: "key_0123456789abcdef0123".into(),
            current: SaltedHash::hash_secret(&new, &ids),
            previous: grace.then(|| (SaltedHash::hash_secret(&old, &ids), at(100))),
            expires_at,
            used: Arc::default(),
        };
        let all = [
            ("00000001", held(false, None)),
            ("00000002", held(true, Some(at(200)))),
            ("00000003", held(true, Some(at(50)))),
        ];
        let ring = KeyCache::new(all.map(|(id, held)| (id.into(), held)).into(), &ids);
        let good = |id: &str, secret: &str, second| {
            ring.find(&secret::format_key(&id.into(), secret), || at(second)).is_some()
        };
        assert!(good("00000001", &new, 0) && !good("00000001", &old, 0) && !good("00000001", &other, 0));
        assert!(good("00000002", &old, 99) && !good("00000002", &old, 100), "the grace ends");
        assert!(good("00000002", &new, 199) && !good("00000002", &new, 200), "the key ends");
        assert!(!good("00000002", &other, 0));
        let until = |secret: &str| {
            let found = ring.find(&secret::format_key(&"00000002".into(), secret), || at(0));
            found.unwrap().until
        };
        assert_eq!((until(&new), until(&old)), (Some(at(200)), Some(at(100))));
        assert!(good("00000003", &old, 49) && !good("00000003", &old, 50), "no grace is longer than the key's time");
        assert!(!good("00000004", &new, 0), "nobody's");
        assert!(ring.find(&new, || at(0)).is_none() && ring.find("", || at(0)).is_none());
        let known = ring.find(&secret::format_key(&"00000001".into(), &new), || at(0)).unwrap();
        assert_eq!((known.role, &*known.principal), (KeyRole::Client, "key_0123456789abcdef0123"));
    }
}
