//! The acting principal: the name that is shown and stored, and the forms under which older rows know it.

use std::sync::Arc;

use crate::owner::PrincipalName;
use am_core::ids::{AgentId, PrincipalId};

/// Identity of a caller or of the service itself, as owner of rows.
#[derive(Clone)]
pub struct Principal {
    /// Name shown in answers and stored in new rows; never an API key. Shared, since each request clones its caller.
    pub name: Arc<str>,
    /// Values that `owner_id` and similar columns may hold for this principal: its name, and the API key itself in rows
    /// that the coordinator wrote. For comparison only.
    pub aliases: Arc<[String]>,
    /// Agent that the caller's key is bound to, for which alone it acts; `None`: the key is bound to none.
    pub agent: Option<AgentId>,
    /// Client that sent the request; `None` when the service acts by itself.
    pub origin: Option<Arc<ClientOrigin>>,
}

/// Client of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOrigin {
    /// IP address of the client; `None` when unknown.
    pub ip_address: Option<String>,
    /// User agent stated by the client, at most 512 bytes; `None` when it stated none.
    pub user_agent: Option<String>,
}

impl Principal {
    /// The principal of this name, for what the service does in its place: it owns what is stored under the name.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), aliases: [name.to_owned()].into(), agent: None, origin: None }
    }

    /// The name as the identifier that new rows store.
    pub fn id(&self) -> PrincipalId {
        PrincipalId::from(&*self.name)
    }

    /// A private row through this principal's eyes: `None` for another owner's, as for one that does not exist.
    pub fn own<T>(&self, found: Option<T>, owner: impl FnOnce(&T) -> &str) -> Option<T> {
        found.filter(|row| self.owns(owner(row)))
    }

    /// Whether this principal acts for the registered agent `agent` of the stored owner `owner`: its owner does, and a key
    /// that is bound to the agent.
    pub fn acts_for(&self, agent: &AgentId, owner: &str) -> bool {
        match &self.agent {
            Some(bound) => bound == agent,
            None => self.owns(owner),
        }
    }

    /// Values that owners have in lists of the service's own for this principal: those of [`Self::aliases`], as principals, since a list
    /// repeats no key.
    pub fn listed_forms(&self) -> Vec<String> {
        let mut forms: Vec<String> =
            self.aliases.iter().map(|alias| PrincipalName::from_stored(alias).into()).collect();
        forms.dedup();
        forms
    }

    /// Whether the stored owner `stored` is this principal.
    pub fn owns(&self, stored: &str) -> bool {
        self.aliases.iter().any(|alias| alias == stored)
    }
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Principal").field(&self.name).finish()
    }
}
