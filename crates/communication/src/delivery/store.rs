//! Tables `am_presence`, `am_socket_processes` and `am_subscriptions`.

use std::sync::Arc;

use serde_json::{Map, Value};
use sqlx::{QueryBuilder, Row as _};

use super::{presence::Presence, topics::Subscription};
use crate::error::Result;
use am_db::{
    Connection, Db, Error, Row, Tx,
    codec::{Doc, Timestamp},
    rows::{Insert, Rows},
};

static PRESENCE: Insert = Insert::into("am_presence", "agent_id, process, online, seen_at").on_conflict(
    "ON CONFLICT (agent_id) DO UPDATE SET process = excluded.process, online = excluded.online, seen_at = excluded.seen_at
         WHERE excluded.online OR am_presence.process = excluded.process",
);

/// This process holds sockets.
pub async fn beat(tx: &mut Tx, process: &str, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_socket_processes (id, beat_at) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at",
    )
    .bind(process)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// It holds none any more. Others that have been silent for an hour are forgotten too.
pub async fn silence(tx: &mut Tx, process: &str) -> Result<()> {
    sqlx::query("DELETE FROM am_socket_processes WHERE id = ?1").bind(process).execute(tx.conn().await?).await?;
    Ok(())
}

/// Who came, and who went; what another process holds by now stays.
pub async fn presence(tx: &mut Tx, process: &str, changes: &[(Arc<str>, bool)], now: Timestamp) -> Result<()> {
    let mut rows = Rows::default();
    for (agent, online) in changes {
        rows.push(&PRESENCE, |row| {
            row.put(&**agent).put(process).put(*online).put(now);
        });
    }
    Ok(rows.execute(tx).await?)
}

/// Exactly these have a socket in this process.
pub async fn reconcile(tx: &mut Tx, process: &str, agents: &[Arc<str>], now: Timestamp) -> Result<()> {
    let json = serde_json::json!(agents).to_string();
    let sql = "UPDATE am_presence SET online = 0, seen_at = ?3
               WHERE process = ?1 AND online AND agent_id NOT IN (SELECT value FROM json_each(?2))";
    sqlx::query(sql).bind(process).bind(&json).bind(now).execute(tx.conn().await?).await?;
    // One that another process held too, and holds no more.
    let sql = "UPDATE am_presence SET online = 1, process = ?1, seen_at = ?3
               WHERE agent_id IN (SELECT value FROM json_each(?2)) AND NOT online";
    sqlx::query(sql).bind(process).bind(&json).bind(now).execute(tx.conn().await?).await?;
    Ok(())
}

/// One agent; or all that were seen, online ones alone if that is asked for, the last seen first.
pub async fn seen(
    conn: &mut Connection,
    agent: Option<&str>,
    online_only: bool,
    alive: Timestamp,
    limit: i64,
) -> Result<Vec<Presence>> {
    let mut query = QueryBuilder::<Db>::new(
        "SELECT agent_id, seen_at, online FROM (SELECT p.agent_id, p.seen_at,
             p.online AND EXISTS (SELECT 1 FROM am_socket_processes s WHERE s.id = p.process AND s.beat_at > ",
    );
    query.push_bind(alive).push(") AS online FROM am_presence p) WHERE true");
    if let Some(agent) = agent {
        query.push(" AND agent_id = ").push_bind(agent.to_owned());
    }
    if online_only {
        query.push(" AND online");
    }
    query.push(" ORDER BY seen_at DESC, agent_id LIMIT ").push_bind(limit);
    let rows = query.build().fetch_all(conn).await?;
    let presence = |row: &Row| {
        Ok(Presence {
            agent_id: row.try_get("agent_id")?,
            online: row.try_get("online")?,
            last_seen: row.try_get("seen_at")?,
        })
    };
    rows.iter().map(presence).collect()
}

/// Every agent that had a socket, or has subscribed to anything.
pub async fn everybody(conn: &mut Connection, limit: usize) -> Result<Vec<String>> {
    let sql = "SELECT agent_id FROM am_presence UNION SELECT agent_id FROM am_subscriptions ORDER BY agent_id LIMIT ?1";
    Ok(sqlx::query_scalar(sql).bind(limit as i64).fetch_all(conn).await?)
}

/// Subscribe, or change what is let through. True: it is new or another.
pub async fn subscribe(tx: &mut Tx, agent: &str, topic: &str, filter: &str, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO am_subscriptions (agent_id, topic, filter, created_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (topic, agent_id) DO UPDATE SET filter = excluded.filter WHERE filter <> excluded.filter",
    )
    .bind(agent)
    .bind(topic)
    .bind(filter)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// End a subscription. True: there was one.
pub async fn unsubscribe(tx: &mut Tx, agent: &str, topic: &str) -> Result<bool> {
    let sql = "DELETE FROM am_subscriptions WHERE topic = ?1 AND agent_id = ?2";
    Ok(sqlx::query(sql).bind(topic).bind(agent).execute(tx.conn().await?).await?.rows_affected() > 0)
}

/// An agent's subscriptions, in the order of their topics.
pub async fn subscriptions(conn: &mut Connection, agent: &str) -> Result<Vec<Subscription>> {
    let sql = "SELECT topic, filter, created_at FROM am_subscriptions WHERE agent_id = ?1 ORDER BY topic";
    let rows = sqlx::query(sql).bind(agent).fetch_all(conn).await?;
    let subscription = |row: &Row| {
        Ok(Subscription {
            topic: row.try_get("topic")?,
            filter: filter(row.try_get("filter")?)?,
            created_at: row.try_get("created_at")?,
        })
    };
    rows.iter().map(subscription).collect()
}

/// Who has subscribed to a topic, with what each lets through.
pub async fn subscribers(conn: &mut Connection, topic: &str) -> Result<Vec<(String, Map<String, Value>)>> {
    let sql = "SELECT agent_id, filter FROM am_subscriptions WHERE topic = ?1 ORDER BY agent_id";
    let rows: Vec<(String, Doc)> = sqlx::query_as::<Db, _>(sql).bind(topic).fetch_all(conn).await?;
    rows.into_iter().map(|(agent, doc)| Ok((agent, filter(doc)?))).collect()
}

fn filter(doc: Doc) -> Result<Map<String, Value>> {
    let parsed = doc.parse().map_err(|error| Error::Unreadable(format!("am_subscriptions.filter: {error}")))?;
    Ok(parsed.unwrap_or_default())
}
