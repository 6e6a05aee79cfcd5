//! SQL of tables `am_agent_keys` and `am_message_data_keys`.

use super::{
    master_keys::WrappedDataKey,
    model::{AgentKey, KeyKind, MasterKeyUsage},
    plan::{ActiveKey, KeyDirectory},
};
use am_core::ids::{AgentId, AgentKeyId, ChannelId, ContentKeyId, DataKeyId, MasterKeyId};
use am_db::{
    Connection, FromRow as _, Result, Tx, bulk_insert::RowBatch, codec::Timestamp, insert, page::PageRequest, push_row,
    row, sql, update,
};

row! {
    AgentKey { key_id, kind, public_key, owner_id, created_at, revoked_at }
}

row! {
    WrappedDataKey {
        id,
        channel = "channel_id",
        master_id,
        wrapped,
    }
}

/// All keys of an agent including revoked ones, newest first.
pub(super) async fn keys_of_agent(conn: &mut Connection, agent: &AgentId) -> Result<Vec<AgentKey>> {
    let keys = sql!(
        "SELECT ",
        AgentKey::COLUMNS,
        " FROM am_agent_keys WHERE agent_id = $1 ORDER BY created_at DESC, key_id DESC"
    );
    keys.bind(agent).fetch_all(conn).await
}

/// A page of an agent's keys, and their total number.
pub(super) async fn list_keys(
    conn: &mut Connection,
    agent: &AgentId,
    page: &PageRequest,
) -> Result<(Vec<AgentKey>, i64)> {
    let total = sql!("SELECT count(*) FROM am_agent_keys WHERE agent_id = $1 {span $2}");
    let total = total.bind(agent).bind_span(page.created).fetch_value(&mut *conn).await?;
    let keys = sql!(
        "SELECT ",
        AgentKey::COLUMNS,
        " FROM (SELECT *, key_id AS id FROM am_agent_keys WHERE agent_id = $1) AS k WHERE true {page $2}",
    );
    Ok((keys.bind(agent).bind_page(page).fetch_all(conn).await?, total))
}

/// A key of an agent by its id.
pub(super) async fn get_key(conn: &mut Connection, agent: &AgentId, key_id: &AgentKeyId) -> Result<Option<AgentKey>> {
    let key = sql!("SELECT ", AgentKey::COLUMNS, " FROM am_agent_keys WHERE agent_id = $1 AND key_id = $2");
    key.bind(agent).bind(key_id).fetch_optional(conn).await
}

