//! The services group: GPU work that miners do, by way of the coordinator's queue. Takes client keys and admin keys; what is
//! known of the services themselves takes none, as in the monolith.

mod about;
mod events;
mod jobs;
mod marketplace;
mod submit;

use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{ApiCaller, KeyRole, openapi::routes},
};
use am_jobs::JobViewer;

/// The routes of this group.
#[expect(deprecated, reason = "clients of the monolith call the generic route")]
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(about::list_services))
        .routes(routes!(about::get_service_schema))
        .routes(routes!(submit::transcribe_audio))
        .routes(routes!(submit::translate_audio))
        .routes(routes!(submit::generate_images))
        .routes(routes!(submit::transform_image))
        .routes(routes!(submit::run_inference))
        .routes(routes!(submit::stream_inference))
        .routes(routes!(submit::transcode_media))
        .routes(routes!(submit::render_scene))
        .routes(routes!(submit::submit_generic_job))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::get_job, jobs::cancel_job))
        .routes(routes!(jobs::delete_job_record))
        .routes(routes!(events::stream_job_events))
        .merge(marketplace::router())
}

/// A client sees its own jobs, an admin all.
fn job_viewer(caller: &ApiCaller) -> JobViewer {
    JobViewer { caller: caller.principal.clone(), all: caller.role == KeyRole::Admin }
}
