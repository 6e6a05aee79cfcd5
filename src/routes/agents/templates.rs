//! `/api/v1/agents/{agent_id}/templates`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::agent;
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path,
        error::FieldError,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
    routes::kept::kept,
};
use am_communication::{
    price::MessageType,
    templates::{Filled, NewTemplate, Template, Templates},
};

/// A template to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TemplateCreate {
    /// 1 to 100 characters; an agent has one of each name.
    name: String,
    /// At most 1000 characters.
    #[serde(default)]
    description: Option<String>,
    /// What messages in this form are about, default text.
    message_type: Option<MessageType>,
    /// The content, with `{{name}}` wherever something is to be filled in.
    #[schema(value_type = Object)]
    content: Map<String, Value>,
    /// What using it costs, 0 to 1000; default: what a message of its size costs.
    price: Option<f64>,
}

/// Make a template of an agent's own
///
/// Templates are stored as they are: they hold forms, not content.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/templates", tag = "agents", params(("agent_id" = String, Path)),
    request_body = TemplateCreate,
    responses((status = 201, body = Template), (status = 400), (status = 409), (status = 422))
)]
pub async fn create(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<TemplateCreate>,
) -> Result<Response, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let body = request.body;
    let new = NewTemplate {
        name: body.name,
        description: body.description.unwrap_or_default(),
        message_type: body.message_type.unwrap_or(MessageType::Text),
        content: Value::Object(body.content),
        price: body.price,
    };
    let done = app.templates.create(&(&caller.0).into(), &agent, new, request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// List the templates of an agent
///
/// The agent's own, the newest first. The first page begins with the three that everybody has (`agent_id` null), which
/// `X-Total-Count` does not count.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/templates", tag = "agents", params(("agent_id" = String, Path), PageQuery),
    responses((status = 200, body = Vec<Template>))
)]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(50)?;
    let (own, total) = app.templates.own(&agent(&app, "agent_id", &id)?, &page).await?;
    let last = own.last().filter(|_| own.len() == page.limit as usize).cloned();
    let next = last.as_ref().and_then(|last| Some((last.created_at?, last.template_id.as_str())));
    let first = page.after.is_none() && page.offset == 0;
    let mut shown = if first { Templates::defaults() } else { Vec::new() };
    shown.extend(own);
    Ok(paging.answer_bounded(&page, &shown, Some(total.cast_unsigned()), next))
}

/// A template
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/templates/{template_id}", tag = "agents",
    params(("agent_id" = String, Path), ("template_id" = String, Path)),
    responses((status = 200, body = Template), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    _: Admin,
    Path((id, template)): Path<(String, String)>,
) -> Result<Json<Template>, ApiError> {
    Ok(Json(app.templates.get(&agent(&app, "agent_id", &id)?, &template).await?))
}

/// Delete a template of an agent's own
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/templates/{template_id}", tag = "agents",
    params(("agent_id" = String, Path), ("template_id" = String, Path)),
    responses((status = 200, body = Template), (status = 400), (status = 404))
)]
pub async fn delete(
    State(app): State<App>,
    caller: Admin,
    Path((id, template)): Path<(String, String)>,
) -> Result<Json<Template>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    Ok(Json(app.templates.delete(&(&caller.0).into(), &agent, &template).await?))
}

/// What is to be filled in.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RenderRequest {
    /// A value for each variable; further ones are ignored.
    #[serde(default)]
    #[schema(value_type = Object)]
    variables: Map<String, Value>,
}

/// Fill in a template
///
/// Answers content that can be sent. A variable that has no value, or null, is named in a 422. Nothing is stored, so that a
/// repeated request is answered from the template as it is now.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/templates/{template_id}/render", tag = "agents",
    params(("agent_id" = String, Path), ("template_id" = String, Path)), request_body = RenderRequest,
    responses((status = 200, body = Filled), (status = 404), (status = 422))
)]
pub async fn render(
    State(app): State<App>,
    _: Admin,
    Path((id, template)): Path<(String, String)>,
    request: KeyedJson<RenderRequest>,
) -> Result<Replayable<Json<Filled>>, ApiError> {
    let template = app.templates.get(&agent(&app, "agent_id", &id)?, &template).await?;
    let filled = template.fill(&request.body.variables).map_err(|missing| {
        let field = |name: String| {
            let loc = vec!["body".into(), "variables".into(), name.into()];
            FieldError::new(loc, "This variable has no value", "missing")
        };
        ApiError::unprocessable(missing.into_iter().map(field).collect())
    })?;
    if !filled.fits {
        let message = format!("Gives content of {} bytes, which is too much to be sent", filled.size_bytes);
        return Err(ApiError::field(vec!["body".into(), "variables".into()], message, "value_error"));
    }
    // What was filled in is content, which is stored nowhere in the clear; only that it was asked for is.
    let done = kept(&app, request.once, ()).await?;
    Ok(Replayable(Json(filled), done.replayed))
}
