//! Reads `agent_reputation`, which is the coordinator's, and `agent_trust_scores`.

use std::collections::HashMap;

use super::Recorded;
use am_db::{Connection, Db, Result, codec::Timestamp, has_table};

const COORDINATOR: &str = "SELECT 1, a.value, r.trust_score, r.updated_at FROM json_each(?1) a
     JOIN agent_reputation r ON r.id = (SELECT id FROM agent_reputation WHERE agent_id = a.value ORDER BY updated_at DESC, id LIMIT 1)";
// The oldest row of an entity counts, as everywhere.
const TRUST: &str = "SELECT 2, a.value, t.reputation_score, t.updated_at FROM json_each(?1) a
     JOIN agent_trust_scores t ON t.id = (SELECT id FROM agent_trust_scores
         WHERE entity_id = a.value AND entity_type IN ('agent', 'workflow') ORDER BY entity_type, created_at, id LIMIT 1)";

/// What both tables say of agents, in one trip.
pub(super) async fn records(conn: &mut Connection, agents: &[&str]) -> Result<HashMap<String, (Recorded, Recorded)>> {
    let json = serde_json::json!(agents).to_string();
    let both = sqlx::AssertSqlSafe([COORDINATOR, TRUST].join(" UNION ALL "));
    let rows = sqlx::query_as::<Db, (i64, String, f64, Timestamp)>(both).bind(&json).fetch_all(&mut *conn).await;
    let rows = match rows {
        Ok(rows) => rows,
        // The coordinator makes its table late, and a start without migration does not.
        Err(_) if !has_table(conn, "agent_reputation").await? => {
            sqlx::query_as(TRUST).bind(&json).fetch_all(conn).await?
        }
        Err(error) => return Err(error.into()),
    };
    let mut records: HashMap<String, (Recorded, Recorded)> = HashMap::new();
    for (table, agent, score, at) in rows {
        let (coordinator, trust) = records.entry(agent).or_default();
        *(if table == 1 { coordinator } else { trust }) = Some((score, at));
    }
    Ok(records)
}
