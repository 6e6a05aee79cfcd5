//! Reads `agent_reputation`, which is the coordinator's, and `agent_trust_scores`.

use super::Recorded;
use crate::db::{Connection, Db, Result, codec::Timestamp, has_table};

const COORDINATOR: &str =
    "SELECT trust_score, updated_at FROM agent_reputation WHERE agent_id = ?1 ORDER BY updated_at DESC, id LIMIT 1";
// The oldest row of an entity counts, as everywhere.
const TRUST: &str = "SELECT reputation_score, updated_at FROM agent_trust_scores
     WHERE entity_id = ?1 AND entity_type IN ('agent', 'workflow') ORDER BY entity_type, created_at, id LIMIT 1";

/// What both tables say of an agent, in one trip.
pub(super) async fn records(conn: &mut Connection, agent: &str) -> Result<(Recorded, Recorded)> {
    let both = "SELECT 1, * FROM (COORDINATOR) UNION ALL SELECT 2, * FROM (TRUST)";
    let both = sqlx::AssertSqlSafe(both.replace("COORDINATOR", COORDINATOR).replace("TRUST", TRUST));
    let rows = sqlx::query_as::<Db, (i64, f64, Timestamp)>(both).bind(agent).fetch_all(&mut *conn).await;
    match rows {
        Ok(rows) => {
            let of = |table| rows.iter().find(|(from, ..)| *from == table).map(|(_, score, at)| (*score, *at));
            Ok((of(1), of(2)))
        }
        // The coordinator makes its table late, and a start without migration does not.
        Err(_) if !has_table(conn, "agent_reputation").await? => {
            let found = sqlx::query_as::<Db, (f64, Timestamp)>(TRUST).bind(agent).fetch_optional(conn).await?;
            Ok((None, found))
        }
        Err(error) => Err(error.into()),
    }
}