/// Insert a key.
pub(super) async fn insert_key(tx: &mut Tx, agent: &AgentId, key: &AgentKey) -> Result<()> {
    insert!("am_agent_keys" {
        agent_id: agent,
        key_id: &key.key_id,
        kind: key.kind,
        public_key: &key.public_key,
        owner_id: &key.owner_id,
        created_at: key.created_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Revoke a key.
pub(super) async fn revoke_key(tx: &mut Tx, agent: &AgentId, key_id: &AgentKeyId, now: Timestamp) -> Result<()> {
    sql!("UPDATE am_agent_keys SET revoked_at = $3 WHERE agent_id = $1 AND key_id = $2")
        .bind(agent)
        .bind(key_id)
        .bind(now)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

row! {
    /// A key of an agent or a channel.
    struct AvailableKeyRow {
        /// The agent, or the channel.
        of: String = "agent_id",
        /// Kind of an agent's key; `None` for a data key.
        kind: Option<KeyKind>,
        id: ContentKeyId = "key_id",
        /// The public key, or the wrapped data key, in base64.
        text: String = "public_key",
        /// When an agent's key was registered, or the name of the master key that wraps a data key.
        at: String = "CAST(created_at AS VARCHAR) AS at",
    }
}

/// Read the active keys of channels and agents into `keys`, in one query.
pub(super) async fn read_available_keys(
    conn: &mut Connection,
    keys: &mut KeyDirectory,
    channels: &[&ChannelId],
    agents: &[&AgentId],
) -> Result<()> {
    let rows = sql!(
        "SELECT ",
        AvailableKeyRow::COLUMNS,
        " FROM am_agent_keys WHERE agent_id IN {texts $2} AND revoked_at IS NULL AND kind <> 'ED25519'
         UNION ALL
         SELECT channel_id, NULL, id, wrapped, master_id FROM am_message_data_keys
             WHERE channel_id IN {texts $1} AND retired_at IS NULL
         ORDER BY at DESC",
    );
    let rows = rows.bind(serde_json::json!(channels).to_string()).bind(serde_json::json!(agents).to_string());
    for channel in channels {
        keys.channels.insert((*channel).clone(), None);
    }
    for agent in agents {
        keys.agents.insert((*agent).clone(), Vec::new());
    }
    for AvailableKeyRow { of, kind, id, text, at } in rows.fetch_all::<AvailableKeyRow>(conn).await? {
        let id = id.into_string();
        match kind {
            Some(kind) => keys.agents.entry(of.into()).or_default().push(ActiveKey { kind, id: id.into(), text }),
            None => {
                let channel: ChannelId = of.into();
                let key =
                    WrappedDataKey { id: id.into(), channel: channel.clone(), master_id: at.into(), wrapped: text };
                keys.channels.insert(channel, Some(key));
            }
        }
    }
    Ok(())
}

/// A data key by its id, retired or not.
pub(super) async fn get_data_key(conn: &mut Connection, id: &DataKeyId) -> Result<Option<WrappedDataKey>> {
    let key = sql!("SELECT ", WrappedDataKey::COLUMNS, " FROM am_message_data_keys WHERE id = $1");
    key.bind(id).fetch_optional(conn).await
}

/// Add the row of a channel's data key.
pub(super) fn add_data_key_row(rows: &mut RowBatch, key: &WrappedDataKey, now: Timestamp) {
    push_row!(rows, "am_message_data_keys" {
        id: &key.id,
        channel_id: &key.channel,
        master_id: &key.master_id,
        wrapped: &key.wrapped,
        created_at: now,
    });
}

/// Retire all active data keys. Returns their number.
pub(super) async fn retire_data_keys(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    let retired = sql!("UPDATE am_message_data_keys SET retired_at = $1 WHERE retired_at IS NULL");
    retired.bind(now).execute(tx.conn().await?).await
}

/// At most `limit` data keys that another master key than `current` wraps.
pub(super) async fn wrapped_by_others(
    conn: &mut Connection,
    current: &MasterKeyId,
    limit: u32,
) -> Result<Vec<WrappedDataKey>> {
    // Two ranges, because <> would not use the index.
    let keys = sql!(
        "SELECT ",
        WrappedDataKey::COLUMNS,
        " FROM am_message_data_keys WHERE master_id < $1 UNION ALL SELECT ",
        WrappedDataKey::COLUMNS,
        " FROM am_message_data_keys WHERE master_id > $1 LIMIT $2",
    );
    keys.bind(current).bind(i64::from(limit)).fetch_all(conn).await
}

/// Update a data key's wrapped form.
pub(super) async fn update_wrapped(tx: &mut Tx, key: &WrappedDataKey) -> Result<()> {
    update!("am_message_data_keys" { master_id: &key.master_id, wrapped: &key.wrapped } where "id = $1" (&key.id))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Number of data keys per master key.
pub(super) async fn count_by_master_key(conn: &mut Connection) -> Result<Vec<MasterKeyUsage>> {
    let rows = sql!("SELECT master_id, count(*) FROM am_message_data_keys GROUP BY master_id ORDER BY master_id");
    let rows: Vec<(MasterKeyId, i64)> = rows.fetch_all(conn).await?;
    let used = |(master_id, data_keys)| MasterKeyUsage { master_id, configured: false, current: false, data_keys };
    Ok(rows.into_iter().map(used).collect())
}
