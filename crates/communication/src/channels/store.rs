//! SQL of tables `am_channels` and `am_channel_members`.

use std::collections::HashMap;

use super::model::{ChannelKey, ChannelRef, MessageChannel};
use crate::error::Result;
use am_core::ids::{AgentId, ChannelId};
use am_db::{
    Connection, FromRow, Tx,
    bulk_insert::RowBatch,
    codec::{Json, Timestamp},
    page::PageRequest,
    push_row, row,
    row::Columns,
    sql,
    statement_batch::StatementBatch,
};

row! {
    MessageChannel from "c." {
        channel_id = "c.id",
        kind,
        name,
        members = "(SELECT {arrays m.agent_id} FROM (SELECT agent_id FROM am_channel_members WHERE channel_id = c.id ORDER BY joined_at, agent_id) AS m)"
            => Json::into_inner,
        owner = "c.owner_id",
        status,
        last_seq,
        created_at,
        last_activity = "c.active_at",
        closed_at,
        closed_reason,
    }
}

/// Its owner is the first of its members, whether it is among those stored or not.
fn owner_first(channel: MessageChannel) -> MessageChannel {
    let others = channel.members.into_iter().filter(|member| *member != channel.owner);
    MessageChannel { members: std::iter::once(channel.owner.clone()).chain(others).collect(), ..channel }
}

/// Add the rows of a new channel, with `place` as its key if it has one, and of its members.
pub fn add_channel_rows(
    (channels, members): (&mut RowBatch, &mut RowBatch),
    channel: &MessageChannel,
    place: Option<&ChannelKey>,
) {
    push_row!(channels, "am_channels" {
        id: &channel.channel_id,
        kind: channel.kind,
        name: &channel.name,
        place: place.map(|place| &place.0),
        owner_id: &channel.owner,
        status: channel.status,
        last_seq: channel.last_seq,
        created_at: channel.created_at,
        active_at: channel.last_activity,
        closed_at: channel.closed_at,
        closed_reason: &channel.closed_reason,
    });
    for member in &channel.members {
        add_member_row(members, channel, member, channel.created_at);
    }
}

/// Add the row of a member.
pub fn add_member_row(rows: &mut RowBatch, channel: &MessageChannel, agent: &AgentId, now: Timestamp) {
    push_row!(rows, "am_channel_members" {
        channel_id: &channel.channel_id,
        agent_id: agent,
        joined_at: now,
        made_at: channel.created_at,
    } "ON CONFLICT DO NOTHING");
}

/// A channel by its id.
pub async fn get_channel(conn: &mut Connection, id: &ChannelId) -> Result<Option<MessageChannel>> {
    let channel = sql!("SELECT ", MessageChannel::COLUMNS, " FROM am_channels c WHERE c.id = $1").bind(id);
    Ok(channel.fetch_optional(conn).await?.map(owner_first))
}

/// The open channel with this key.
pub async fn find_open_channel(conn: &mut Connection, place: &ChannelKey) -> Result<Option<MessageChannel>> {
    let channel =
        sql!("SELECT ", MessageChannel::COLUMNS, " FROM am_channels c WHERE c.status = 'OPEN' AND c.place = $1");
    Ok(channel.bind(&place.0).fetch_optional(conn).await?.map(owner_first))
}

/// A page of the channels that `agent` is a member of, and their total number.
pub async fn list_channels(
    conn: &mut Connection,
    agent: &AgentId,
    page: &PageRequest,
) -> Result<(Vec<MessageChannel>, i64)> {
    let total = sql!(
        "SELECT count(*) FROM am_channel_members m WHERE m.agent_id = $1 [AND m.made_at > $2] [AND m.made_at < $3]"
    );
    let total = total.bind(agent).bind_span(page.created).fetch_value(&mut *conn).await?;
    let channels = sql!(
        "SELECT ",
        MessageChannel::COLUMNS,
        " FROM am_channel_members m {by am_channel_members_made} {then} am_channels c ON c.id = m.channel_id
         WHERE m.agent_id = $1 [AND (m.made_at, m.channel_id) < ($2, $3)] [AND (m.made_at, m.channel_id) > ($4, $5)]
             [AND m.made_at > $6] [AND m.made_at < $7]
         ORDER BY m.made_at [?8 DESC], m.channel_id [?8 DESC] LIMIT $9 OFFSET $10",
    );
    let channels = channels.bind(agent).bind_page(page).fetch_all(conn).await?;
    Ok((channels.into_iter().map(owner_first).collect(), total))
}

