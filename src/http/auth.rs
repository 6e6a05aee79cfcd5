//! Authentication by key or token: keys are compared by hash, tokens are verified, and a principal stands for the holder.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::sync::watch;

use super::{
    bearer_token::{TokenClaims, TokenFault, TokenVerifier, has_token_form},
    credential,
    error::ApiError,
    refusals::{TOKEN_KEY, UNKNOWN_KEY},
};
use am_core::{
    ambient::Clock,
    config::{AppEnvironment, Config},
    ids::AgentId,
};
use am_db::{
    owner::{self, PrincipalName},
    principal::{ClientOrigin, Principal},
};
use am_keys::{ApiKeyService, KeyIdentity};

pub use am_keys::KeyRole;

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

    /// Build the caller of a valid token. Rows that the coordinator wrote for it contain the token's subject.
    /// A subject with the text of a key or a principal is none of them.
    fn from_token(claims: TokenClaims, is_key: bool) -> Self {
        let name = String::from(PrincipalName::from_token_subject(&claims.subject));
        let aliases: Arc<[String]> = if is_key || owner::is_principal(&claims.subject) {
            [name.clone()].into()
        } else {
            [name.clone(), claims.subject].into()
        };
        Self { principal: Principal { name: name.into(), aliases, agent: None, origin: None }, role: claims.role }
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
    /// A token that is not valid.
    Refused(TokenFault),
    /// The request has no key.
    Missing,
}

impl CallerIdentity {
    /// Return the caller, if authenticated.
    pub fn caller(&self) -> Option<&ApiCaller> {
        match self {
            Self::Known(caller) => Some(caller),
            Self::Unknown | Self::Refused(_) | Self::Missing => None,
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
            Self::Refused(fault) => Err(ApiError::unauthorized(fault.to_string())),
            Self::Missing => Err(ApiError::unauthorized("Missing API key: send it as X-Api-Key")),
        }
    }
}

