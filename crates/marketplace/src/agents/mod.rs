//! Who a caller is to the marketplace, and which registered agents it acts for.

mod store;

use am_core::ids::{AgentId, PrincipalId};
use am_db::{Connection, owner::PrincipalName, principal::Principal};

use crate::error::{MarketError, Result};

/// A caller of the marketplace.
#[derive(Clone, Debug)]
pub struct MarketCaller {
    /// Principal that acts.
    pub principal: Principal,
    /// Whether it has an admin key, which may do everything.
    pub is_admin: bool,
}

impl MarketCaller {
    /// Whether the caller acts for the agent of this stored owner.
    pub fn acts_for(&self, agent: &AgentId, owner: &str) -> bool {
        self.is_admin || self.principal.acts_for(agent, owner)
    }

    /// Whether the caller is this principal, or may do everything.
    pub fn is_or_governs(&self, principal: &PrincipalId) -> bool {
        self.is_admin || self.principal.owns(principal)
    }
}

/// Owner of a registered agent; `None`: no agent of this name is registered.
///
/// # Errors
/// Returns a database error when a query fails.
pub async fn find_owner(conn: &mut Connection, agent: &AgentId) -> Result<Option<PrincipalId>> {
    Ok(store::find_owner(conn, agent).await?.map(|stored| PrincipalName::from_stored(&stored).as_str().into()))
}

/// Owner of a registered agent that the caller acts for. `field` names the agent in the request.
///
/// # Errors
/// [`MarketError::Invalid`] for another's agent, as for one that is not registered.
pub async fn own_agent(
    conn: &mut Connection,
    caller: &MarketCaller,
    agent: &AgentId,
    field: &'static str,
) -> Result<PrincipalId> {
    let stored = store::find_owner(conn, agent).await?.filter(|stored| caller.acts_for(agent, stored));
    let stored = stored.ok_or_else(|| MarketError::field(field, "is no registered agent that you act for"))?;
    Ok(PrincipalName::from_stored(&stored).as_str().into())
}
