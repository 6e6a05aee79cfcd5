//! The agents group: workflows, executions, receipts, networks, the registry, plans. All of it takes an admin key.

mod assignments;
mod bulk;
mod channels;
pub mod deletion;
mod directory;
mod directory_entry;
mod events;
mod executions;
mod keys;
mod learning;
mod ledger;
mod logs;
mod messages;
mod networks;
mod plans;
mod portfolios;
mod receipts;
mod registry;
mod relations;
mod reputation;
mod retry;
mod step_list;
mod templates;
mod transfer;
mod wait;
mod workflows;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
pub use wait::WaitQuery;

use crate::{
    app::App,
    http::{ApiError, JsonBody, openapi::routes},
};
use am_core::{ids::AgentId, validation};
use am_db::codec::Timestamp;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(workflows::create_workflow, workflows::list_workflows))
        .routes(routes!(workflows::get_workflow, workflows::update_workflow, workflows::delete_workflow))
        .routes(routes!(executions::execute_workflow))
        .routes(routes!(executions::list_workflow_executions))
        .routes(routes!(executions::get_workflow_status))
        .routes(routes!(executions::cancel_workflow_execution))
        .routes(routes!(executions::list_executions))
        .routes(routes!(executions::get_execution, deletion::delete_execution))
        .routes(routes!(bulk::retry_executions))
        .routes(routes!(bulk::cancel_executions))
        .routes(routes!(bulk::list_operations))
        .routes(routes!(bulk::get_operation))
        .routes(routes!(bulk::cancel_operation))
        .routes(routes!(executions::get_execution_status))
        .routes(routes!(executions::cancel_execution))
        .routes(routes!(executions::pause_execution))
        .routes(routes!(executions::resume_execution))
        .routes(routes!(retry::retry_execution))
        .routes(routes!(logs::get_execution_logs))
        .routes(routes!(events::stream_execution_events))
        .routes(routes!(receipts::get_execution_receipt))
        .routes(routes!(receipts::verify_receipt))
        .routes(routes!(receipts::list_receipt_keys))
        .routes(routes!(networks::create_network, networks::list_networks))
        .routes(routes!(networks::get_network))
        .routes(routes!(networks::execute_network_task))
        .routes(routes!(networks::get_network_status))
        .routes(routes!(networks::optimize_network))
        .routes(routes!(learning::enable_learning))
        .routes(routes!(learning::train_agent))
        .routes(routes!(learning::get_learning_progress))
        .routes(routes!(learning::export_agent_policy))
        .routes(routes!(registry::register_agent, registry::list_agents))
        .routes(routes!(registry::get_registry_utilisation))
        .routes(routes!(events::stream_registry_events))
        .routes(routes!(registry::get_agent, registry::update_agent, registry::deregister_agent))
        .routes(routes!(registry::record_agent_heartbeat))
        .routes(routes!(registry::take_agent_offline))
        .routes(routes!(registry::bring_agent_online))
        .routes(routes!(directory::register_agent))
        .routes(routes!(directory::discover_agents))
        .routes(routes!(directory::get_agent))
        .routes(routes!(directory::update_agent_status))
        .routes(routes!(directory::record_agent_heartbeat))
        .routes(routes!(directory::deregister_agent))
        .routes(routes!(assignments::list_agent_assignments))
        .routes(routes!(plans::create_plan, plans::list_plans))
        .routes(routes!(plans::get_plan_metrics))
        .routes(routes!(plans::get_plan, deletion::delete_plan))
        .routes(routes!(plans::get_plan_status))
        .routes(routes!(plans::execute_plan))
        .routes(routes!(plans::cancel_plan))
        .routes(routes!(plans::retry_plan))
        .routes(routes!(plans::stream_plan_events))
        .routes(routes!(assignments::get_assignment, deletion::delete_assignment))
        .routes(routes!(assignments::accept_assignment))
        .routes(routes!(assignments::report_assignment_progress))
        .routes(routes!(assignments::report_assignment_result))
        .routes(routes!(assignments::report_assignment_failure))
        .routes(routes!(keys::create_agent_key, keys::list_agent_keys))
        .routes(routes!(keys::revoke_agent_key))
        .routes(routes!(reputation::get_agent_reputation))
        .routes(routes!(relations::add_contact, relations::list_contacts))
        .routes(routes!(relations::remove_contact))
        .routes(routes!(relations::block_agent, relations::list_blocks))
        .routes(routes!(relations::unblock_agent))
        .routes(routes!(relations::authorize_agent, relations::get_authorization, relations::revoke_authorization))
        .routes(routes!(templates::create_template, templates::list_templates))
        .routes(routes!(templates::get_template, templates::delete_template))
        .routes(routes!(templates::render_template))
        .routes(routes!(transfer::get_message_statistics))
        .routes(routes!(transfer::record_payment))
        .routes(routes!(transfer::export_messages))
        .routes(routes!(transfer::import_messages))
        .merge(ledger::router())
        .merge(messages::router())
        .merge(portfolios::router())
        .routes(routes!(channels::create_channel, channels::list_channels))
        .routes(routes!(channels::get_channel, channels::close_channel))
        .routes(routes!(channels::add_channel_member))
        .routes(routes!(channels::remove_channel_member))
        .routes(routes!(channels::send_channel_message, channels::list_channel_messages))
        .routes(routes!(test_agent_routes))
}

/// The longest name of an agent, in bytes.
const MAX_AGENT_ID_LEN: usize = 128;

/// The agent that the path names as `name`. One that is named by an API key is known by its principal, since no key is stored
/// or shown.
pub(in crate::routes) fn check_agent_path(app: &App, name: &'static str, id: &AgentId) -> Result<AgentId, ApiError> {
    check_agent_id(app, ("path", name), id)
}

/// The same for the body or the query.
pub(in crate::routes) fn check_agent_id(
    app: &App,
    (place, name_of): (&'static str, &'static str),
    id: &AgentId,
) -> Result<AgentId, ApiError> {
    let fits = validation::has_length(id, &(1..=MAX_AGENT_ID_LEN));
    if id.trim() != id.as_str() || !fits || id.chars().any(char::is_control) {
        let message = format!("Has 1 to {MAX_AGENT_ID_LEN} characters, no control characters, no blanks around it");
        return Err(ApiError::invalid_field(vec![place.into(), name_of.into()], message, "value_error"));
    }
    let name = app.shared.keyring.name(id);
    let name = name.map_err(|alike| {
        ApiError::invalid_field(vec![place.into(), name_of.into()], alike.to_string(), "value_error")
    })?;
    Ok(name.into_owned().into())
}

/// Whether a group of routes answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceMessage)]
pub struct RouteStatus {
    /// A sentence for people.
    pub message: &'static str,
    /// Name of this service.
    pub service: &'static str,
    /// Time of the answer.
    pub timestamp: Timestamp,
}

/// Check that the group of routes answers
///
/// Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/agents/test", operation_id = "agents_test", tag = "agents", security(()),
    responses((status = 200, body = RouteStatus, description = "The routes of this group answer"))
)]
async fn test_agent_routes(State(app): State<App>) -> JsonBody<RouteStatus> {
    JsonBody(RouteStatus {
        message: "Agent routes are working",
        service: env!("CARGO_PKG_NAME"),
        timestamp: Timestamp(app.clock.now()),
    })
}
