//! `DELETE` of executions, plans, assignments and messages.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::check_agent_id;
use crate::{
    app::App,
    http::{ActingKey, AdminKey, ApiError, PathParams, QueryParams},
};
use am_audit::{AuditEntry, EventType};
use am_core::ids::{AgentId, AssignmentId, ExecutionId, MessageId, PlanId};
use am_db::{codec::Timestamp, principal::Principal};
use am_retention::RetentionKind;

/// The audit entry of a deletion.
pub fn deletion_entry(app: &App, caller: &Principal, resource: &str) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, Timestamp(app.clock.now())).of(resource, "deleted").by(caller)
}

/// Delete an execution
///
/// Only its owner may, and only once it has ended. Its steps, events, receipt, sandbox and assignments go with it. They are written
/// to an archive first, from which an operator can put them back; the audit log keeps what it tells of it.
#[utoipa::path(
    delete, path = "/api/v1/agents/executions/{execution_id}", operation_id = "executions_delete", tag = "executions",
    security(("ApiKey" = ["admin"])),
    params(("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits")),
    responses(
        (status = 204, description = "The execution is deleted"),
        (status = 404, description = "The caller has no execution of this id"),
        (status = 409, description = "The execution has not ended, or something of it is still open (`in_use`)"),
    )
)]
pub async fn delete_execution(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
) -> Result<StatusCode, ApiError> {
    let found = app.executions.get(&caller, &id).await?;
    let entry = deletion_entry(&app, &caller, "execution").execution(&id).workflow(&found.workflow_id);
    app.retention.remove(RetentionKind::Executions, "Execution", id.as_str(), entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a plan
///
/// Only its owner may, and not while it runs. Its past execution stays.
#[utoipa::path(
    delete, path = "/api/v1/agents/plans/{plan_id}", operation_id = "plans_delete", tag = "plans",
    security(("ApiKey" = ["admin"])),
    params(("plan_id" = String, Path, description = "Id of the plan: `plan_` and 12 hexadecimal digits")),
    responses(
        (status = 204, description = "The plan is deleted"),
        (status = 404, description = "The caller has no plan of this id"),
        (status = 409, description = "The plan runs (`in_use`)"),
    )
)]
pub async fn delete_plan(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<PlanId>,
) -> Result<StatusCode, ApiError> {
    app.plans.get(&caller, &id).await?;
    let entry = deletion_entry(&app, &caller, "plan").workflow(id.as_str());
    app.retention.remove(RetentionKind::Plans, "Plan", id.as_str(), entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete an assignment
///
/// Only the client may whose execution it belongs to, once both have ended.
#[utoipa::path(
    delete, path = "/api/v1/agents/plans/assignments/{assignment_id}", operation_id = "assignments_delete",
    tag = "assignments", security(("ApiKey" = ["admin"])),
    params(("assignment_id" = String, Path, description = "Id of the assignment: `assign_` and 16 hexadecimal digits")),
    responses(
        (status = 204, description = "The assignment is deleted"),
        (status = 404, description = "The caller has no assignment of this id"),
        (status = 409, description = "The assignment or its execution has not ended (`in_use`)"),
    )
)]
pub async fn delete_assignment(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AssignmentId>,
) -> Result<StatusCode, ApiError> {
    let found = app.assignments.get(&caller, &id).await?.assignment;
    if !caller.owns(&found.client_id) {
        return Err(ApiError::not_found("Assignment not found"));
    }
    let entry = deletion_entry(&app, &caller, "assignment").execution(&found.execution_id);
    let entry = entry.data("assignment_id", id.as_str().into());
    app.retention.remove(RetentionKind::Assignments, "Assignment", id.as_str(), entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whose message is deleted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MessageDeletionQuery {
    /// Agent that sent or received the message. Default: the agent that the key is bound to.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    agent_id: Option<AgentId>,
    /// Sender of the message, needed where several agents used the same id.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    sender_id: Option<AgentId>,
}

/// Delete a message
///
/// An agent may delete what it sent or received, once it is not pending any more. It is gone for both. A message that is sent
/// again under its id is then a new one.
#[utoipa::path(
    delete, path = "/api/v1/agents/messages/id/{message_id}", operation_id = "messages_delete", tag = "messages",
    security(("ApiKey" = ["admin", "agent"])),
    params(("message_id" = String, Path, description = "Id of the message"), MessageDeletionQuery),
    responses(
        (status = 204, description = "The message is deleted"),
        (status = 403, description = "Another key is bound to the agent (`forbidden`)"),
        (status = 404, description = "The agent sent and received no message with this id"),
        (status = 409, description = "The message is still to be delivered (`in_use`), or several agents sent one with this id: give `sender_id`"),
    )
)]
pub async fn delete_message(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<MessageId>,
    QueryParams(query): QueryParams<MessageDeletionQuery>,
) -> Result<StatusCode, ApiError> {
    let named = query.agent_id.map(|name| check_agent_id(&app, ("query", "agent_id"), &name)).transpose()?;
    let sender = query.sender_id.map(|name| check_agent_id(&app, ("query", "sender_id"), &name)).transpose()?;
    let Some(agent) = named.or_else(|| caller.bound_agent().cloned()) else {
        let loc = vec!["query".into(), "agent_id".into()];
        return Err(ApiError::invalid_field(loc, "Name the agent that sent or received the message", "missing"));
    };
    let caller = caller.acting_for("agent_id", &agent)?;
    let sender = sender.as_ref().map(AgentId::as_str);
    let places = app.retention.message_places(id.as_str(), agent.as_str(), sender).await?;
    let place = match places.as_slice() {
        [] => return Err(ApiError::not_found("Message not found")),
        [place] => place,
        _ => return Err(ApiError::conflict("Several agents sent a message with this id: give sender_id")),
    };
    let entry = deletion_entry(&app, &caller, "message").data("message_id", id.as_str().into());
    app.retention.remove(RetentionKind::Messages, "Message", place, entry).await?;
    Ok(StatusCode::NO_CONTENT)
}
