//! The performance group: any valid key. Agents' profiles, resources, optimisation, learning, capabilities and suites;
//! policies, their training and their serving stand below `rl/`.

pub(super) mod analytics;
mod capabilities;
pub(super) mod meta_learning;
mod optimisation;
pub(super) mod profiles;
mod resources;
pub(super) mod rl;
mod suites;
mod tasks;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    rl::router()
        .merge(profiles::router())
        .merge(analytics::router())
        .merge(resources::router())
        .merge(optimisation::router())
        .merge(meta_learning::router())
        .merge(capabilities::router())
        .merge(suites::router())
        .merge(tasks::router())
}
