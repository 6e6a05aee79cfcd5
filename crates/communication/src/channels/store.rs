//! Tables `am_channels` and `am_channel_members`.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Row as _};

use super::model::{Channel, Place, Spot};
use crate::{
    error::Result,
    model::{ChannelKind, ChannelStatus},
};
use am_db::{
    Connection, Db, Error, Row, Tx,
    batch::Batch,
    codec::Timestamp,
    page::Page,
    rows::{Insert, Rows},
};

static CHANNELS: Insert = Insert::into(
    "am_channels",
    "id, kind, name, place, owner_id, status, last_seq, created_at, active_at, closed_at, closed_reason",
);
static MEMBERS: Insert =
    Insert::into("am_channel_members", "channel_id, agent_id, joined_at").on_conflict("ON CONFLICT DO NOTHING");

const COLUMNS: &str = "c.id, c.kind, c.name, c.owner_id, c.status, c.last_seq, c.created_at, c.active_at, c.closed_at, \
     c.closed_reason, (SELECT json_group_array(agent_id) FROM (SELECT agent_id FROM am_channel_members m \
     WHERE m.channel_id = c.id ORDER BY joined_at, agent_id)) AS members";

fn channel(row: &Row) -> Result<Channel> {
    let members: &str = row.try_get("members")?;
    let members: Vec<String> =
        serde_json::from_str(members).map_err(|error| Error::Unreadable(format!("am_channel_members: {error}")))?;
    let owner: String = row.try_get("owner_id")?;
    let others = members.into_iter().filter(|member| *member != owner);
    Ok(Channel {
        channel_id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        name: row.try_get("name")?,
        members: std::iter::once(owner.clone()).chain(others).collect(),
        owner,
        status: row.try_get("status")?,
        last_seq: row.try_get("last_seq")?,
        created_at: row.try_get("created_at")?,
        last_activity: row.try_get("active_at")?,
        closed_at: row.try_get("closed_at")?,
        closed_reason: row.try_get("closed_reason")?,
    })
}

/// A new channel, found by `place` if it has one, with those who are in it.
pub fn insert_rows((channels, members): (&mut Rows, &mut Rows), channel: &Channel, place: Option<&Place>) {
    channels.push(&CHANNELS, |row| {
        row.put(&channel.channel_id).put(channel.kind.stored()).put(channel.name.as_deref());
        row.put(place.map(|place| place.0.as_str())).put(&channel.owner).put(channel.status.stored());
        row.put(channel.last_seq).put(channel.created_at).put(channel.last_activity);
        row.put(channel.closed_at).put(channel.closed_reason.as_deref());
    });
    for member in &channel.members {
        member_rows(members, &channel.channel_id, member, channel.created_at);
    }
}

/// One more in a channel.
pub fn member_rows(rows: &mut Rows, id: &str, agent: &str, now: Timestamp) {
    rows.push(&MEMBERS, |row| {
        row.put(id).put(agent).put(now);
    });
}

/// One channel.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Channel>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(" FROM am_channels c WHERE c.id = ").push_bind(id);
    query.build().fetch_optional(conn).await?.map(|row| channel(&row)).transpose()
}

/// The open one of a place.
pub async fn at(conn: &mut Connection, place: &Place) -> Result<Option<Channel>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(" FROM am_channels c WHERE c.status = 'OPEN' AND c.place = ").push_bind(&place.0);
    query.build().fetch_optional(conn).await?.map(|row| channel(&row)).transpose()
}

/// A page of those that `agent` is in, and how many there are in all.
pub async fn list(conn: &mut Connection, agent: &str, page: &Page) -> Result<(Vec<Channel>, i64)> {
    let total = sqlx::query_scalar("SELECT count(*) FROM am_channel_members WHERE agent_id = ?1")
        .bind(agent)
        .fetch_one(&mut *conn)
        .await?;
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query
        .push(COLUMNS)
        .push(" FROM am_channels c WHERE c.id IN (SELECT channel_id FROM am_channel_members WHERE agent_id = ");
    query.push_bind(agent).push(")");
    page.push(&mut query, "c.");
    let rows = query.build().fetch_all(conn).await?;
    Ok((rows.iter().map(channel).collect::<Result<_>>()?, total))
}

async fn spots(conn: &mut Connection, by: &'static str, keys: &[&str]) -> Result<Vec<(String, Spot)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<Db>::new(format!(
        "SELECT c.{by}, c.id, c.kind, c.owner_id, c.status, c.last_seq FROM json_each("
    ));
    query.push_bind(serde_json::json!(keys).to_string());
    query.push(format_args!(") wanted CROSS JOIN am_channels c ON c.{by} = wanted.value"));
    if by == "place" {
        query.push(" AND c.status = 'OPEN'");
    }
    let rows: Vec<(String, String, ChannelKind, String, ChannelStatus, i64)> =
        query.build_query_as().fetch_all(conn).await?;
    let spot = |(key, id, kind, owner, status, last_seq)| (key, Spot { id, kind, owner, status, last_seq });
    Ok(rows.into_iter().map(spot).collect())
}

/// The open channels of places.
pub async fn spots_by_place(conn: &mut Connection, places: &[&str]) -> Result<HashMap<Place, Spot>> {
    let found = spots(conn, "place", places).await?;
    Ok(found.into_iter().map(|(place, spot)| (Place(place), spot)).collect())
}

/// Channels by their ids.
pub async fn spots_by_id(conn: &mut Connection, ids: &[&str]) -> Result<HashMap<String, Spot>> {
    Ok(spots(conn, "id", ids).await?.into_iter().collect())
}

/// Who is in a channel.
pub async fn members_of(conn: &mut Connection, id: &str) -> Result<Vec<String>> {
    let members = sqlx::query_scalar("SELECT agent_id FROM am_channel_members WHERE channel_id = ?1 ORDER BY agent_id");
    Ok(members.bind(id).fetch_all(conn).await?)
}

/// The numbers that channels have come to, among the statements of what was written into them.
pub fn advance<'a>(batch: &mut Batch, reached: impl Iterator<Item = (&'a str, i64)>, now: Timestamp) {
    let reached: Vec<(&str, i64)> = reached.collect();
    let json = serde_json::json!(reached).to_string();
    batch.statement(|query| {
        query.push("UPDATE am_channels SET active_at = ").push_bind(now);
        query.push(", last_seq = reached.seq FROM (SELECT value ->> 0 AS id, value ->> 1 AS seq FROM json_each(");
        query.push_bind(json).push(")) AS reached WHERE am_channels.id = reached.id");
    });
}

/// Take one out of a channel.
pub async fn remove_member(tx: &mut Tx, id: &str, agent: &str) -> Result<()> {
    sqlx::query("DELETE FROM am_channel_members WHERE channel_id = ?1 AND agent_id = ?2")
        .bind(id)
        .bind(agent)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Close an open channel.
pub async fn close(tx: &mut Tx, id: &str, reason: &str, now: Timestamp) -> Result<()> {
    sqlx::query(
        "UPDATE am_channels SET status = 'CLOSED', closed_at = ?2, closed_reason = ?3 WHERE id = ?1 AND status = 'OPEN'",
    )
    .bind(id)
    .bind(now)
    .bind(reason)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Open channels that nobody has written into since `before`.
pub async fn idle(conn: &mut Connection, before: Timestamp, limit: i64) -> Result<Vec<String>> {
    let idle = "SELECT id FROM am_channels WHERE status = 'OPEN' AND active_at < ?1 ORDER BY active_at LIMIT ?2";
    Ok(sqlx::query_scalar(idle).bind(before).bind(limit).fetch_all(conn).await?)
}