/// Error in the configured keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A key that has the form of a principal would be shown where a principal is expected.
    #[error("{0} holds a key that has the form of a principal (key_ or jwt_ and 20 hex digits, dev_key, system)")]
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
    /// Verifier of the coordinator's tokens, and the time that they are held against; `None`: tokens are no keys.
    tokens: Option<(TokenVerifier, Clock)>,
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
        Ok(Self { dev, entries, kept: None, tokens: None })
    }

    /// Add the keys stored in the database.
    #[must_use]
    pub fn with_stored_keys(mut self, keys: ApiKeyService) -> Self {
        self.kept = Some(keys);
        self
    }

    /// Accept tokens signed with `secret`; `None` accepts none.
    #[must_use]
    pub fn with_tokens(mut self, secret: Option<&SecretString>, clock: Clock) -> Self {
        self.tokens = secret.map(|secret| (TokenVerifier::new(secret.clone()), clock));
        self
    }

    /// Authenticate a key or a token. The time does not depend on the existing keys: the key's hash is compared with all
    /// configured hashes; a text in the form of a stored key is then hashed and compared as such, whether a key with
    /// its id exists or not.
    pub fn identify(&self, key: Option<&str>) -> CallerIdentity {
        let key = key.filter(|key| !key.is_empty());
        match (&self.dev, key) {
            (Some(dev), None) => CallerIdentity::Known(dev.clone()),
            // A development server accepts any key as admin; a stored key keeps its principal, and an agent's its agent.
            (Some(_), Some(key)) => match self.find_stored(key) {
                Some(agent) if agent.role == KeyRole::Agent => CallerIdentity::Known(agent),
                Some(kept) => CallerIdentity::Known(ApiCaller { role: KeyRole::Admin, ..kept }),
                None => self
                    .identify_token(key)
                    .unwrap_or_else(|| CallerIdentity::Known(ApiCaller::new(key, KeyRole::Admin))),
            },
            (None, None) => CallerIdentity::Missing,
            (None, Some(key)) => {
                let configured = self.find(key).map(|entry| entry.caller.clone());
                match configured.or_else(|| self.find_stored(key)) {
                    Some(caller) => CallerIdentity::Known(caller),
                    None => self.identify_token(key).unwrap_or(CallerIdentity::Unknown),
                }
            }
        }
    }

    /// Authenticate a token; `None` when the text has not the form of one, or none is accepted.
    fn identify_token(&self, text: &str) -> Option<CallerIdentity> {
        let (verifier, clock) = self.tokens.as_ref().filter(|_| has_token_form(text))?;
        Some(match verifier.verify(text, clock.now()) {
            Ok(claims) => {
                let is_key = self.name(&claims.subject).as_deref() != Ok(claims.subject.as_str());
                CallerIdentity::Known(ApiCaller::from_token(claims, is_key))
            }
            Err(fault) => CallerIdentity::Refused(fault),
        })
    }

    /// Return `key`, authenticated as `identity`, if it has the form of a stored key and is not known, though another process
    /// may have made it a moment ago; then [`Keyring::look_for`] it.
    pub fn missed<'a>(&self, key: &'a str, identity: &CallerIdentity) -> Option<&'a str> {
        let missed = match identity {
            CallerIdentity::Known(_) => self.dev.is_some() && self.find_stored(key).is_none(),
            CallerIdentity::Unknown => true,
            CallerIdentity::Refused(_) | CallerIdentity::Missing => false,
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

    /// Return the name under which a refusal of a request is counted: the id of the stored key that it presents, valid or not, the
    /// principal of a configured key, or one for all others. There are no more names than keys.
    pub fn key_label(&self, presented: Option<&str>, identity: &CallerIdentity) -> Arc<str> {
        let stored = presented.and_then(|key| self.kept.as_ref()?.id_of(key));
        match (stored, identity.caller()) {
            (Some(id), _) => id.as_str().into(),
            (None, Some(caller)) => {
                let name = &caller.principal.name;
                let configured = self.entries.iter().any(|entry| entry.caller.principal.name == *name);
                if configured { name.clone() } else { TOKEN_KEY.into() }
            }
            (None, None) => UNKNOWN_KEY.into(),
        }
    }

    /// Return the name of the stored key with this principal, for its operators; `None`: no stored key has it. Asks no database.
    pub fn key_name(&self, principal: &str) -> Option<Arc<str>> {
        self.kept.as_ref()?.name_of(principal)
    }

    /// A receiver that is notified when stored keys have changed; `None`: no keys are stored.
    pub fn subscribe_changes(&self) -> Option<watch::Receiver<i64>> {
        self.kept.as_ref().map(ApiKeyService::subscribe_changes)
    }

    /// Return how long a stored key or a token stays valid; `None`: without end, or it is neither.
    pub fn time_left(&self, key: &str) -> Option<Duration> {
        if let Some((kept, known)) = self.kept.as_ref().and_then(|kept| Some((kept, kept.find(key)?))) {
            return kept.time_left(&known);
        }
        let (verifier, clock) = self.tokens.as_ref().filter(|_| has_token_form(key))?;
        let left = verifier.verify(key, clock.now()).map_or(0.0, |claims| claims.seconds_left(clock.now()));
        Some(Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(Duration::MAX))
    }

    /// Authenticate a request by its headers.
    pub fn identify_headers(&self, headers: &HeaderMap) -> CallerIdentity {
        match credential::presented(headers).as_ref().map(HeaderValue::to_str) {
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
        let secret = am_keys::has_key_form(name) || has_token_form(name);
        let alike = secret || self.entries.iter().any(|entry| begins(&entry.beginning));
        if alike { Err(KeyLikeName) } else { Ok(Cow::Borrowed(name)) }
    }

    /// Return whether a text is an API key, or looks like one.
    pub fn is_key_like(&self, text: &str) -> bool {
        !matches!(self.name(text), Ok(Cow::Borrowed(_)))
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
mod tests;
