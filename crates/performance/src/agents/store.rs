//! SQL of table `am_agent_claims`, and the owners in table `am_agents`.

use am_core::ids::{AgentId, PrincipalId};
use am_db::{
    Connection, Result, Tx,
    codec::{Json, Timestamp},
    insert, sql,
};

/// The stored owner of an agent: who has registered it, else who used it first.
pub(super) async fn find_owner(conn: &mut Connection, agent: &AgentId) -> Result<Option<String>> {
    let owner = sql!(
        "SELECT coalesce((SELECT owner_id FROM am_agents WHERE id = $1),
             (SELECT owner_id FROM am_agent_claims WHERE agent_id = $1)) AS owner_id",
    );
    owner.bind(agent).fetch_value(conn).await
}

/// Who has registered an agent, and the types of tasks that it does; `None`: nobody has.
pub(super) async fn find_registered(conn: &mut Connection, agent: &AgentId) -> Result<Option<(String, Vec<String>)>> {
    let found = sql!("SELECT owner_id, task_types FROM am_agents WHERE id = $1");
    let found: Option<(String, Json<Vec<String>>)> = found.bind(agent).fetch_optional(conn).await?;
    Ok(found.map(|(owner, words)| (owner, words.into_inner())))
}

/// Note who used an agent first that nobody has registered.
pub(super) async fn insert_claim(tx: &mut Tx, agent: &AgentId, owner: &PrincipalId, now: Timestamp) -> Result<()> {
    let claim = insert!("am_agent_claims" { agent_id: agent, owner_id: owner, created_at: now }
        "ON CONFLICT (agent_id) DO NOTHING");
    claim.execute(tx.conn().await?).await?;
    Ok(())
}
