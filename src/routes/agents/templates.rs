//! `/api/v1/agents/{agent_id}/templates`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::check_agent_path;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams,
        error::FieldError,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
    routes::recorded_response::record_response,
};
use am_communication::{
    price::{MAX_CONTENT_BYTES, MessageType},
    templates::{FillError, FilledTemplate, MessageTemplate, NewTemplate, TemplateService},
};
use am_core::{
    ids::{AgentId, TemplateId},
    money::Money,
};

/// A template to create.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TemplateCreate {
    /// Name, 1 to 100 characters, unique among the agent's templates.
    name: String,
    /// Description, at most 1000 characters. Default: empty.
    #[serde(default)]
    description: Option<String>,
    /// Type of the messages. Default `text`.
    message_type: Option<MessageType>,
    /// Content, with `{{name}}` wherever the variable `name` is filled in.
    #[schema(value_type = Object)]
    content: Map<String, Value>,
    /// Price of a message of this template, in AITBC tokens, 0 to 1000. Default: the price of a message of its size
    /// and type.
    price: Option<f64>,
}

/// Create a template of an agent
///
/// Templates are stored in the clear.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/templates", operation_id = "templates_create", tag = "templates",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = TemplateCreate,
    responses(
        (status = 201, body = MessageTemplate, description = "The template"),
        (status = 400, description = "The agent has 1000 templates (`invalid_state`)"),
        (status = 409, description = "The agent has a template of this name"),
    )
)]
pub async fn create_template(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<TemplateCreate>,
) -> Result<IdempotentCreated<MessageTemplate>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let body = request.body;
    let new = NewTemplate {
        name: body.name,
        description: body.description.unwrap_or_default(),
        message_type: body.message_type.unwrap_or(MessageType::Text),
        content: Value::Object(body.content),
        price: body.price.map(Money::from_f64),
    };
    Ok(IdempotentCreated(app.templates.create(&caller, &agent, new, request.once).await?))
}

/// List the templates of an agent
///
/// The agent's own, the newest first. The first page begins with the three built-in ones (`agent_id` null), which
/// `X-Total-Count` does not count.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/templates", operation_id = "templates_list", tag = "templates",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<MessageTemplate>, description = "A page of templates, the newest first"))
)]
pub async fn list_templates(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let (own, total) = app.templates.own(&check_agent_path(&app, "agent_id", &id)?, &paging.page).await?;
    let last = paging.last_of(&own).cloned();
    let next = last.as_ref().and_then(|last| Some((last.created_at?, last.template_id.as_str())));
    let first = paging.page.after.is_none() && paging.page.offset == 0;
    let mut shown = if first { TemplateService::built_in() } else { Vec::new() };
    shown.extend(own);
    Ok(paging.respond_partial(&shown, Some(total.cast_unsigned()), next))
}

/// Get a template
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/templates/{template_id}", operation_id = "templates_get",
    tag = "templates", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("template_id" = String, Path, description = "Id of the template"),
    ),
    responses(
        (status = 200, body = MessageTemplate, description = "The template"),
        (status = 404, description = "The agent has no template with this id"),
    )
)]
pub async fn get_template(
    State(app): State<App>,
    _: AdminKey,
    PathParams((id, template)): PathParams<(AgentId, TemplateId)>,
) -> Result<JsonBody<MessageTemplate>, ApiError> {
    Ok(JsonBody(app.templates.get(&check_agent_path(&app, "agent_id", &id)?, &template).await?))
}

/// Delete a template of an agent
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/templates/{template_id}", operation_id = "templates_delete",
    tag = "templates", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("template_id" = String, Path, description = "Id of the template"),
    ),
    responses(
        (status = 200, body = MessageTemplate, description = "The deleted template"),
        (status = 400, description = "The template is built in (`invalid_state`)"),
        (status = 404, description = "The agent has no template with this id"),
    )
)]
pub async fn delete_template(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams((id, template)): PathParams<(AgentId, TemplateId)>,
) -> Result<JsonBody<MessageTemplate>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    Ok(JsonBody(app.templates.delete(&caller, &agent, &template).await?))
}

/// Values of a template's variables.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RenderTemplateRequest {
    /// Value of each variable by name; others are ignored.
    #[serde(default)]
    #[schema(value_type = Object)]
    variables: Map<String, Value>,
}

/// Render a template
///
/// Answers content that can be sent. A variable without a value is named in a 422. Nothing is stored: a repeated
/// request renders the template as it is then.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/templates/{template_id}/render", operation_id = "templates_render",
    tag = "templates", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("template_id" = String, Path, description = "Id of the template"),
        IdempotencyHeader,
    ),
    request_body = RenderTemplateRequest,
    responses(
        (status = 200, body = FilledTemplate, description = "The content with the variables filled in"),
        (status = 404, description = "The agent has no template with this id"),
    )
)]
pub async fn render_template(
    State(app): State<App>,
    _: AdminKey,
    PathParams((id, template)): PathParams<(AgentId, TemplateId)>,
    request: IdempotentJson<RenderTemplateRequest>,
) -> Result<IdempotentOk<FilledTemplate>, ApiError> {
    let template = app.templates.get(&check_agent_path(&app, "agent_id", &id)?, &template).await?;
    let too_large = |size: String| {
        let message = format!("Gives content of {size}, which is too much to be sent");
        ApiError::invalid_field(vec!["body".into(), "variables".into()], message, "value_error")
    };
    let filled = template.fill(&request.body.variables).map_err(|error| match error {
        FillError::Missing(names) => {
            let field = |name: String| {
                let loc = vec!["body".into(), "variables".into(), name.into()];
                FieldError::new(loc, "This variable has no value", "missing")
            };
            ApiError::unprocessable(names.into_iter().map(field).collect())
        }
        FillError::TooLarge(_) => too_large(format!("over {MAX_CONTENT_BYTES} bytes")),
    })?;
    if !filled.fits {
        return Err(too_large(format!("{} bytes", filled.size_bytes)));
    }
    // What was filled in is content, which is stored nowhere in the clear; only that it was asked for is.
    let done = record_response(&app, request.once, ()).await?;
    Ok(IdempotentOk(done.map(|()| filled)))
}
