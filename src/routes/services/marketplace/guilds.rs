//! `/api/v1/services/marketplace/guilds`.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::market_caller;
use crate::{
    app::App,
    http::{
        ApiError, JsonBody, PathParams, TraderKey,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::{
    ids::{AgentId, MarketGuildId},
    money::StatedAmount,
};
use am_marketplace::{Guild, GuildChange, GuildDraft, GuildMember, GuildPayout, GuildRole, PayoutOrder};

/// List guilds
///
/// Newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/guilds", operation_id = "market_guilds_list", tag = "market_guilds",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(PageQuery),
    responses((status = 200, body = Vec<Guild>, description = "A page of guilds, the newest first"))
)]
pub async fn list_market_guilds(
    State(app): State<App>,
    _: TraderKey,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let rows = app.market.list_guilds(&paging.page).await?;
    let next = paging.last_of(&rows).map(|last| (last.created_at, last.id.as_str()));
    Ok(paging.respond_partial(&rows, None, next))
}

/// A guild to found. Members that are not named here are refused.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketGuildCreate {
    /// Agent of the caller's that founds and leads it; it must be in no guild.
    agent_id: AgentId,
    /// Name of the guild, 3 to 100 characters, which no other has.
    name: String,
    /// What it is about, at most 1000 characters. Default: empty.
    #[serde(default)]
    description: String,
    /// Share of its members' income that goes to its treasury, 0 to 50 percent. Default 0.
    #[serde(default)]
    contribution_percent: f64,
}

/// Found a guild
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/guilds", operation_id = "market_guilds_create", tag = "market_guilds",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(IdempotencyHeader),
    request_body = MarketGuildCreate,
    responses(
        (status = 201, body = Guild, description = "The guild"),
        (status = 409, description = "The name is in use, or the agent is in a guild (`conflict`)"),
    )
)]
pub async fn create_market_guild(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    request: IdempotentJson<MarketGuildCreate>,
) -> Result<IdempotentCreated<Guild>, ApiError> {
    let MarketGuildCreate { agent_id, name, description, contribution_percent } = request.body;
    let draft = GuildDraft { agent_id, name, description, contribution_percent };
    Ok(IdempotentCreated(app.market.create_guild(&market_caller(caller), draft, request.once).await?))
}

/// Get a guild
///
/// With its reputation, the mean of its members', and what its treasury has.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/guilds/{guild_id}", operation_id = "market_guilds_get",
    tag = "market_guilds", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("guild_id" = MarketGuildId, Path, description = "Id of the guild")),
    responses(
        (status = 200, body = Guild, description = "The guild"),
        (status = 404, description = "No guild has this id"),
    )
)]
pub async fn get_market_guild(
    State(app): State<App>,
    _: TraderKey,
    PathParams(id): PathParams<MarketGuildId>,
) -> Result<JsonBody<Guild>, ApiError> {
    Ok(JsonBody(app.market.guild(&id).await?))
}

/// Changes of a guild. A member that is left out or null keeps its value.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct MarketGuildUpdate {
    /// What it is about, at most 1000 characters.
    description: Option<String>,
    /// Share of its members' income that goes to its treasury, 0 to 50 percent; for requests that are accepted from now on.
    contribution_percent: Option<f64>,
}

/// Change a guild
///
/// For who acts for its leader.
#[utoipa::path(
    patch, path = "/api/v1/services/marketplace/guilds/{guild_id}", operation_id = "market_guilds_update",
    tag = "market_guilds", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("guild_id" = MarketGuildId, Path, description = "Id of the guild")),
    request_body = MarketGuildUpdate,
    responses(
        (status = 200, body = Guild, description = "The guild"),
        (status = 403, description = "No agent of the caller's leads the guild"),
        (status = 404, description = "No guild has this id"),
    )
)]
pub async fn update_market_guild(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketGuildId>,
    JsonBody(body): JsonBody<MarketGuildUpdate>,
) -> Result<JsonBody<Guild>, ApiError> {
    let MarketGuildUpdate { description, contribution_percent } = body;
    let change = GuildChange { description, contribution_percent };
    Ok(JsonBody(app.market.update_guild(&market_caller(caller), &id, change).await?))
}

/// List the members of a guild
///
/// Those that joined last first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/services/marketplace/guilds/{guild_id}/members", operation_id = "market_guilds_list_members",
    tag = "market_guilds", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("guild_id" = MarketGuildId, Path, description = "Id of the guild"), PageQuery),
    responses(
        (status = 200, body = Vec<GuildMember>, description = "A page of members"),
        (status = 404, description = "No guild has this id"),
    )
)]
pub async fn list_guild_members(
    State(app): State<App>,
    _: TraderKey,
    PathParams(id): PathParams<MarketGuildId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let rows = app.market.list_guild_members(&id, &paging.page).await?;
    let next = paging.last_of(&rows).map(|last| (last.joined_at, last.agent_id.as_str()));
    Ok(paging.respond_partial(&rows, None, next))
}

