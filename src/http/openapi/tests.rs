use utoipa_axum::router::OpenApiRouter;

use super::*;
use crate::http::idempotency::IdempotencyHeader;

/// A thing.
#[utoipa::path(get, path = "/api/v1/things", responses((status = 200), (status = 403, description = "Its own word")))]
async fn thing() {}

#[utoipa::path(
    put, path = "/api/v1/admin/things", security(("ApiKey" = ["admin"])), params(IdempotencyHeader), request_body = first::State,
    responses((status = 200, description = "Done"), (status = 403, description = "Another owner's"))
)]
async fn admin() {}

#[utoipa::path(get, path = "/api/v1/open", security(()), responses((status = 200)))]
async fn open() {}

#[utoipa::path(get, path = "/health", responses((status = 200)))]
async fn health() {}

mod first {
    #[derive(utoipa::ToSchema)]
    #[expect(dead_code, reason = "the schema alone counts")]
    pub(super) struct State {
        one: bool,
    }

    #[utoipa::path(get, path = "/first", responses((status = 200, body = State)))]
    pub(super) async fn get() {}

    #[utoipa::path(get, path = "/again", responses((status = 200, body = State)))]
    pub(super) async fn again() {}
}

mod second {
    #[derive(utoipa::ToSchema)]
    #[expect(dead_code, reason = "the schema alone counts")]
    pub(super) struct State {
        two: String,
    }

    #[utoipa::path(get, path = "/second", responses((status = 200, body = State)))]
    pub(super) async fn get() {}
}

fn document() -> Value {
    let router = OpenApiRouter::<()>::new().routes(routes!(thing)).routes(routes!(admin)).routes(routes!(open));
    complete_document(router.routes(routes!(health)).into_openapi()).unwrap()
}

#[test]
fn operations_name_their_key_and_its_roles() {
    let document = document();
    assert_eq!(document["components"]["securitySchemes"]["ApiKey"]["name"], "X-Api-Key");
    let thing = &document["paths"]["/api/v1/things"]["get"];
    assert_eq!(thing["security"], json!([{"ApiKey": []}, {"Bearer": []}]));
    assert_eq!(thing["responses"]["403"]["description"], "Its own word");
    let admin = &document["paths"]["/api/v1/admin/things"]["put"];
    assert_eq!(admin["security"], json!([{"ApiKey": ["admin"]}, {"Bearer": ["admin"]}]));
    let refused = admin["responses"]["403"]["description"].as_str().unwrap();
    assert_eq!(refused, "Another owner's. Or: The key is no admin key (`insufficient_role`)");
    for open in ["/api/v1/open", "/health"] {
        let operation = &document["paths"][open]["get"];
        assert_eq!(operation["security"], json!([]), "{open}");
        assert!(operation["responses"].get("401").is_none());
    }
    assert!(document["paths"]["/api/v1/open"]["get"]["responses"].get("429").is_some());
    assert!(document["paths"]["/health"]["get"]["responses"].get("429").is_none());
}

#[test]
fn errors_have_a_body_and_responses_their_headers() {
    let document = document();
    let admin = &document["paths"]["/api/v1/admin/things"]["put"]["responses"];
    for status in ["401", "403", "413", "415", "422", "429", "503", "default"] {
        let stated = &admin[status];
        let shared = stated["$ref"].as_str().map(|reference| document.pointer(&reference[1..]).unwrap());
        let schema = &shared.unwrap_or(stated)["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/Error", "{status}");
    }
    assert!(document["components"]["schemas"]["Error"]["properties"]["request_id"].is_object());
    let names = |response: &Value| response["headers"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let responses = &document["components"]["responses"];
    assert_eq!(names(&admin["200"]), ["X-Request-Id", "Traceparent", "Idempotency-Replayed"]);
    assert_eq!(names(&responses["TooManyRequests"]), ["X-Request-Id", "Traceparent", "Retry-After"]);
    assert_eq!(names(&responses["Unauthorized"]), ["X-Request-Id", "Traceparent", "WWW-Authenticate"]);
    for name in names(&admin["200"]) {
        assert!(document["components"]["headers"][name].is_object());
    }
}

#[test]
fn two_schemas_of_one_name_are_found() {
    let same = OpenApiRouter::<()>::new().routes(routes!(first::get)).routes(routes!(first::again));
    assert_eq!(collisions(&same.into_openapi()), [""; 0]);
    let other = OpenApiRouter::<()>::new().routes(routes!(first::get)).routes(routes!(second::get));
    let document = other.into_openapi();
    assert_eq!(collisions(&document), ["State"]);
    let finished = complete_document(document).unwrap();
    let names: Vec<&String> = finished["components"]["schemas"].as_object().unwrap().keys().collect();
    assert!(names.iter().all(|name| name.chars().all(char::is_alphanumeric)), "{names:?}");
}

#[test]
fn the_page_needs_no_script_or_style_of_its_own() {
    let page = include_str!("page.html");
    assert!(!page.contains("://") && !page.contains(" style=") && !page.contains(" on"), "the policy forbids these");
    for part in page.split('"').filter_map(|part| part.strip_prefix("/docs/")) {
        assert_eq!(file(part).unwrap().status(), 200, "{part}");
    }
    assert_eq!(file("nothing.js").unwrap_err().status, 404);
}
