//! The security group. All of it takes an admin key.

mod audit;
mod dashboard;
mod policies;
mod reviews;
mod sandbox;
mod tree;
mod trust;
mod webhooks;

use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, http::openapi::routes};

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
        .routes(routes!(policies::create, policies::list))
        .routes(routes!(policies::get, policies::update, policies::delete))
        .routes(routes!(reviews::validate))
        .routes(routes!(reviews::scan))
        .routes(routes!(reviews::binding))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::delivery))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(webhooks::test))
        .routes(routes!(sandbox::capabilities))
        .routes(routes!(sandbox::create))
        .routes(routes!(sandbox::monitor))
        .routes(routes!(sandbox::cleanup))
        .routes(routes!(trust::list))
        .routes(routes!(trust::get))
        .routes(routes!(trust::update))
        .routes(routes!(trust::explain))
        .routes(routes!(dashboard::dashboard))
        .routes(routes!(dashboard::statistics))
        .routes(routes!(dashboard::monitor))
}
