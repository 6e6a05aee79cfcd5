//! Errors as clients see them.

use serde_json::{Value, json};

use super::*;

fn body(error: &ApiError) -> Value {
    serde_json::from_slice(&error.body("r1")).unwrap()
}

#[test]
fn a_body_has_detail_code_and_request_id() {
    let error = ApiError::not_found("No such workflow");
    assert_eq!(body(&error), json!({"detail": "No such workflow", "code": "not_found", "request_id": "r1"}));
}

#[test]
fn fields_are_named_as_the_monolith_does() {
    let loc = vec!["body".into(), "steps".into(), 3.into(), "name".to_owned().into()];
    let error = ApiError::invalid_field(loc, "Field required", "missing");
    assert_eq!(error.status, 422);
    let field = json!({"loc": ["body", "steps", 3, "name"], "msg": "Field required", "type": "missing"});
    assert_eq!(body(&error)["detail"], json!([field]));
}

#[test]
fn an_internal_error_shows_nothing_and_remembers_everything() {
    let inner = std::io::Error::other("disk on fire");
    let error = ApiError::internal(ApiError::conflict("outer").caused_by(inner));
    assert!(!String::from_utf8(error.body("r1")).unwrap().contains("fire"));
    assert_eq!(error.causes().unwrap(), "409 conflict: outer: disk on fire");
    let told = ApiError { detail: ErrorDetail::Text("secret".into()), ..error };
    assert_eq!(body(&told)["detail"], "Internal server error");
}

#[test]
fn rendering_adds_the_headers_that_go_with_a_status() {
    let mut response = Response::new(Body::empty());
    ApiError::too_many(Duration::from_millis(1200)).render(&mut response, "r");
    assert_eq!(response.headers()["retry-after"], "2");
    ApiError::unavailable("busy", Duration::ZERO).render(&mut response, "r");
    assert_eq!(response.headers()["retry-after"], "1");
    ApiError::unauthorized("no key").render(&mut response, "r");
    assert_eq!(response.headers()["www-authenticate"], "ApiKey");
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[test]
fn the_database_says_what_a_client_can_do_about_it() {
    let told = |error| {
        let error = ApiError::from(error);
        (error.status.as_u16(), error.code, error.retry_after.is_some())
    };
    assert_eq!(told(am_db::DatabaseError::Busy), (503, "database_busy", true));
    assert_eq!(told(am_db::DatabaseError::TimedOut), (503, "database_timeout", true));
    assert_eq!(told(am_db::DatabaseError::DiskFull), (503, "storage_full", true));
    assert_eq!(told(am_db::DatabaseError::WriterStopped), (503, "unavailable", true));
    assert_eq!(told(am_db::DatabaseError::IdempotencyKeyReused), (422, "idempotency_key_reused", false));
    assert_eq!(told(am_db::DatabaseError::Duplicate("x".into())), (409, "conflict", false));
    assert_eq!(told(am_db::DatabaseError::WritePanicked), (500, "internal", false));
}

#[test]
fn an_error_is_small_enough_to_travel_in_a_result() {
    assert!(size_of::<ApiError>() <= 128, "{}", size_of::<ApiError>());
}
