//! `/api/v1/agents/{agent_id}/templates`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::agent;
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path,
        error::FieldError,
        idempotency::{IdempotentCreated, IdempotentOk, KeyedJson},
        openapi::IdempotencyHeader,
        page::{PageQuery, Paging},
    },
    routes::kept::kept,
};
use am_communication::{
    price::MessageType,
    templates::{Filled, NewTemplate, Template, Templates},
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = TemplateCreate,
    responses(
        (status = 201, body = Template, description = "The template"),
        (status = 400, description = "The agent has 1000 templates (`invalid_state`)"),
        (status = 409, description = "The agent has a template of this name"),
    )
)]
pub async fn create(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    request: KeyedJson<TemplateCreate>,
) -> Result<IdempotentCreated<Template>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let body = request.body;
    let new = NewTemplate {
        name: body.name,
        description: body.description.unwrap_or_default(),
        message_type: body.message_type.unwrap_or(MessageType::Text),
        content: Value::Object(body.content),
        price: body.price,
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<Template>, description = "A page of templates, the newest first"))
)]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging<50>,
) -> Result<Response, ApiError> {
    let (own, total) = app.templates.own(&agent(&app, "agent_id", &id)?, &paging.page).await?;
    let last = paging.last_of(&own).cloned();
    let next = last.as_ref().and_then(|last| Some((last.created_at?, last.template_id.as_str())));
    let first = paging.page.after.is_none() && paging.page.offset == 0;
    let mut shown = if first { Templates::defaults() } else { Vec::new() };
    shown.extend(own);
    Ok(paging.answer_bounded(&shown, Some(total.cast_unsigned()), next))
}

/// Get a template
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/templates/{template_id}", operation_id = "templates_get",
    tag = "templates", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("template_id" = String, Path, description = "Id of the template"),
    ),
    responses(
        (status = 200, body = Template, description = "The template"),
        (status = 404, description = "The agent has no template with this id"),
    )
)]
pub async fn get(
    State(app): State<App>,
    _: Admin,
    Path((id, template)): Path<(String, String)>,
) -> Result<Json<Template>, ApiError> {
    Ok(Json(app.templates.get(&agent(&app, "agent_id", &id)?, &template).await?))
}

/// Delete a template of an agent
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/templates/{template_id}", operation_id = "templates_delete",
    tag = "templates", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("template_id" = String, Path, description = "Id of the template"),
    ),
    responses(
        (status = 200, body = Template, description = "The deleted template"),
        (status = 400, description = "The template is built in (`invalid_state`)"),
        (status = 404, description = "The agent has no template with this id"),
    )
)]
pub async fn delete(
    State(app): State<App>,
    Admin(caller): Admin,
    Path((id, template)): Path<(String, String)>,
) -> Result<Json<Template>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    Ok(Json(app.templates.delete(&caller, &agent, &template).await?))
}

/// Values of a template's variables.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RenderRequest {
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("template_id" = String, Path, description = "Id of the template"),
        IdempotencyHeader,
    ),
    request_body = RenderRequest,
    responses(
        (status = 200, body = Filled, description = "The content with the variables filled in"),
        (status = 404, description = "The agent has no template with this id"),
    )
)]
pub async fn render(
    State(app): State<App>,
    _: Admin,
    Path((id, template)): Path<(String, String)>,
    request: KeyedJson<RenderRequest>,
) -> Result<IdempotentOk<Filled>, ApiError> {
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
    Ok(IdempotentOk(done.map(|()| filled)))
}
