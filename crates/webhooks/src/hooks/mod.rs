//! Endpoints that callers make over the API, beside those of the configuration. Each receives the events of its owner's resources;
//! an admin's may receive everybody's. Processes notice each other's changes with the next round of deliveries.

mod store;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use secrecy::SecretString;
use serde::Serialize;
use sha2::Sha256;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use self::store::HookRow;
use super::{
    ENDPOINT_CONCURRENCY, EndpointState, WebhookService,
    delivery_request::EndpointTarget,
    error::{Result, WebhookError},
    model::{EndpointStatus, HookScope, WebhookEventKind},
};
use am_core::{
    boxed,
    config::{WebhookEndpoint, check_hook_url},
    crypto,
    ids::PrincipalId,
    public_address::check_literal_host,
    validation::{Violation, Violations},
};
use am_db::{
    Connection, Tx,
    bulk_insert::RowBatch,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

/// Endpoints that one owner may have.
const MAX_HOOKS: i64 = 10;
/// Characters of an address.
const MAX_URL: usize = 2048;
/// Seconds that one call may take.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 0.1..=60.0;
/// Seconds that one call may take by default.
const DEFAULT_TIMEOUT_SECONDS: f64 = 15.0;

/// Endpoint to make.
#[derive(Clone, Debug)]
pub struct HookDraft {
    /// Address that gets the calls.
    pub url: String,
    /// Kinds of events; `None`: all that it may receive.
    pub events: Option<Vec<String>>,
    /// Whose events it receives.
    pub scope: HookScope,
    /// Time limit of a call in seconds; `None`: the default.
    pub timeout_seconds: Option<f64>,
}

/// An endpoint that was made, with its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CreatedWebhook)]
pub struct CreatedHook {
    /// The endpoint that was made.
    #[serde(flatten)]
    pub endpoint: EndpointStatus,
    /// Secret that its calls are signed with: `whsec_` and base64. It is shown in this answer only.
    pub secret: String,
}

/// Owner of an endpoint, by which events are chosen.
#[derive(Clone, Debug)]
pub(super) struct HookOwner {
    pub(super) id: PrincipalId,
    pub(super) scope: HookScope,
    /// What happened before is not told.
    pub(super) since: Timestamp,
}

/// What this process knows of the endpoints that callers made.
pub(super) struct KnownHooks {
    /// File of the key that secrets are derived from; made with the first endpoint.
    secret_file: PathBuf,
    /// Whether addresses may use http and hosts outside the public Internet.
    private_addresses: bool,
    /// How many there are and the highest number, as last read.
    state: Mutex<(i64, i64)>,
}

/// Makes the rows that are inserted together with an endpoint, of its name.
pub type RowsBeside = Box<dyn FnOnce(&str) -> RowBatch + Send>;

impl KnownHooks {
    pub(super) fn new(secret_file: PathBuf, private_addresses: bool) -> Self {
        Self { secret_file, private_addresses, state: Mutex::default() }
    }
}

impl HookOwner {
    /// Whether an event at `at` of a resource of `owner` is for this endpoint.
    pub(super) fn receives(&self, owner: Option<&str>, at: Timestamp) -> bool {
        at >= self.since && (self.scope == HookScope::All || owner == Some(self.id.as_str()))
    }
}

impl WebhookService {
    /// Read the endpoints of callers again, if they have changed.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn refresh(&self, conn: &mut Connection) -> Result<()> {
        let now = store::state(conn).await?;
        if *self.0.hooks.state.lock() == now {
            return Ok(());
        }
        let rows = store::list(conn).await?;
        let mut targets: BTreeMap<String, Arc<EndpointState>> = BTreeMap::new();
        for (name, known) in self.targets().iter() {
            let stays = known.owner.is_none() || rows.iter().any(|row| row.name == *name);
            targets.extend(stays.then(|| (name.clone(), known.clone())));
        }
        for row in rows {
            if targets.contains_key(&row.name) {
                continue;
            }
            let name = row.name.clone();
            match self.hook_state(row) {
                Ok(state) => drop(targets.insert(name, Arc::new(state))),
                // The others are called.
                Err(error) => tracing::warn!(endpoint = name, %error, "a webhook endpoint can't be called"),
            }
        }
        *self.0.targets.write() = Arc::new(targets);
        *self.0.hooks.state.lock() = now;
        Ok(())
    }

    fn hook_state(&self, row: HookRow) -> Result<EndpointState> {
        let allow_private = self.0.hooks.private_addresses;
        let url = check_hook_url(&row.url, allow_private).map_err(WebhookError::NotFound)?;
        let config = WebhookEndpoint {
            url,
            secrets: vec![self.hook_secret(&row.name)?],
            events: row.events,
            allow_private,
            timeout: Duration::from_secs_f64(row.timeout_seconds),
        };
        let owner = HookOwner {
            id: row.owner_id,
            scope: if row.receives_all { HookScope::All } else { HookScope::Own },
            since: row.created_at,
        };
        let places = Arc::new(Semaphore::new(ENDPOINT_CONCURRENCY));
        Ok(EndpointState { target: EndpointTarget::unchecked(&row.name, &config)?, places, owner: Some(owner) })
    }

    /// The secret of an endpoint, which is derived, so that the database has none.
    fn hook_secret(&self, name: &str) -> Result<SecretString> {
        let (key, created) = crypto::load_or_create_secret(&self.0.hooks.secret_file)?;
        if created {
            let path = self.0.hooks.secret_file.display();
            tracing::warn!(%path, "a key for the secrets of webhooks was created, back up this file");
        }
        // HMAC accepts keys of any length.
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&*key).map_err(|_| WebhookError::InvalidSecret(name.to_owned()))?;
        mac.update(b"aitbc-webhook-secret:");
        mac.update(name.as_bytes());
        Ok(format!("whsec_{}", STANDARD.encode(mac.finalize().into_bytes())).into())
    }

    /// Make an endpoint of `owner`. The rows that `beside` makes of its name are inserted in the same transaction.
    ///
    /// # Errors
    /// Returns [`WebhookError::Invalid`] with all faults; [`WebhookError::Conflict`] when the owner has as many as it may have.
    #[boxed]
    pub async fn create_hook(
        &self,
        owner: &Principal,
        draft: HookDraft,
        beside: RowsBeside,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CreatedHook>> {
        let url = self.check_draft(&draft)?;
        let name: String = self.0.ids.next("hook_", 12);
        let row = HookRow {
            name: name.clone(),
            owner_id: owner.id(),
            url,
            events: draft.events.filter(|events| !events.iter().any(|event| event == "*")),
            receives_all: draft.scope == HookScope::All,
            timeout_seconds: draft.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS),
            created_at: self.now(),
        };
        let rows = beside(&name);
        let work = async move |tx: &mut Tx| {
            let known = store::count_of(tx.conn().await?, &row.owner_id).await?;
            if known >= MAX_HOOKS {
                return Err(WebhookError::Conflict(format!("You have {known} webhooks; delete one to make another")));
            }
            store::insert(tx, &row).await?;
            rows.execute(tx).await?;
            // The answer that is kept for a repetition holds no secret.
            Ok(name)
        };
        let made = self.0.db.write_idempotent(&self.0.clock, once, work).await?;
        self.refresh(&mut *self.0.db.read().await?).await?;
        let endpoint = self.endpoint(owner, false, &made.value).await?;
        let secret = secrecy::ExposeSecret::expose_secret(&self.hook_secret(&made.value)?).to_owned();
        Ok(made.map(|_| CreatedHook { endpoint, secret }))
    }

    /// Return the address as it is stored.
    fn check_draft(&self, draft: &HookDraft) -> Result<String> {
        let mut violations = Violations::default();
        let allow_private = self.0.hooks.private_addresses;
        violations.require(draft.url.len() <= MAX_URL, "url", format!("at most {MAX_URL} characters"));
        let url = check_hook_url(&draft.url, allow_private).map_err(|message| Violation::new("url", message));
        let url = violations.take(url);
        if let (Some(url), false) = (&url, allow_private)
            && let Err(error) = check_literal_host(url)
        {
            violations.add("url", error.to_string());
        }
        let seconds = draft.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        violations.require(TIMEOUT_SECONDS.contains(&seconds), "timeout_seconds", "must be from 0.1 to 60");
        let possible: Vec<&str> = WebhookEventKind::ALL
            .iter()
            .filter(|kind| draft.scope == HookScope::All || kind.has_owner())
            .map(|kind| kind.word())
            .collect();
        let events = draft.events.as_deref().unwrap_or_default();
        violations.require(draft.events.as_ref().is_none_or(|all| !all.is_empty()), "events", "name at least one kind");
        for (at, event) in events.iter().enumerate() {
            if event != "*" && !possible.contains(&event.as_str()) {
                let known = possible.join(", ");
                let needs_all = WebhookEventKind::ALL.iter().any(|kind| kind.word() == event);
                let why = if needs_all { "is received with the scope `all` only" } else { "is no kind of event" };
                violations.add(
                    am_core::validation::FieldPath::from([at]).within(["events"]),
                    format!("{event:?} {why}; one of {known}, *"),
                );
            }
        }
        violations.finish_with(url.map(String::from)).map_err(WebhookError::Invalid)
    }

    /// An endpoint that `caller` may see: its own, and for an admin all.
    ///
    /// # Errors
    /// Returns [`WebhookError::NotFound`].
    #[boxed]
    pub async fn endpoint(&self, caller: &Principal, is_admin: bool, name: &str) -> Result<EndpointStatus> {
        let mut found = self.endpoints_of(caller, is_admin).await?.into_iter().filter(|endpoint| endpoint.name == name);
        found.next().ok_or_else(|| no_endpoint(name))
    }

    /// The endpoints that `caller` may see.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn endpoints_of(&self, caller: &Principal, is_admin: bool) -> Result<Vec<EndpointStatus>> {
        self.refresh(&mut *self.0.db.read().await?).await?;
        let mut all = self.endpoints().await?;
        all.retain(|endpoint| is_admin || endpoint.owner_id.as_ref().is_some_and(|owner| *owner == caller.id()));
        Ok(all)
    }

    /// Check that `caller` may use the endpoint `name`.
    ///
    /// # Errors
    /// Returns [`WebhookError::NotFound`] where it may not.
    #[boxed]
    pub async fn admit(&self, caller: &Principal, is_admin: bool, name: &str) -> Result<()> {
        self.refresh(&mut *self.0.db.read().await?).await?;
        let targets = self.targets();
        let owner = targets.get(name).and_then(|known| known.owner.as_ref());
        match is_admin || owner.is_some_and(|owner| owner.id == caller.id()) {
            true => Ok(()),
            false => Err(no_endpoint(name)),
        }
    }

    /// Delete an endpoint that was made over the API; what it was owed is given up. The rows of `beside` are inserted in the same
    /// transaction.
    ///
    /// # Errors
    /// Returns [`WebhookError::NotFound`]; [`WebhookError::Conflict`] for one of the configuration.
    #[boxed]
    pub async fn delete_hook(&self, caller: &Principal, is_admin: bool, name: &str, beside: RowBatch) -> Result<()> {
        self.admit(caller, is_admin, name).await?;
        match self.targets().get(name) {
            Some(known) if known.owner.is_none() => {
                return Err(WebhookError::Conflict(format!("{name} is set in the configuration")));
            }
            Some(_) => {}
            None => return Err(no_endpoint(name)),
        }
        let (name, error) = (name.to_owned(), "the endpoint was deleted");
        let work = async move |tx: &mut Tx| {
            if !store::delete(tx, &name).await? {
                return Err(no_endpoint(&name));
            }
            super::store::give_up_all(tx, &name, error).await?;
            beside.execute(tx).await?;
            Ok(())
        };
        self.0.db.write(work).await?;
        self.refresh(&mut *self.0.db.read().await?).await
    }
}

fn no_endpoint(name: &str) -> WebhookError {
    WebhookError::NotFound(format!("No webhook endpoint {name}"))
}
