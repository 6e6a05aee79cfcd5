//! The agents group: workflows, executions, receipts, networks. All of it takes an admin key.

mod events;
mod executions;
mod learning;
mod logs;
mod networks;
mod receipts;
mod workflows;

pub use executions::WaitQuery;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, http::Json};

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(workflows::create, workflows::list))
        .routes(routes!(workflows::get, workflows::update, workflows::delete))
        .routes(routes!(executions::execute))
        .routes(routes!(executions::of_workflow))
        .routes(routes!(executions::cancel_of_workflow))
        .routes(routes!(executions::list))
        .routes(routes!(executions::get))
        .routes(routes!(executions::status))
        .routes(routes!(executions::cancel))
        .routes(routes!(executions::pause))
        .routes(routes!(executions::resume))
        .routes(routes!(executions::retry))
        .routes(routes!(logs::logs))
        .routes(routes!(events::events))
        .routes(routes!(receipts::receipt))
        .routes(routes!(receipts::verify))
        .routes(routes!(receipts::keys))
        .routes(routes!(networks::create, networks::list))
        .routes(routes!(networks::get))
        .routes(routes!(networks::execute))
        .routes(routes!(networks::status))
        .routes(routes!(networks::optimize))
        .routes(routes!(learning::enable))
        .routes(routes!(learning::train))
        .routes(routes!(learning::progress))
        .routes(routes!(learning::export))
        .routes(routes!(test))
}

/// An answer in words.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    /// What happened.
    pub message: &'static str,
    /// The service that answers.
    pub service: &'static str,
}

/// That the group's routes are there
///
/// Takes no key, as in the monolith.
#[utoipa::path(get, path = "/api/v1/agents/test", tag = "agents", security(()), responses((status = 200, body = Message)))]
async fn test() -> Json<Message> {
    Json(Message { message: "Agent routes are working", service: env!("CARGO_PKG_NAME") })
}
