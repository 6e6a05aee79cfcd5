//! Queries on `agent_reputation`, the coordinator's table, and `agent_trust_scores`.

use std::collections::HashMap;

use super::RecordedScore;
use am_core::ids::AgentId;
use am_db::{Connection, DatabaseError, Result, codec::Timestamp, sql};

const COORDINATOR_QUERY: &str = "SELECT 1, a.value, r.trust_score, r.updated_at FROM {texts $1} AS a
     JOIN agent_reputation r ON r.id = (SELECT id FROM agent_reputation WHERE agent_id = a.value ORDER BY updated_at DESC, id LIMIT 1)";
// The oldest row of an entity counts, as everywhere.
const TRUST_QUERY: &str = "SELECT 2, a.value, t.reputation_score, t.updated_at FROM {texts $1} AS a
     JOIN agent_trust_scores t ON t.id = (SELECT id FROM agent_trust_scores
         WHERE entity_id = a.value AND entity_type IN ('agent', 'workflow') ORDER BY entity_type, created_at, id LIMIT 1)";

/// A table, an agent, what it says of it, and since when.
type ReputationRow = (i64, AgentId, f64, Timestamp);

/// Records of both tables for agents, in one query.
pub(super) async fn read_records(
    conn: &mut Connection,
    agents: &[&AgentId],
) -> Result<HashMap<AgentId, (RecordedScore, RecordedScore)>> {
    let json = serde_json::json!(agents).to_string();
    let rows = sql!("", COORDINATOR_QUERY, " UNION ALL ", TRUST_QUERY)
        .bind(&json)
        .fetch_all::<ReputationRow>(&mut *conn)
        .await;
    let rows = match rows {
        Ok(rows) => rows,
        // The coordinator creates its table late, and may change it or drop it at any time.
        Err(DatabaseError::Other(_)) => sql!("", TRUST_QUERY).bind(&json).fetch_all(conn).await?,
        Err(error) => return Err(error),
    };
    let mut records: HashMap<AgentId, (RecordedScore, RecordedScore)> = HashMap::new();
    for (table, agent, score, at) in rows {
        let (coordinator, trust) = records.entry(agent).or_default();
        *(if table == 1 { coordinator } else { trust }) = Some((score, at));
    }
    Ok(records)
}