row! {
    ChannelRef from "c." { id, kind, owner = "c.owner_id", status, last_seq }
}

/// A channel with the key that it was found by, which is the first column.
struct KeyedChannelRow(ChannelKey, ChannelRef);

impl FromRow for KeyedChannelRow {
    fn from_row(columns: &mut Columns<'_>) -> am_db::Result<Self> {
        Ok(Self(ChannelKey(columns.next_value()?), ChannelRef::from_row(columns)?))
    }
}

/// Open channels by their keys.
pub async fn channel_refs_by_key(conn: &mut Connection, places: &[&str]) -> Result<HashMap<ChannelKey, ChannelRef>> {
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let found = sql!(
        "SELECT c.place, ",
        ChannelRef::COLUMNS,
        " FROM {texts $1} AS wanted {then} am_channels c ON c.place = wanted.value AND c.status = 'OPEN'",
    );
    let found: Vec<KeyedChannelRow> = found.bind(serde_json::json!(places).to_string()).fetch_all(conn).await?;
    Ok(found.into_iter().map(|KeyedChannelRow(key, spot)| (key, spot)).collect())
}

/// Channels by their ids.
pub async fn channel_refs_by_id(conn: &mut Connection, ids: &[&ChannelId]) -> Result<HashMap<ChannelId, ChannelRef>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found =
        sql!("SELECT ", ChannelRef::COLUMNS, " FROM {texts $1} AS wanted {then} am_channels c ON c.id = wanted.value",);
    let found: Vec<ChannelRef> = found.bind(serde_json::json!(ids).to_string()).fetch_all(conn).await?;
    Ok(found.into_iter().map(|spot| (spot.id.clone(), spot)).collect())
}

/// Members of a channel.
pub async fn members_of(conn: &mut Connection, id: &ChannelId) -> Result<Vec<AgentId>> {
    let members = sql!("SELECT agent_id FROM am_channel_members WHERE channel_id = $1 ORDER BY agent_id");
    Ok(members.bind(id).fetch_values(conn).await?)
}

/// Add a statement that updates the last message numbers of channels.
pub fn update_last_seq<'a>(
    batch: &mut StatementBatch,
    reached: impl Iterator<Item = (&'a ChannelId, i64)>,
    now: Timestamp,
) {
    let reached: Vec<(&ChannelId, i64)> = reached.collect();
    let json = serde_json::json!(reached).to_string();
    let query = sql!(
        in batch,
        "UPDATE am_channels SET active_at = $1, last_seq = reached.seq FROM {records $2 id:text seq:bigint} AS reached
         WHERE am_channels.id = reached.id",
    );
    let query = query.bind(now).bind(json);
    batch.add(query);
}

/// Remove a member from a channel.
pub async fn remove_member(tx: &mut Tx, id: &ChannelId, agent: &AgentId) -> Result<()> {
    sql!("DELETE FROM am_channel_members WHERE channel_id = $1 AND agent_id = $2")
        .bind(id)
        .bind(agent)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Close an open channel.
pub async fn close_channel(tx: &mut Tx, id: &ChannelId, reason: &str, now: Timestamp) -> Result<()> {
    sql!(
        "UPDATE am_channels SET status = 'CLOSED', closed_at = $2, closed_reason = $3 WHERE id = $1 AND status = 'OPEN'",
    )
    .bind(id)
    .bind(now)
    .bind(reason)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Open channels without a message since `before`.
pub async fn idle_channels(conn: &mut Connection, before: Timestamp, limit: i64) -> Result<Vec<ChannelId>> {
    let idle = sql!("SELECT id FROM am_channels WHERE status = 'OPEN' AND active_at < $1 ORDER BY active_at LIMIT $2");
    Ok(idle.bind(before).bind(limit).fetch_values(conn).await?)
}
