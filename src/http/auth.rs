//! Authentication by `X-Api-Key`: keys are compared by hash, and a principal stands for the key's holder.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use axum::http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::sync::watch;

use super::error::ApiError;
use am_core::{
    config::{AppEnvironment, Config},
    ids::AgentId,
};
use am_db::{
    owner::{self, PrincipalName},
    principal::{ClientOrigin, Principal},
};
use am_keys::{ApiKeyService, KeyIdentity};

pub use am_keys::KeyRole;

/// Name of the header that carries the key.
pub const API_KEY_HEADER: &str = "x-api-key";

/// Maximum time for which a request waits until it is known whether its key was made a moment ago.
const KEY_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct ApiCaller {
    /// Who acts, as the crates know it.
    pub principal: Principal,
    /// Role of the key: what it may do.
    pub role: KeyRole,
}

impl ApiCaller {
    fn new(key: &str, role: KeyRole) -> Self {
        let principal = if key == owner::DEV_PRINCIPAL {
            owner::DEV_PRINCIPAL.to_owned()
        } else {
            PrincipalName::from_api_key(key).into()
        };
        let aliases: Arc<[String]> = if owner::is_principal(key) {
            [principal.clone()].into()
        } else {
            [principal.clone(), key.to_owned()].into()
        };
        Self { principal: Principal { name: principal.into(), aliases, agent: None, origin: None }, role }
    }

    /// Build the caller of a key stored in the database. If the coordinator has the key too, its rows contain it.
    fn from_stored_key(key: &str, known: KeyIdentity) -> Self {
        let aliases = [known.principal.to_string(), key.to_owned()];
        let principal = Principal { name: known.principal, aliases: aliases.into(), agent: known.agent, origin: None };
        Self { principal, role: known.role }
    }

    /// Return the same caller with the origin of a request.
    #[must_use]
    pub fn with_origin(mut self, origin: Arc<ClientOrigin>) -> Self {
        self.principal.origin = Some(origin);
        self
    }
}

/// Result of authenticating a request.
#[derive(Clone, Debug)]
pub enum CallerIdentity {
    /// A valid key, or any caller on a development server.
    Known(ApiCaller),
    /// An unknown key.
    Unknown,
    /// The request has no key.
    Missing,
}

impl CallerIdentity {
    /// Return the caller, if authenticated.
    pub fn caller(&self) -> Option<&ApiCaller> {
        match self {
            Self::Known(caller) => Some(caller),
            Self::Unknown | Self::Missing => None,
        }
    }

    /// Return the caller, who must have a role that is `enough`; `wanted` names it in the refusal.
    pub(super) fn admit(&self, enough: impl Fn(KeyRole) -> bool, wanted: &'static str) -> Result<ApiCaller, ApiError> {
        match self {
            Self::Known(caller) if enough(caller.role) => Ok(caller.clone()),
            Self::Known(_) => {
                let detail = format!("This needs {wanted} key");
                Err(ApiError::new(StatusCode::FORBIDDEN, "insufficient_role", detail))
            }
            Self::Unknown => Err(ApiError::unauthorized("Invalid API key")),
            Self::Missing => Err(ApiError::unauthorized("Missing API key: send it as X-Api-Key")),
        }
    }
}

/// Error in the configured keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A key that has the form of a principal would be shown where a principal is expected.
    #[error("{0} holds a key that has the form of a principal (key_ and 20 hex digits, dev_key, system)")]
    LooksLikePrincipal(&'static str),
}

/// Error of a name that looks like an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("looks like an API key, which names nobody: keys belong in the header X-Api-Key")]
pub struct KeyLikeName;

/// Bytes of the shortest text that is looked at as a key.
const MIN_KEY_LEN: usize = 12;

/// The accepted keys, held as hashes with the callers they stand for: the configured keys, and those stored in the
/// database.
pub struct Keyring {
    /// Caller of requests without a key on a development server; `None` on other servers.
    dev: Option<ApiCaller>,
    entries: Vec<ConfiguredKey>,
    kept: Option<ApiKeyService>,
}

struct ConfiguredKey {
    digest: [u8; 32],
    /// Bytes of the beginning by which a mistyped key is recognised, and the beginning's digest.
    beginning: (usize, [u8; 32]),
    caller: ApiCaller,
}

