//! The performance group: any valid key. Policies, their training and their serving stand below `rl/`.

mod rl;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    rl::router()
}
