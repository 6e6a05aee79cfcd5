//! Queries of table `am_agents`.

use am_core::ids::AgentId;
use am_db::{Connection, Result, sql};

/// Read the stored owner of a registered agent.
pub(super) async fn find_owner(conn: &mut Connection, agent: &AgentId) -> Result<Option<String>> {
    sql!("SELECT owner_id FROM am_agents WHERE id = $1").bind(agent).fetch_optional_value(conn).await
}
