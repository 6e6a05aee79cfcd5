//! Who a caller is to creativity, and which agents it may use.

use am_core::ids::{AgentId, PrincipalId};
use am_db::{Connection, Tx, codec::Timestamp, owner::PrincipalName, principal::Principal};

use crate::{
    error::{CreativityError, Result},
    store,
};

/// A caller of creativity.
#[derive(Clone, Debug)]
pub struct CreativeCaller {
    /// Principal that acts.
    pub principal: Principal,
    /// Whether it has an admin key, which may do everything.
    pub is_admin: bool,
}

impl CreativeCaller {
    fn may_use(&self, agent: &AgentId, owner: &str) -> bool {
        self.is_admin || self.principal.acts_for(agent, owner)
    }
}

/// Whether the caller may see what there is of an agent: an admin may of any, others of those that they act for.
pub(crate) async fn is_visible(conn: &mut Connection, caller: &CreativeCaller, agent: &AgentId) -> Result<bool> {
    if caller.is_admin {
        return Ok(true);
    }
    let owner = store::find_agent_owner(conn, agent).await?;
    Ok(owner.is_some_and(|owner| caller.may_use(agent, &owner)))
}

/// The owner of an agent that the caller uses: who has registered it, else who used it first, which may be the caller now.
pub(crate) async fn use_agent(
    tx: &mut Tx,
    caller: &CreativeCaller,
    agent: &AgentId,
    now: Timestamp,
) -> Result<PrincipalId> {
    let Some(owner) = store::find_agent_owner(tx.conn().await?, agent).await? else {
        store::insert_claim(tx, agent, &caller.principal.id(), now).await?;
        return Ok(caller.principal.id());
    };
    if !caller.may_use(agent, &owner) {
        return Err(CreativityError::NotFound("Agent"));
    }
    Ok(PrincipalName::from_stored(&owner).as_str().into())
}
