//! Who acts, as rooms see it: the name that is shown and stored, and the forms under which older rows know it.

use std::sync::Arc;

/// Somebody who owns rows.
#[derive(Clone)]
pub struct Principal {
    /// Shown in answers and stored in new rows; never a key.
    pub name: Arc<str>,
    /// What `owner_id` and its like may hold for this principal: the name, and the key itself in rows that the
    /// coordinator wrote. For comparison only.
    pub aliases: Arc<[String]>,
    /// Where this principal's request came from; none: it acts by itself.
    pub origin: Option<Arc<Origin>>,
}

/// Where a request came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub ip_address: Option<String>,
    /// What the client says it is; at most 512 bytes of it.
    pub user_agent: Option<String>,
}

impl Principal {
    /// Is this the owner that a row names?
    pub fn owns(&self, stored: &str) -> bool {
        self.aliases.iter().any(|alias| alias == stored)
    }
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Principal").field(&self.name).finish()
    }
}