impl Keyring {
    /// Hash the configured keys. A key in several lists has the most powerful of its roles.
    pub fn new(config: &Config) -> Result<Self, KeyringError> {
        let lists = [
            (&config.admin_keys, KeyRole::Admin, "ADMIN_API_KEYS"),
            (&config.client_keys, KeyRole::Client, "CLIENT_API_KEYS"),
            (&config.miner_keys, KeyRole::Miner, "MINER_API_KEYS"),
        ];
        let mut entries: Vec<ConfiguredKey> = Vec::new();
        for (keys, role, name) in lists {
            for key in keys.iter().map(|key| key.expose_secret()) {
                if owner::is_principal(key) && config.environment == AppEnvironment::Production {
                    return Err(KeyringError::LooksLikePrincipal(name));
                }
                let digest = key_digest(key);
                if !entries.iter().any(|entry| entry.digest == digest) {
                    let length = key.floor_char_boundary(key.len() * 3 / 4);
                    let beginning = (length, key_digest(&key[..length]));
                    entries.push(ConfiguredKey { digest, beginning, caller: ApiCaller::new(key, role) });
                }
            }
        }
        let dev =
            (config.environment == AppEnvironment::Dev).then(|| ApiCaller::new(owner::DEV_PRINCIPAL, KeyRole::Admin));
        Ok(Self { dev, entries, kept: None })
    }

    /// Add the keys stored in the database.
    #[must_use]
    pub fn with_stored_keys(mut self, keys: ApiKeyService) -> Self {
        self.kept = Some(keys);
        self
    }

    /// Authenticate a key. The time does not depend on the existing keys: the key's hash is compared with all
    /// configured hashes; a text in the form of a stored key is then hashed and compared as such, whether a key with
    /// its id exists or not.
    pub fn identify(&self, key: Option<&str>) -> CallerIdentity {
        let key = key.filter(|key| !key.is_empty());
        match (&self.dev, key) {
            (Some(dev), None) => CallerIdentity::Known(dev.clone()),
            // A development server accepts any key as admin; a stored key keeps its principal, and an agent's its agent.
            (Some(_), Some(key)) => CallerIdentity::Known(match self.find_stored(key) {
                Some(agent) if agent.role == KeyRole::Agent => agent,
                Some(kept) => ApiCaller { role: KeyRole::Admin, ..kept },
                None => ApiCaller::new(key, KeyRole::Admin),
            }),
            (None, None) => CallerIdentity::Missing,
            (None, Some(key)) => {
                let configured = self.find(key).map(|entry| entry.caller.clone());
                configured.or_else(|| self.find_stored(key)).map_or(CallerIdentity::Unknown, CallerIdentity::Known)
            }
        }
    }

