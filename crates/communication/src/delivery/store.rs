//! SQL of tables `am_presence`, `am_socket_processes` and `am_subscriptions`.

use serde_json::{Map, Value};

use super::model::{AgentPresence, TopicSubscription};
use crate::error::Result;
use am_core::ids::AgentId;
use am_db::{
    Connection, FromRow as _, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, Timestamp},
    insert, push_row, row, sql,
};

/// Record that a process with connections is alive.
pub async fn record_heartbeat(tx: &mut Tx, process: &str, now: Timestamp) -> Result<()> {
    insert!("am_socket_processes" { id: process, beat_at: now } update on (id)).execute(tx.conn().await?).await?;
    Ok(())
}

/// Remove a process without connections.
pub async fn remove_process(tx: &mut Tx, process: &str) -> Result<()> {
    sql!("DELETE FROM am_socket_processes WHERE id = $1").bind(process).execute(tx.conn().await?).await?;
    Ok(())
}

/// Whether there is something for [`forget_absent`] to forget.
pub async fn has_absent(conn: &mut Connection, silent: Timestamp, unseen: Timestamp) -> Result<bool> {
    let absent = sql!(
        "SELECT EXISTS (SELECT 1 FROM am_socket_processes WHERE beat_at < $1)
             OR EXISTS (SELECT 1 FROM am_presence WHERE seen_at < $2)",
    );
    Ok(absent.bind(silent).bind(unseen).fetch_value(conn).await?)
}

/// Remove processes without a report since `silent`, and at most `limit` agents that were not seen since `unseen`.
/// Returns the number of removed agents.
pub async fn forget_absent(tx: &mut Tx, silent: Timestamp, unseen: Timestamp, limit: i64) -> Result<u64> {
    sql!("DELETE FROM am_socket_processes WHERE beat_at < $1").bind(silent).execute(tx.conn().await?).await?;
    let forgotten = sql!(
        "DELETE FROM am_presence WHERE agent_id IN
             (SELECT p.agent_id FROM am_presence p WHERE p.seen_at < $1
                 AND NOT (p.online AND EXISTS (SELECT 1 FROM am_socket_processes s WHERE s.id = p.process))
              ORDER BY p.seen_at LIMIT $2)",
    );
    Ok(forgotten.bind(unseen).bind(limit).execute(tx.conn().await?).await?)
}

