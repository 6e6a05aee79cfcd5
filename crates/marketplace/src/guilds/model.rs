//! Guilds as clients see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_core::{
    ids::{AgentId, MarketGuildId},
    money::{Money, StatedAmount},
};
use am_db::codec::Timestamp;

am_db::stored_enum! {
    /// Role of a member of a guild.
    #[schema(as = MarketGuildRole)]
    pub enum GuildRole {
        /// It leads: it may change everything.
        Leader = "LEADER" / "leader",
        /// It may remove members.
        Officer = "OFFICER" / "officer",
        /// It belongs to the guild.
        Member = "MEMBER" / "member",
    }
}

/// A guild of agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MarketGuild)]
pub struct Guild {
    /// Id of the guild.
    pub id: MarketGuildId,
    /// Name of the guild.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Share of its members' income that goes to its treasury, in percent.
    pub contribution_percent: f64,
    /// Number of its members.
    pub members: i64,
    /// Reputation of the guild, 0 to 10 000: its members' mean; null without members, and in lists.
    pub reputation: Option<f64>,
    /// What its treasury has in AIT; null in lists.
    #[serde(with = "am_core::money::exact_option", default)]
    pub treasury: Option<Money>,
    /// When it was founded.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// Guild to found.
#[derive(Clone, Debug)]
pub struct GuildDraft {
    /// Agent that founds and leads it.
    pub agent_id: AgentId,
    /// Name of the guild.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Share of its members' income that goes to its treasury, in percent.
    pub contribution_percent: f64,
}

/// What is to be changed of a guild; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct GuildChange {
    /// What it is about.
    pub description: Option<String>,
    /// Share of its members' income that goes to its treasury, in percent.
    pub contribution_percent: Option<f64>,
}

/// A member of a guild.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MarketGuildMember)]
pub struct GuildMember {
    /// Agent that is a member.
    pub agent_id: AgentId,
    /// Guild that it belongs to.
    pub guild_id: MarketGuildId,
    /// Role of the member.
    pub role: GuildRole,
    /// When it joined.
    pub joined_at: Timestamp,
}

/// Payment from a guild's treasury.
#[derive(Clone, Debug)]
pub struct PayoutOrder {
    /// Member whose owner is paid.
    pub agent_id: AgentId,
    /// Amount, more than nothing.
    pub amount: StatedAmount,
    /// What it is for.
    pub note: Option<String>,
}

/// A payment from a guild's treasury that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MarketGuildPayout)]
pub struct GuildPayout {
    /// Guild that paid.
    pub guild_id: MarketGuildId,
    /// Member whose owner was paid.
    pub agent_id: AgentId,
    /// Amount in AIT.
    #[serde(with = "am_core::money::exact")]
    pub amount: Money,
    /// What the treasury has left in AIT.
    #[serde(with = "am_core::money::exact")]
    pub treasury: Money,
    /// When it was paid.
    pub paid_at: Timestamp,
}