    /// Return `key`, authenticated as `identity`, if it has the form of a stored key and is not known, though another process
    /// may have made it a moment ago; then [`Keyring::look_for`] it.
    pub fn missed<'a>(&self, key: &'a str, identity: &CallerIdentity) -> Option<&'a str> {
        let missed = match identity {
            CallerIdentity::Known(_) => self.dev.is_some() && self.find_stored(key).is_none(),
            CallerIdentity::Unknown => true,
            CallerIdentity::Missing => false,
        };
        (missed && ApiKeyService::has_key_form(key)).then_some(key)
    }

    /// Look into the database for a key that is not known. Afterwards it is, if there is one.
    pub async fn look_for(&self, key: &str) {
        if let Some(kept) = &self.kept {
            let _ = tokio::time::timeout(KEY_LOOKUP_TIMEOUT, kept.find_missed(key)).await;
        }
    }

    /// Return whether a valid key is bound to `agent`, so that no other key speaks for it.
    pub fn has_agent_key(&self, agent: &AgentId) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.has_agent_key(agent))
    }

    /// A receiver that is notified when stored keys have changed; `None`: no keys are stored.
    pub fn subscribe_changes(&self) -> Option<watch::Receiver<i64>> {
        self.kept.as_ref().map(ApiKeyService::subscribe_changes)
    }

    /// Return how long a stored key stays valid; `None`: without end, or it is not stored.
    pub fn time_left(&self, key: &str) -> Option<Duration> {
        let kept = self.kept.as_ref()?;
        kept.time_left(&kept.find(key)?)
    }

    /// Authenticate a request by its headers.
    pub fn identify_headers(&self, headers: &HeaderMap) -> CallerIdentity {
        match headers.get(API_KEY_HEADER).map(|value| value.to_str()) {
            None => self.identify(None),
            Some(Ok(key)) => self.identify(Some(key)),
            Some(Err(_)) => CallerIdentity::Unknown,
        }
    }

    /// Return the owner texts of a principal's rows: the principal itself and, if its key is configured, the key. For
    /// comparisons in SQL only.
    pub fn stored_forms(&self, principal: &str) -> Vec<String> {
        let configured = self.entries.iter().find(|entry| &*entry.caller.principal.name == principal);
        configured.map_or_else(|| vec![principal.to_owned()], |entry| entry.caller.principal.aliases.to_vec())
    }

    /// Return the owner texts of an owner that `caller` names by principal or, like clients of the monolith, by key.
    pub fn owner_forms(&self, caller: &Principal, owner: &str) -> Vec<String> {
        if caller.owns(owner) {
            return caller.aliases.to_vec();
        }
        self.stored_forms(PrincipalName::from_stored(owner).as_str())
    }

    /// Return a name chosen by clients as it is shown: unchanged, unless it is a key.
    pub fn shown(&self, name: &str) -> String {
        let caller = self.find(name).map(|entry| entry.caller.clone()).or_else(|| self.find_stored(name));
        caller.map_or_else(|| name.to_owned(), |caller| caller.principal.name.to_string())
    }

    /// Return a name that clients choose, as it is stored and shown: a key as its principal.
    ///
    /// # Errors
    /// When it is not a key in force, but looks like one: revoked, mistyped, or of another service.
    pub fn name<'a>(&self, name: &'a str) -> Result<Cow<'a, str>, KeyLikeName> {
        if name.len() < MIN_KEY_LEN {
            return Ok(Cow::Borrowed(name));
        }
        if let Some(caller) = self.find(name).map(|entry| entry.caller.clone()).or_else(|| self.find_stored(name)) {
            return Ok(Cow::Owned(caller.principal.name.to_string()));
        }
        let begins = |&(length, digest): &(usize, [u8; 32])| {
            length >= MIN_KEY_LEN && name.get(..length).is_some_and(|beginning| key_digest(beginning) == digest)
        };
        let alike = am_keys::has_key_form(name) || self.entries.iter().any(|entry| begins(&entry.beginning));
        if alike { Err(KeyLikeName) } else { Ok(Cow::Borrowed(name)) }
    }

    /// Return `path` with principals in the place of keys; `None` when it has none.
    ///
    /// # Errors
    /// When a segment looks like a key.
    pub fn shown_path(&self, path: &str) -> Result<Option<String>, KeyLikeName> {
        let mut shown: Vec<Cow<'_, str>> = Vec::new();
        let mut changed = false;
        for segment in path.split('/') {
            let decoded = percent_decode_str(segment).decode_utf8_lossy();
            match self.name(&decoded)? {
                name if name == decoded => shown.push(Cow::Borrowed(segment)),
                // A principal is plain.
                name => {
                    changed = true;
                    shown.push(Cow::Owned(name.into_owned()));
                }
            }
        }
        Ok(changed.then(|| shown.join("/")))
    }

    fn find_stored(&self, key: &str) -> Option<ApiCaller> {
        self.kept.as_ref()?.find(key).map(|known| ApiCaller::from_stored_key(key, known))
    }

    fn find(&self, key: &str) -> Option<&ConfiguredKey> {
        let presented = key_digest(key);
        let mut found = u32::MAX;
        for (place, entry) in (0u32..).zip(&self.entries) {
            let same: Choice = presented.ct_eq(&entry.digest);
            found.conditional_assign(&place, same);
        }
        self.entries.get(found as usize)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("dev", &self.dev.is_some()).field("keys", &self.entries.len()).finish()
    }
}

