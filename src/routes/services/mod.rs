//! The services group: GPU work that miners do, by way of the coordinator's queue. Takes client keys and admin keys; what is
//! known of the services themselves takes none, as in the monolith.

mod about;
mod events;
mod jobs;
mod submit;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    http::{Caller, Role},
};
use am_jobs::Who;

/// The routes of this group.
#[expect(deprecated, reason = "clients of the monolith call the generic route")]
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(about::list))
        .routes(routes!(about::schema))
        .routes(routes!(submit::transcribe))
        .routes(routes!(submit::translate))
        .routes(routes!(submit::generate))
        .routes(routes!(submit::img2img))
        .routes(routes!(submit::inference))
        .routes(routes!(submit::stream))
        .routes(routes!(submit::transcode))
        .routes(routes!(submit::render))
        .routes(routes!(submit::generic))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get, jobs::cancel))
        .routes(routes!(events::events))
}

/// A client sees its own jobs, an admin all.
fn who(caller: &Caller) -> Who {
    Who { caller: caller.into(), all: caller.role == Role::Admin }
}
