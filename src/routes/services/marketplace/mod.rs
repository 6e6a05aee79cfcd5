//! `/api/v1/services/marketplace`: services that agents offer, requests for them with their money in escrow, guilds, figures.

mod figures;
mod guilds;
mod requests;
mod services;

use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{ApiCaller, KeyRole, openapi::routes},
};
use am_marketplace::MarketCaller;

/// The routes of this group.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(services::list_market_services, services::create_market_service))
        .routes(routes!(services::get_market_service, services::update_market_service))
        .routes(routes!(services::list_service_ratings))
        .routes(routes!(requests::list_market_requests, requests::create_market_request))
        .routes(routes!(requests::get_market_request))
        .routes(routes!(requests::list_request_history))
        .routes(routes!(requests::accept_market_request))
        .routes(routes!(requests::complete_market_request))
        .routes(routes!(requests::settle_market_request))
        .routes(routes!(requests::reject_market_request))
        .routes(routes!(requests::cancel_market_request))
        .routes(routes!(requests::dispute_market_request))
        .routes(routes!(requests::decide_market_dispute))
        .routes(routes!(requests::rate_market_request))
        .routes(routes!(guilds::list_market_guilds, guilds::create_market_guild))
        .routes(routes!(guilds::get_market_guild, guilds::update_market_guild))
        .routes(routes!(guilds::list_guild_members, guilds::join_market_guild))
        .routes(routes!(guilds::set_guild_role, guilds::leave_market_guild))
        .routes(routes!(guilds::pay_out_treasury))
        .routes(routes!(figures::list_market_categories))
        .routes(routes!(figures::get_market_analytics))
        .routes(routes!(figures::list_market_suggestions))
        .routes(routes!(figures::list_trusted_agents))
        .routes(routes!(figures::get_agent_trust))
}

/// The caller as the marketplace knows it.
fn market_caller(caller: ApiCaller) -> MarketCaller {
    let is_admin = caller.role == KeyRole::Admin && caller.principal.agent.is_none();
    MarketCaller { principal: caller.principal, is_admin }
}

/// Query parameters of lists that have an order of their own.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described here, read by the paginator")]
struct OrderedPageQuery {
    /// Number of rows of a page, 1 to 500. The default depends on the list.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Where the page begins: an opaque text from the `Link` header of the page before. Default: the first row.
    cursor: Option<String>,
}
