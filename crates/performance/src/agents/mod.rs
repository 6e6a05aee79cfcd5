//! Who a caller is, and which agents it may use: registered ones that it acts for, and others once it has used them first.

mod store;

use am_core::ids::{AgentId, PrincipalId};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    owner::{PrincipalName, SYSTEM_PRINCIPAL, is_principal},
    principal::Principal,
};

use am_orchestration::agents::TaskType;

use crate::error::{PerformanceError, Result};

/// The caller of an operation.
#[derive(Clone, Debug)]
pub struct PerformanceCaller {
    /// The principal that acts.
    pub principal: Principal,
    /// Whether it may see and change everybody's.
    pub is_admin: bool,
}

impl PerformanceCaller {
    /// Whether it may use an agent of this stored owner.
    fn may_use(&self, agent: &AgentId, owner: &str) -> bool {
        self.is_admin || self.principal.acts_for(agent, owner)
    }

    /// Whether it may see and change what this principal owns.
    pub(crate) fn may_see(&self, owner: &str) -> bool {
        self.is_admin || self.principal.owns(owner)
    }
}

fn no_agent(agent: &AgentId) -> PerformanceError {
    PerformanceError::NotFound(format!("No agent {agent}"))
}

/// Check that the caller may see what there is of an agent: an admin may of any, others of those that they act for.
///
/// # Errors
/// [`PerformanceError::NotFound`].
pub(crate) async fn check_visible(conn: &mut Connection, caller: &PerformanceCaller, agent: &AgentId) -> Result<()> {
    if caller.is_admin {
        return Ok(());
    }
    let owner = store::find_owner(conn, agent).await?;
    check_owner(caller, agent, owner.as_deref())
}

/// Check the same where the agent's stored owner is known; `None`: nobody has registered or used it.
///
/// # Errors
/// [`PerformanceError::NotFound`].
pub(crate) fn check_owner(caller: &PerformanceCaller, agent: &AgentId, owner: Option<&str>) -> Result<()> {
    let visible = caller.is_admin || owner.is_some_and(|owner| caller.may_use(agent, owner));
    if visible { Ok(()) } else { Err(no_agent(agent)) }
}

/// The types of tasks that a registered agent does for which the caller acts, in their order; `None`: there is no such agent.
///
/// # Errors
/// A database error.
pub(crate) async fn own_task_types(
    conn: &mut Connection,
    caller: &PerformanceCaller,
    agent: &AgentId,
) -> Result<Option<Vec<TaskType>>> {
    let found = store::find_registered(conn, agent).await?;
    let found = found.filter(|(owner, _)| caller.may_use(agent, owner));
    Ok(found.map(|(_, words)| words.iter().filter_map(|word| TaskType::from_value(word)).collect()))
}

/// The owner of an agent that the caller uses: who has registered it, else who used it first, which may be the caller now.
///
/// # Errors
/// [`PerformanceError::NotFound`] for another's agent.
pub(crate) async fn use_agent(
    tx: &mut Tx,
    caller: &PerformanceCaller,
    agent: &AgentId,
    now: Timestamp,
) -> Result<PrincipalId> {
    let Some(owner) = store::find_owner(tx.conn().await?, agent).await? else {
        store::insert_claim(tx, agent, &caller.principal.id(), now).await?;
        return Ok(caller.principal.id());
    };
    if !caller.may_use(agent, &owner) {
        return Err(no_agent(agent));
    }
    Ok(PrincipalName::from_stored(&owner).as_str().into())
}

/// Whether a miner may be measured under its name, which is a principal or, where the coordinator stores no key, an id of its own: not if
/// another uses that name for an agent. From now on nobody but the principal, or an admin, uses it.
///
/// # Errors
/// A database error.
pub(crate) async fn use_miner(tx: &mut Tx, miner: &AgentId, now: Timestamp) -> Result<bool> {
    let own: PrincipalId = if is_principal(miner) { miner.as_str().into() } else { SYSTEM_PRINCIPAL.into() };
    match store::find_owner(tx.conn().await?, miner).await? {
        Some(owner) => Ok(PrincipalName::from_stored(&owner).as_str() == own.as_str()),
        None => {
            store::insert_claim(tx, miner, &own, now).await?;
            Ok(true)
        }
    }
}
