//! The security group. All of it takes an admin key.

mod webhooks;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::delivery))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(webhooks::test))
}