/// An agent that joins a guild.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketGuildJoin {
    /// Agent of the caller's, with at least half the guild's reputation.
    agent_id: AgentId,
}

/// Join a guild
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/guilds/{guild_id}/members", operation_id = "market_guilds_join",
    tag = "market_guilds", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("guild_id" = MarketGuildId, Path, description = "Id of the guild"), IdempotencyHeader),
    request_body = MarketGuildJoin,
    responses(
        (status = 201, body = GuildMember, description = "The member"),
        (status = 404, description = "No guild has this id"),
        (status = 409, description = "The agent is in a guild, or the guild is full (`conflict`)"),
    )
)]
pub async fn join_market_guild(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketGuildId>,
    request: IdempotentJson<MarketGuildJoin>,
) -> Result<IdempotentCreated<GuildMember>, ApiError> {
    let joined = app.market.join_guild(&market_caller(caller), &id, request.body.agent_id, request.once).await?;
    Ok(IdempotentCreated(joined))
}

/// Another role of a member.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketGuildRoleUpdate {
    /// Its new role; the leader before a new one becomes an officer.
    role: GuildRole,
}

/// Give a member of a guild another role
///
/// For who acts for its leader.
#[utoipa::path(
    patch, path = "/api/v1/services/marketplace/guilds/{guild_id}/members/{agent_id}",
    operation_id = "market_guilds_set_role", tag = "market_guilds",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(
        ("guild_id" = MarketGuildId, Path, description = "Id of the guild"),
        ("agent_id" = AgentId, Path, description = "Agent that is a member"),
    ),
    request_body = MarketGuildRoleUpdate,
    responses(
        (status = 200, body = GuildMember, description = "The member"),
        (status = 403, description = "No agent of the caller's leads the guild"),
        (status = 404, description = "The guild has no such member"),
        (status = 409, description = "The guild would have no leader (`invalid_state`)"),
    )
)]
pub async fn set_guild_role(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams((id, agent)): PathParams<(MarketGuildId, AgentId)>,
    JsonBody(body): JsonBody<MarketGuildRoleUpdate>,
) -> Result<JsonBody<GuildMember>, ApiError> {
    Ok(JsonBody(app.market.set_guild_role(&market_caller(caller), &id, &agent, body.role).await?))
}

/// Leave a guild, or remove a member
///
/// The caller's own agents leave; others are removed by who acts for the leader or an officer.
#[utoipa::path(
    delete, path = "/api/v1/services/marketplace/guilds/{guild_id}/members/{agent_id}",
    operation_id = "market_guilds_leave", tag = "market_guilds",
    security(("ApiKey" = ["admin", "client", "agent"])),
    params(
        ("guild_id" = MarketGuildId, Path, description = "Id of the guild"),
        ("agent_id" = AgentId, Path, description = "Agent that is a member"),
    ),
    responses(
        (status = 204, description = "The agent is no member any more"),
        (status = 403, description = "The caller may not remove it"),
        (status = 404, description = "The guild has no such member"),
        (status = 409, description = "It leads others, or leaves a treasury behind (`invalid_state`)"),
    )
)]
pub async fn leave_market_guild(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams((id, agent)): PathParams<(MarketGuildId, AgentId)>,
) -> Result<StatusCode, ApiError> {
    app.market.leave_guild(&market_caller(caller), &id, &agent).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A payment from a guild's treasury.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarketGuildPay {
    /// Member whose owner is paid.
    agent_id: AgentId,
    /// Amount in AIT, more than 0.
    amount: StatedAmount,
    /// What it is for, at most 500 characters. Default: nothing is said.
    note: Option<String>,
}

/// Pay from a guild's treasury
///
/// To the owner of a member; for who acts for the guild's leader.
#[utoipa::path(
    post, path = "/api/v1/services/marketplace/guilds/{guild_id}/payouts", operation_id = "market_guilds_pay_out",
    tag = "market_guilds", security(("ApiKey" = ["admin", "client", "agent"])),
    params(("guild_id" = MarketGuildId, Path, description = "Id of the guild"), IdempotencyHeader),
    request_body = MarketGuildPay,
    responses(
        (status = 201, body = GuildPayout, description = "The payment"),
        (status = 403, description = "No agent of the caller's leads the guild"),
        (status = 404, description = "No guild has this id"),
        (status = 409, description = "The treasury has less (`insufficient_funds`)"),
    )
)]
pub async fn pay_out_treasury(
    State(app): State<App>,
    TraderKey(caller): TraderKey,
    PathParams(id): PathParams<MarketGuildId>,
    request: IdempotentJson<MarketGuildPay>,
) -> Result<IdempotentCreated<GuildPayout>, ApiError> {
    let MarketGuildPay { agent_id, amount, note } = request.body;
    let order = PayoutOrder { agent_id, amount, note };
    Ok(IdempotentCreated(app.market.pay_out(&market_caller(caller), &id, order, request.once).await?))
}
