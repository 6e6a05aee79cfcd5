//! The integration group. All of it takes an admin key.

mod alerts;

use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, http::openapi::routes};

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(alerts::list_alerts))
}