/// Record that agents that stay connected to this process are there, where that was last recorded before `due`.
pub async fn renew_presence(tx: &mut Tx, process: &str, due: Timestamp, now: Timestamp) -> Result<()> {
    sql!("UPDATE am_presence SET seen_at = $3 WHERE process = $1 AND online AND seen_at < $2")
        .bind(process)
        .bind(due)
        .bind(now)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Record which agents connected and disconnected; agents connected to another process by now are not changed.
pub async fn record_presence(tx: &mut Tx, process: &str, changes: &[(AgentId, bool)], now: Timestamp) -> Result<()> {
    let mut rows = RowBatch::default();
    for (agent, online) in changes {
        push_row!(rows, "am_presence" {
            agent_id: agent,
            process: process,
            online: *online,
            seen_at: now,
        } update on (agent_id) " WHERE excluded.online OR am_presence.process = excluded.process");
    }
    Ok(rows.execute(tx).await?)
}

/// Record the exact set of agents connected to this process.
pub async fn reconcile_presence(tx: &mut Tx, process: &str, agents: &[AgentId], now: Timestamp) -> Result<()> {
    let json = serde_json::json!(agents).to_string();
    sql!(
        "UPDATE am_presence SET online = FALSE, seen_at = $3 WHERE process = $1 AND online AND agent_id NOT IN {texts $2}",
    )
    .bind(process)
    .bind(&json)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    // An agent that was connected to another process too, and now only to this one.
    sql!(
        "UPDATE am_presence SET online = TRUE, process = $1, seen_at = $3 WHERE agent_id IN {texts $2} AND NOT online",
    )
    .bind(process)
    .bind(&json)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

row! {
    AgentPresence {
        agent_id,
        online,
        last_seen = "seen_at",
    }
}

/// Presence of one agent, or of all, last seen first; with `online_only` only of those that are connected.
pub async fn list_presence(
    conn: &mut Connection,
    agent: Option<&AgentId>,
    online_only: bool,
    alive: Timestamp,
    limit: i64,
) -> Result<Vec<AgentPresence>> {
    let seen = sql!(
        "SELECT ",
        AgentPresence::COLUMNS,
        " FROM (SELECT p.agent_id, p.seen_at,
             p.online AND EXISTS (SELECT 1 FROM am_socket_processes s WHERE s.id = p.process AND s.beat_at > $1) AS online
             FROM am_presence p WHERE true [?3 AND p.online]) AS p
             WHERE true [AND agent_id = $2] [?3 AND online] ORDER BY seen_at DESC, agent_id LIMIT $4",
    );
    Ok(seen.bind(alive).bind_some(agent).bind_flag(online_only).bind(limit).fetch_all(conn).await?)
}

/// At most `limit` agents that were connected since `unseen` or have a subscription, last seen first.
pub async fn known_agents(conn: &mut Connection, unseen: Timestamp, limit: usize) -> Result<Vec<AgentId>> {
    let everybody = sql!(
        "WITH RECURSIVE subscriber (agent_id) AS (SELECT min(agent_id) FROM am_subscriptions UNION ALL
             SELECT (SELECT min(o.agent_id) FROM am_subscriptions o WHERE o.agent_id > subscriber.agent_id)
             FROM subscriber WHERE subscriber.agent_id IS NOT NULL)
         SELECT agent_id FROM
             (SELECT agent_id, seen_at FROM
                 (SELECT agent_id, seen_at FROM am_presence WHERE seen_at >= $1 ORDER BY seen_at DESC LIMIT $2) AS seen
              UNION ALL SELECT agent_id, (SELECT max(o.created_at) FROM am_subscriptions o WHERE o.agent_id = named.agent_id)
              FROM (SELECT agent_id FROM subscriber WHERE agent_id IS NOT NULL LIMIT $2) AS named) AS known
         GROUP BY agent_id ORDER BY max(seen_at) DESC, agent_id LIMIT $2",
    );
    Ok(everybody.bind(unseen).bind(limit as i64).fetch_values(conn).await?)
}

/// Insert a subscription or change its filter. Returns whether anything changed.
pub async fn upsert_subscription(
    tx: &mut Tx,
    agent: &AgentId,
    topic: &str,
    filter: &str,
    now: Timestamp,
) -> Result<bool> {
    let changed = insert!("am_subscriptions" {
        agent_id: agent,
        topic: topic,
        filter: filter,
        created_at: now,
    } update on (topic, agent_id) except (created_at) " WHERE am_subscriptions.filter <> excluded.filter");
    Ok(changed.execute(tx.conn().await?).await? > 0)
}

/// Delete a subscription. Returns whether there was one.
pub async fn delete_subscription(tx: &mut Tx, agent: &AgentId, topic: &str) -> Result<bool> {
    let ended = sql!("DELETE FROM am_subscriptions WHERE topic = $1 AND agent_id = $2");
    Ok(ended.bind(topic).bind(agent).execute(tx.conn().await?).await? > 0)
}

row! {
    TopicSubscription {
        topic,
        filter => JsonOr::into_inner,
        created_at,
    }
}

/// Subscriptions of an agent, ordered by topic.
pub async fn list_subscriptions(conn: &mut Connection, agent: &AgentId) -> Result<Vec<TopicSubscription>> {
    let subscriptions =
        sql!("SELECT ", TopicSubscription::COLUMNS, " FROM am_subscriptions WHERE agent_id = $1 ORDER BY topic");
    Ok(subscriptions.bind(agent).fetch_all(conn).await?)
}

/// Subscribers of a topic with their filters.
pub async fn topic_subscribers(conn: &mut Connection, topic: &str) -> Result<Vec<(AgentId, Map<String, Value>)>> {
    let subscribers = sql!("SELECT agent_id, filter FROM am_subscriptions WHERE topic = $1 ORDER BY agent_id");
    let subscribers: Vec<(AgentId, JsonOr<Map<String, Value>>)> = subscribers.bind(topic).fetch_all(conn).await?;
    Ok(subscribers.into_iter().map(|(agent, JsonOr(filter))| (agent, filter)).collect())
}
