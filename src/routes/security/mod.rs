//! The security group: all of it takes an admin key.

mod sandbox;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(sandbox::capabilities))
        .routes(routes!(sandbox::create))
        .routes(routes!(sandbox::monitor))
        .routes(routes!(sandbox::cleanup))
}
