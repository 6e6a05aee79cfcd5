//! The OpenAPI document: what every operation shares is added here once, and the page that shows it.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Content, InfoBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema, SecurityRequirement,
        path::{Operation, PathItem},
        security::{ApiKey, ApiKeyValue, SecurityScheme},
    },
};

use super::error::{ErrorBody, FieldError};

/// The page that shows the document; it needs nothing from elsewhere.
pub const PAGE: &str = include_str!("docs.html");

/// The name of the security scheme.
const SCHEME: &str = "ApiKey";

/// The errors that any operation of the API may answer, beside its own.
const ERRORS: [(&str, &str); 5] = [
    ("401", "No API key, or an unknown one"),
    ("403", "The key does not allow it, or another owner's"),
    ("422", "The request does not validate"),
    ("429", "Too many requests; see Retry-After"),
    ("default", "Any other error"),
];

/// What the page may load and do: itself, and requests to this service.
pub static PAGE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let within = |tag: &str| {
        let start = PAGE.find(&format!("<{tag}>")).map_or(0, |at| at + tag.len() + 2);
        let end = PAGE.find(&format!("</{tag}>")).unwrap_or(start);
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(&PAGE[start..end])))
    };
    format!(
        "default-src 'none'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; \
         script-src {}; style-src {}",
        within("script"),
        within("style")
    )
});

/// Adds what all operations share: title and version, the key that those under `/api/` need, the shape of errors.
pub fn finish(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("agent-management")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("AI agent management for the AITBC marketplace. Every path under /api/v1/agents is also answered under /v1/agents and /api/v1/agent."))
        .build();
    let components = document.components.get_or_insert_with(Components::new);
    let key = ApiKeyValue::with_description("X-Api-Key", "The caller's key");
    components.add_security_scheme(SCHEME, SecurityScheme::ApiKey(ApiKey::Header(key)));
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    ErrorBody::schemas(&mut schemas);
    for (name, schema) in [(ErrorBody::name(), ErrorBody::schema()), (FieldError::name(), FieldError::schema())] {
        schemas.push((name.into_owned(), schema));
    }
    components.schemas.extend(schemas);
    for (path, item) in &mut document.paths.paths {
        let guarded = path.starts_with("/api/");
        for operation in operations(item) {
            if guarded {
                guard(operation);
            } else {
                // An empty list says: without any.
                operation.security = Some(Vec::new());
            }
        }
    }
    document
}

fn guard(operation: &mut Operation) {
    operation.security.get_or_insert_with(|| vec![SecurityRequirement::new(SCHEME, Vec::<String>::new())]);
    for (status, meaning) in ERRORS {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(error(meaning)));
    }
}

fn error(meaning: &str) -> Response {
    let body = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
    ResponseBuilder::new().description(meaning).content("application/json", body).build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use utoipa_axum::{router::OpenApiRouter, routes};

    use super::*;

    /// One thing.
    #[utoipa::path(get, path = "/api/v1/things", responses((status = 200), (status = 403, description = "Its own word")))]
    async fn thing() {}

    #[utoipa::path(get, path = "/health", responses((status = 200)))]
    async fn health() {}

    #[test]
    fn the_api_needs_a_key_and_nothing_else_does() {
        let (_, document) = OpenApiRouter::<()>::new().routes(routes!(thing)).routes(routes!(health)).split_for_parts();
        let document: Value = serde_json::to_value(finish(document)).unwrap();
        let thing = &document["paths"]["/api/v1/things"]["get"];
        assert_eq!(thing["security"][0]["ApiKey"], Value::Array(vec![]));
        assert_eq!(document["paths"]["/health"]["get"]["security"], Value::Array(vec![]));
        assert_eq!(document["components"]["securitySchemes"]["ApiKey"]["name"], "X-Api-Key");
        let schema = &thing["responses"]["422"]["content"]["application/json"]["schema"]["$ref"];
        let name = schema.as_str().unwrap().rsplit('/').next().unwrap();
        assert!(document["components"]["schemas"][name]["properties"]["request_id"].is_object(), "{document:#}");
        assert_eq!(thing["responses"]["403"]["description"], "Its own word");
        assert!(document["paths"]["/health"]["get"]["responses"].get("401").is_none());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::to_value(finish(OpenApiRouter::<()>::new().into_openapi())).unwrap();
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
                    }
                    members.values().for_each(|member| walk(member, document));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, document)),
                _ => {}
            }
        }
        walk(&document, &document);
    }

    #[test]
    fn the_page_stands_alone() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "the page loads something from elsewhere");
        assert!(!PAGE.contains(" style=\"") && !PAGE.contains(" onclick=\""), "the policy forbids these");
        assert_eq!(PAGE.matches("<script>").count(), 1);
        assert_eq!(PAGE.matches("<style>").count(), 1);
        assert!(PAGE_POLICY.contains("script-src 'sha256-"));
    }
}
