//! SQL of tables `am_market_guilds` and `am_market_guild_members`.

use super::model::{Guild, GuildMember};
use am_core::ids::{AgentId, MarketGuildId};
use am_db::{
    Connection, FromRow as _, Result, Tx, bulk_insert::RowBatch, codec::Timestamp, page::PageRequest, push_row, row,
    sql,
};

row! {
    /// A guild as it is stored.
    pub struct GuildRow {
        pub id: MarketGuildId,
        pub name: String,
        pub description: String,
        pub contribution: i64,
        pub members: i64,
        pub created_at: Timestamp,
        pub updated_at: Timestamp,
    }
}

row! {
    GuildMember { agent_id, guild_id, role, joined_at }
}

impl GuildRow {
    /// The guild as clients see it, without what is read beside it.
    pub fn shown(self) -> Guild {
        Guild {
            id: self.id,
            name: self.name,
            description: self.description,
            contribution_percent: self.contribution as f64 / 100.0,
            members: self.members,
            reputation: None,
            treasury: None,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// Add the row of a guild, new or changed, to `rows`.
pub fn save(rows: &mut RowBatch, guild: &GuildRow) {
    push_row!(rows, "am_market_guilds" {
        id: &guild.id,
        name: &guild.name,
        description: &guild.description,
        contribution: guild.contribution,
        members: guild.members,
        created_at: guild.created_at,
        updated_at: guild.updated_at,
    } update on (id) except (name, created_at));
}

/// Add the row of a member, new or changed, to `rows`.
pub fn save_member(rows: &mut RowBatch, member: &GuildMember) {
    push_row!(rows, "am_market_guild_members" {
        agent_id: &member.agent_id,
        guild_id: &member.guild_id,
        role: member.role,
        joined_at: member.joined_at,
    } update on (agent_id) except (joined_at));
}

/// Read a guild.
pub async fn find(conn: &mut Connection, id: &MarketGuildId) -> Result<Option<GuildRow>> {
    let found = sql!("SELECT ", GuildRow::COLUMNS, " FROM am_market_guilds WHERE id = $1");
    found.bind(id).fetch_optional(conn).await
}

/// Whether a guild has this name.
pub async fn is_taken(conn: &mut Connection, name: &str) -> Result<bool> {
    sql!("SELECT 1 FROM am_market_guilds WHERE name = $1").bind(name).exists(conn).await
}

/// Read a page of guilds.
pub async fn list(conn: &mut Connection, page: &PageRequest) -> Result<Vec<GuildRow>> {
    let guilds = sql!("SELECT ", GuildRow::COLUMNS, " FROM am_market_guilds WHERE true {page $1}");
    guilds.bind_page(page).fetch_all(conn).await
}

/// Read an agent's membership.
pub async fn find_member(conn: &mut Connection, agent: &AgentId) -> Result<Option<GuildMember>> {
    let found = sql!("SELECT ", GuildMember::COLUMNS, " FROM am_market_guild_members WHERE agent_id = $1");
    found.bind(agent).fetch_optional(conn).await
}

/// Read the guild that an agent is in, and its contribution in basis points.
pub async fn contribution_of(conn: &mut Connection, agent: &AgentId) -> Result<Option<(MarketGuildId, i64)>> {
    let found = sql!(
        "SELECT g.id, g.contribution FROM am_market_guild_members m {then} am_market_guilds g ON g.id = m.guild_id
         WHERE m.agent_id = $1"
    );
    found.bind(agent).fetch_optional(conn).await
}

/// Read all members of a guild, the first that joined first.
pub async fn members(conn: &mut Connection, guild: &MarketGuildId) -> Result<Vec<GuildMember>> {
    let members = sql!(
        "SELECT ",
        GuildMember::COLUMNS,
        " FROM am_market_guild_members WHERE guild_id = $1 ORDER BY joined_at, agent_id",
    );
    members.bind(guild).fetch_all(conn).await
}

/// Read a page of a guild's members.
pub async fn list_members(
    conn: &mut Connection,
    guild: &MarketGuildId,
    page: &PageRequest,
) -> Result<Vec<GuildMember>> {
    let members = sql!(
        "SELECT ",
        GuildMember::COLUMNS,
        " FROM (SELECT *, agent_id AS id, joined_at AS created_at FROM am_market_guild_members WHERE guild_id = $1) AS m
         WHERE true {page $2}",
    );
    members.bind(guild).bind_page(page).fetch_all(conn).await
}

/// Delete an agent's membership.
pub async fn delete_member(tx: &mut Tx, agent: &AgentId) -> Result<()> {
    sql!("DELETE FROM am_market_guild_members WHERE agent_id = $1").bind(agent).execute(tx.conn().await?).await?;
    Ok(())
}
