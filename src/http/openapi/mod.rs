//! The OpenAPI document: what all operations share is added here, once.

mod errors;
mod headers;
mod inline;
mod page;
mod registry;
mod tags;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Info, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, RefOr, Schema, Type,
        schema::{KnownFormat, SchemaFormat},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

pub use headers::{IfMatchHeader, IfNoneMatchHeader, LastEventIdHeader};
pub use page::{file, page};
pub(crate) use registry::routes;
#[cfg(test)]
pub(crate) use registry::{collisions, marked};

use super::error::{ErrorBody, FieldError};

/// The name of the security scheme of keys in their own header.
const SECURITY_SCHEME: &str = "ApiKey";
/// The name of the security scheme of keys and tokens in `Authorization`.
const BEARER_SCHEME: &str = "Bearer";

/// A file as a request's or a response's whole body.
pub struct BinaryFile;

impl PartialSchema for BinaryFile {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for BinaryFile {}

/// The document as it is served, from what the routes say of themselves. Adds title and version, the key and the errors of
/// operations that need one, the schema of errors, the headers of requests and responses, and the descriptions of tags.
///
/// # Errors
/// When the document can't be written as JSON.
pub fn complete_document(mut document: OpenApi) -> Result<Value, serde_json::Error> {
    #[cfg(test)]
    registry::unmark(&mut document);
    document.info = info();
    let components = document.components.get_or_insert_with(Components::new);
    let key =
        ApiKeyValue::with_description("X-Api-Key", "The caller's API key; its role is admin, client, miner or agent");
    components.add_security_scheme(SECURITY_SCHEME, SecurityScheme::ApiKey(ApiKey::Header(key)));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "The caller's API key, or a token that the coordinator signed (JWT, HS256), where the server has its secret",
    ));
    components.add_security_scheme(BEARER_SCHEME, SecurityScheme::Http(bearer.build()));
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    ErrorBody::schemas(&mut schemas);
    FieldError::schemas(&mut schemas);
    for (name, schema) in [(ErrorBody::name(), ErrorBody::schema()), (FieldError::name(), FieldError::schema())] {
        schemas.push((name.into_owned(), schema));
    }
    components.schemas.extend(schemas);
    let mut document = serde_json::to_value(document)?;
    document["components"]["headers"] = headers::components();
    document["components"]["responses"] = errors::components();
    document["tags"] = tags::described();
    document["servers"] = json!([{"url": "/", "description": "The service that serves this document"}]);
    inline::scalars(&mut document);
    inline::named_alternatives(&mut document);
    inline::join_lines(&mut document);
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                complete(operation, path.starts_with("/api/"));
            }
        }
    }
    Ok(document)
}

fn info() -> Info {
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0"));
    InfoBuilder::new()
        .title("agent-management")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "AI agent management for the AITBC marketplace: durable agent workflows, agents and their messages, GPU jobs, \
             reinforcement learning, and the security of all of it.\n\n\
             Every path below `/api/v1/agents` is also answered below `/v1/agents` and `/api/v1/agent`; such aliases are no \
             operations of their own.\n\n\
             Costs, prices and budgets are amounts of AITBC tokens, as JSON numbers. Times are RFC 3339, in UTC, with six \
             decimals of a second. A member whose description says nothing of null is null where it has no value.",
        ))
        .license(Some(license.build()))
        .build()
}

/// Adds to an operation what it shares with others: the errors, their schema, the headers.
fn complete(operation: &mut Map<String, Value>, limited: bool) {
    let any_key = || json!([{SECURITY_SCHEME: []}]);
    let stated = operation.get("security").cloned();
    let security = stated.unwrap_or_else(|| if limited { any_key() } else { json!([]) });
    let roles = security[0][SECURITY_SCHEME].as_array().cloned();
    // An empty list says: without any key. Keys may come in either header.
    let both = |roles: &Vec<Value>| json!([{SECURITY_SCHEME: roles}, {BEARER_SCHEME: roles}]);
    operation.insert("security".to_owned(), roles.as_ref().map_or_else(|| json!([]), both));
    errors::add(operation, roles.as_deref(), limited);
    if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
        responses.sort_keys();
    }
    headers::declare(operation);
}
