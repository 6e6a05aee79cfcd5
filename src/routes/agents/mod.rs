//! The agents group: workflows, executions, receipts, networks, the registry, plans. All of it takes an admin key.

mod assignments;
mod channels;
mod events;
mod executions;
mod keys;
mod learning;
mod logs;
mod messages;
mod networks;
mod plans;
mod receipts;
mod registry;
mod relations;
mod reputation;
mod templates;
mod transfer;
mod workflows;

pub use executions::WaitQuery;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{ApiError, Json, openapi::routes},
};

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
        .routes(routes!(registry::register, registry::list))
        .routes(routes!(registry::utilisation))
        .routes(routes!(registry::events))
        .routes(routes!(registry::get, registry::update, registry::deregister))
        .routes(routes!(registry::heartbeat))
        .routes(routes!(registry::offline))
        .routes(routes!(registry::online))
        .routes(routes!(registry::assignments))
        .routes(routes!(plans::create, plans::list))
        .routes(routes!(plans::metrics))
        .routes(routes!(plans::get))
        .routes(routes!(plans::status))
        .routes(routes!(plans::execute))
        .routes(routes!(plans::cancel))
        .routes(routes!(plans::retry))
        .routes(routes!(plans::events))
        .routes(routes!(assignments::get))
        .routes(routes!(assignments::accept))
        .routes(routes!(assignments::progress))
        .routes(routes!(assignments::result))
        .routes(routes!(assignments::fail))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(reputation::get))
        .routes(routes!(relations::add_contact, relations::contacts))
        .routes(routes!(relations::remove_contact))
        .routes(routes!(relations::block, relations::blocks))
        .routes(routes!(relations::unblock))
        .routes(routes!(relations::authorise, relations::standing, relations::revoke))
        .routes(routes!(templates::create, templates::list))
        .routes(routes!(templates::get, templates::delete))
        .routes(routes!(templates::render))
        .routes(routes!(transfer::stats))
        .routes(routes!(transfer::pay))
        .routes(routes!(transfer::export))
        .routes(routes!(transfer::import))
        .merge(messages::router())
        .routes(routes!(channels::create, channels::list))
        .routes(routes!(channels::get, channels::close))
        .routes(routes!(channels::add))
        .routes(routes!(channels::remove))
        .routes(routes!(channels::send, channels::history))
        .routes(routes!(test))
}

/// The longest name of an agent, in bytes.
const LONGEST_AGENT: usize = 128;

/// The agent that the path names as `name`. One that is named by an API key is known by its principal, since no key is stored
/// or shown.
fn agent(app: &App, name: &'static str, id: &str) -> Result<String, ApiError> {
    agent_in(app, ("path", name), id)
}

/// The same for the body or the query.
fn agent_in(app: &App, (place, name): (&'static str, &'static str), id: &str) -> Result<String, ApiError> {
    if id.trim() != id || id.is_empty() || id.len() > LONGEST_AGENT || id.chars().any(char::is_control) {
        let message = format!("Has 1 to {LONGEST_AGENT} bytes, no control characters, no blanks around it");
        return Err(ApiError::field(vec![place.into(), name.into()], message, "value_error"));
    }
    Ok(app.shared.keyring.shown(id))
}

/// Whether a group of routes answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceMessage)]
pub struct Message {
    /// A sentence for people.
    pub message: &'static str,
    /// Name of this service.
    pub service: &'static str,
}

/// Check that the group of routes answers
///
/// Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/agents/test", operation_id = "agents_test", tag = "agents", security(()),
    responses((status = 200, body = Message, description = "The routes of this group answer"))
)]
async fn test() -> Json<Message> {
    Json(Message { message: "Agent routes are working", service: env!("CARGO_PKG_NAME") })
}