/// The prefix makes this hash differ from every other hash of the same key.
fn key_digest(key: &str) -> [u8; 32] {
    Sha256::new().chain_update("aitbc-api-key:").chain_update(key).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "admin-key-0123456789abcdef";
    const CLIENT: &str = "client-key-0123456789abcdef";

    /// A development server's settings.
    fn config() -> Config {
        Config::for_tests(std::path::Path::new(""))
    }

    fn production() -> Keyring {
        let mut config = config();
        config.environment = AppEnvironment::Production;
        config.admin_keys = vec![ADMIN.into()];
        config.client_keys = vec![CLIENT.into(), ADMIN.into()];
        config.miner_keys = vec!["miner-key-0123456789abcdef".into()];
        Keyring::new(&config).unwrap()
    }

    #[test]
    fn production_knows_its_keys_and_no_other() {
        let keyring = production();
        let role = |key| keyring.identify(Some(key)).caller().map(|caller| caller.role);
        assert_eq!(role(ADMIN), Some(KeyRole::Admin));
        assert_eq!(role(CLIENT), Some(KeyRole::Client));
        assert_eq!(role("miner-key-0123456789abcdef"), Some(KeyRole::Miner));
        assert_eq!(role("admin-key-0123456789abcdeg"), None);
        assert!(matches!(keyring.identify(Some("x")), CallerIdentity::Unknown));
        assert!(matches!(keyring.identify(None), CallerIdentity::Missing));
        assert!(matches!(keyring.identify(Some("")), CallerIdentity::Missing));
    }

    #[test]
    fn roles_open_their_doors_only() {
        let client = production().identify(Some(CLIENT));
        assert!(client.admit(|role| role != KeyRole::Miner, "a client").is_ok());
        let refused = client.admit(|role| role == KeyRole::Admin, "an admin").unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (403, "insufficient_role"));
        assert_eq!(CallerIdentity::Missing.admit(|_| true, "a").unwrap_err().status, 401);
        assert_eq!(CallerIdentity::Unknown.admit(|_| true, "a").unwrap_err().status, 401);
    }

    #[test]
    fn development_takes_any_key() {
        let keyring = Keyring::new(&config()).unwrap();
        let nobody = keyring.identify(None);
        assert_eq!(&*nobody.caller().unwrap().principal.name, "dev_key");
        assert_eq!(&*keyring.identify(Some("dev_key")).caller().unwrap().principal.name, "dev_key");
        let someone = keyring.identify(Some("anything"));
        let someone = someone.caller().unwrap();
        assert_eq!(someone.role, KeyRole::Admin);
        let someone = &someone.principal;
        assert_eq!(&*someone.name, PrincipalName::from_api_key("anything").as_str());
        assert!(someone.owns("anything") && someone.owns(&someone.name) && !someone.owns("dev_key"));
    }

    #[test]
    fn a_key_that_looks_like_anothers_principal_is_never_an_alias() {
        let victim: String = PrincipalName::from_api_key(ADMIN).into();
        let keyring = Keyring::new(&config()).unwrap();
        let identity = keyring.identify(Some(&victim));
        assert!(!identity.caller().unwrap().principal.owns(&victim));
        let mut production = config();
        production.environment = AppEnvironment::Production;
        production.client_keys = vec![victim.as_str().into()];
        let error = Keyring::new(&production).unwrap_err().to_string();
        assert!(error.contains("CLIENT_API_KEYS") && !error.contains(&victim));
    }

    #[test]
    fn keys_in_paths_become_principals_or_are_refused() {
        let keyring = production();
        let principal: String = PrincipalName::from_api_key(ADMIN).into();
        assert_eq!(keyring.shown_path("/a/workflows/agent_0123abcd/execute"), Ok(None));
        assert_eq!(keyring.shown_path(&format!("/a/{ADMIN}/b")), Ok(Some(format!("/a/{principal}/b"))));
        let encoded = ADMIN.replace('-', "%2D");
        assert_eq!(keyring.shown_path(&format!("/a/{encoded}")), Ok(Some(format!("/a/{principal}"))));
        let managed = format!("am_{}_{}", "0".repeat(8), "a".repeat(48));
        for alike in [format!("{ADMIN}x"), ADMIN[..ADMIN.len() - 1].to_owned(), managed] {
            assert_eq!(keyring.shown_path(&format!("/a/{alike}/b")), Err(KeyLikeName), "{alike}");
            assert!(keyring.name(&alike).is_err());
        }
        for other in
            ["admin-key-0", "admin-key-of-mine", "agent_0123456789abcdef", "am_x", "", "key_8211bbf633a893df9505"]
        {
            assert_eq!(keyring.name(other).as_deref(), Ok(other));
        }
    }

    #[test]
    fn no_key_is_ever_shown() {
        let keyring = production();
        let identity = keyring.identify(Some(ADMIN));
        for shown in [format!("{keyring:?}"), format!("{identity:?}"), format!("{:?}", identity.caller())] {
            assert!(!shown.contains("0123456789abcdef"), "{shown}");
        }
    }

    #[test]
    fn rows_of_both_forms_are_found_by_the_principal() {
        let keyring = production();
        let principal: String = PrincipalName::from_api_key(CLIENT).into();
        assert_eq!(keyring.stored_forms(&principal), [principal.clone(), CLIENT.to_owned()]);
        assert_eq!(keyring.stored_forms("dev_key"), ["dev_key"]);
    }
}
