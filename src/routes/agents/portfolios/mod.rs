//! `/api/v1/agents/portfolios`: strategies, holdings in the ledger, trades at recorded prices, and what all of it earned.

mod analysis;
mod holdings;
mod optimization;
mod prices;
mod records;
mod settlements;
mod signals;
mod strategies;
mod trading;

use axum::response::Response;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        auth::{ApiCaller, KeyRole},
        openapi::routes,
        pagination::Paginator,
    },
};
use am_db::codec::Timestamp;
use am_portfolio::PortfolioCaller;

/// The routes of portfolios.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(strategies::create_strategy, strategies::list_strategies))
        .routes(routes!(strategies::get_strategy, strategies::update_strategy))
        .routes(routes!(prices::record_price, prices::list_prices))
        .routes(routes!(prices::record_prices))
        .routes(routes!(prices::get_price))
        .routes(routes!(optimization::optimize_portfolio))
        .routes(routes!(optimization::backtest_portfolio))
        .routes(routes!(settlements::list_settlements))
        .routes(routes!(settlements::get_settlement))
        .routes(routes!(settlements::retry_settlement))
        .routes(routes!(settlements::abandon_settlement))
        .routes(routes!(holdings::create_portfolio, holdings::list_portfolios))
        .routes(routes!(holdings::get_portfolio, holdings::update_portfolio))
        .routes(routes!(holdings::add_asset, holdings::get_holdings))
        .routes(routes!(holdings::deposit_funds))
        .routes(routes!(holdings::withdraw_funds))
        .routes(routes!(holdings::list_flows))
        .routes(routes!(trading::create_quote))
        .routes(routes!(trading::create_trade, trading::list_trades))
        .routes(routes!(trading::rebalance_portfolio, trading::list_rebalances))
        .routes(routes!(records::create_snapshot, records::list_snapshots))
        .routes(routes!(records::list_alerts))
        .routes(routes!(records::acknowledge_alert))
        .routes(routes!(signals::list_signals))
        .routes(routes!(signals::follow_signal))
        .routes(routes!(analysis::get_performance))
        .routes(routes!(analysis::get_attribution))
        .routes(routes!(analysis::get_risk))
        .routes(routes!(analysis::run_stress_test))
}

fn portfolio_caller(caller: &ApiCaller) -> PortfolioCaller {
    PortfolioCaller { principal: caller.principal.clone(), is_admin: caller.role == KeyRole::Admin }
}

/// The page of a list whose rows have numbers, with how many there are, where that was counted.
fn numbered_page<T: Serialize, const DEFAULT: u32>(
    paging: &Paginator<DEFAULT>,
    (rows, total): (Vec<T>, Option<i64>),
    place: impl Fn(&T) -> (Timestamp, i64),
) -> Response {
    let last = paging.last_of(&rows).map(place).map(|(at, id)| (at, id.to_string()));
    let next = last.as_ref().map(|(at, id)| (*at, id.as_str()));
    paging.respond_partial(&rows, total.map(i64::cast_unsigned), next)
}
