//! `/api/v1/agents/performance/rl`: environments, policies, training runs, strategies.

mod act;
mod aliases;
mod environments;
mod policies;
mod runs;
mod strategies;

use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, http::openapi::routes};

/// The routes of policies and their training.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(environments::list))
        .routes(routes!(environments::get))
        .routes(routes!(environments::calibration))
        .routes(routes!(policies::list))
        .routes(routes!(policies::get))
        .routes(routes!(policies::versions, policies::upload))
        .routes(routes!(policies::version))
        .routes(routes!(policies::weights))
        .routes(routes!(policies::export))
        .routes(routes!(policies::set_split, policies::remove_split))
        .routes(routes!(policies::comparison))
        .routes(routes!(aliases::list))
        .routes(routes!(aliases::get, aliases::set, aliases::remove))
        .routes(routes!(aliases::roll_back))
        .routes(routes!(act::act))
        .routes(routes!(act::evaluate))
        .routes(routes!(runs::create, runs::list))
        .routes(routes!(runs::get))
        .routes(routes!(runs::events))
        .routes(routes!(runs::pause))
        .routes(routes!(runs::resume))
        .routes(routes!(runs::cancel))
        .routes(routes!(strategies::list))
        .routes(routes!(strategies::optimize))
        .routes(routes!(strategies::deploy))
        .routes(routes!(strategies::evaluate))
}
