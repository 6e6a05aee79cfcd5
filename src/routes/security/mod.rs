//! The security group. All of it takes an admin key.

mod audit;
mod dashboard;
mod tree;
mod trust;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(audit::list, audit::record))
        .routes(routes!(audit::export))
        .routes(routes!(audit::get))
        .routes(routes!(tree::head))
        .routes(routes!(tree::heads))
        .routes(routes!(tree::inclusion))
        .routes(routes!(tree::consistency))
        .routes(routes!(trust::list))
        .routes(routes!(trust::get))
        .routes(routes!(trust::update))
        .routes(routes!(trust::explain))
        .routes(routes!(dashboard::dashboard))
        .routes(routes!(dashboard::statistics))
        .routes(routes!(dashboard::monitor))
}
