//! The whole HTTP layer on a toy router.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use super::toy_service::{ADMIN, CLIENT, MINER, ToyService, ask};
use crate::http::metrics;
use am_core::config::AppEnvironment;

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn every_error_has_the_one_shape() {
    let service = ToyService::new(|config| config.request_timeout = Duration::from_millis(20));
    let table = [
        ("/api/v1/agents/things/404", 404, "not_found"),
        ("/api/v1/agents/things/500", 500, "internal"),
        ("/api/v1/agents/things/503", 503, "unavailable"),
        ("/api/v1/agents/things/504", 504, "timeout"),
        ("/api/v1/agents/things/x", 422, "validation_error"),
        ("/api/v1/agents/things/%00", 422, "validation_error"),
        ("/api/v1/agents/things/%ff", 422, "validation_error"),
        ("/api/v1/agents/things?limit=0", 422, "validation_error"),
        ("/api/v1/agents/things?is_public=false", 500, "internal"),
        ("/api/v1/agents/nothing", 404, "not_found"),
        ("/nothing", 404, "not_found"),
        ("/api/v1/services/llm", 405, "method_not_allowed"),
    ];
    for (uri, status, code) in table {
        let answer = service.get(uri).await;
        assert_eq!(answer.refusal(), refusal(status, code), "{uri}");
        assert!(!answer.text.contains("secret") && !answer.text.contains("panic"), "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(service.get("/api/v1/agents/things/503").await.header("retry-after"), "3");
    assert_eq!(service.get("/api/v1/services/llm").await.header("allow"), "POST");
    assert_eq!(service.get("/api/v1/agents/things/x").await.json()["detail"][0]["loc"], json!(["path", "number"]));
    assert_eq!(
        service.get("/api/v1/agents/things?limit=0").await.json()["detail"][0]["loc"],
        json!(["query", "limit"])
    );
    assert_eq!(service.shared.metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn keys_open_what_their_role_may() {
    let service = ToyService::new(|_| {});
    let table = [
        ("GET", "/api/v1/agents/things", Some(ADMIN), 200),
        ("GET", "/api/v1/agents/things", Some(CLIENT), 403),
        ("GET", "/api/v1/agents/things", Some(MINER), 403),
        ("GET", "/api/v1/agents/things", Some("wrong-key-0123456789abcdef"), 401),
        ("GET", "/api/v1/agents/things", None, 401),
        ("POST", "/api/v1/services/llm", Some(ADMIN), 200),
        ("POST", "/api/v1/services/llm", Some(CLIENT), 200),
        ("POST", "/api/v1/services/llm", Some(MINER), 403),
        ("POST", "/api/v1/services/llm", None, 401),
        ("GET", "/api/v1/agents/things/1", Some(MINER), 200),
        ("GET", "/api/v1/agents/things/1", None, 401),
    ];
    for (method, uri, key, status) in table {
        let answer = service.send(ask(method, uri, key, "")).await;
        assert_eq!(answer.status, status, "{method} {uri} {key:?}");
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), "ApiKey");
            assert_eq!(answer.refusal().1, "unauthorized");
        }
        assert!(!format!("{:?}{}", answer.headers, answer.text).contains("0123456789abcdef"), "{}", answer.text);
    }
    let created = service.send(ask("POST", "/api/v1/agents/things", Some(ADMIN), r#"{"name": "x"}"#)).await;
    assert_eq!(created.json()["owner"], am_db::owner::PrincipalName::from_api_key(ADMIN).as_str());
    let dev = ToyService::new(|config| config.environment = AppEnvironment::Dev);
    let created = dev.send(ask("POST", "/api/v1/agents/things", None, r#"{"name": "x"}"#)).await;
    assert_eq!(created.json()["owner"], "dev_key");
}

#[tokio::test]
async fn bodies_are_checked_before_a_handler_sees_them() {
    let service = ToyService::new(|_| {});
    let send = async |kind: Option<&str>, body: String| {
        let mut request = Request::post("/api/v1/agents/things").header("x-api-key", ADMIN);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        service.send(request.body(Body::from(body)).unwrap()).await
    };
    let good = r#"{"name": "x", "size": 3}"#;
    for kind in [None, Some("application/json"), Some("application/vnd.x+json; charset=utf-8")] {
        let answer = send(kind, good.to_owned()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["size"]), (200, &json!(3)));
    }
    assert_eq!(send(Some("text/plain"), good.to_owned()).await.refusal(), refusal(415, "unsupported_media_type"));
    let large = format!(r#"{{"name": "{}"}}"#, "x".repeat(1000));
    assert_eq!(send(None, large).await.refusal(), refusal(413, "body_too_large"));
    for bad in [
        r#"{"name": 5}"#,
        r#"{"name": "x", "priority": "high"}"#,
        "{",
        r#"{"name": "\u0000"}"#,
        r#"{"name": "\ud800"}"#,
        "",
    ] {
        assert_eq!(send(Some("application/json"), bad.to_owned()).await.refusal(), refusal(422, "validation_error"));
    }
    let missing = send(None, "{}".to_owned()).await.json();
    let field = json!({"loc": ["body", "name"], "msg": "Field required", "type": "missing"});
    assert_eq!(missing["detail"], json!([field]));
}

#[tokio::test]
async fn ids_go_in_and_out() {
    let service = ToyService::new(|_| {});
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut request = ask("GET", "/api/v1/agents/things/404", Some(ADMIN), "");
    request.headers_mut().insert("x-request-id", "mine-1".parse().unwrap());
    request.headers_mut().insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap());
    let answer = service.send(request).await;
    assert_eq!(answer.json()["request_id"], "mine-1");
    assert!(answer.header("traceparent").starts_with(&format!("00-{trace}-")));
    assert!(!answer.header("traceparent").contains("00f067aa0ba902b7"));
    let (one, other) = (service.get("/health").await, service.get("/health").await);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test]
async fn aliases_reach_the_same_handlers() {
    let service = ToyService::new(|_| {});
    for uri in ["/v1/agents/things", "/api/v1/agent/things", "/api/v1/agents/things/", "/v1/agents/things/?is_public=1"]
    {
        let answer = service.get(uri).await;
        assert_eq!(answer.status, 200, "{uri}");
        assert_eq!(answer.header("x-total-count"), "5");
        let path = uri.split('?').next().unwrap();
        assert!(answer.header("link").contains(&format!("<{path}?")), "{}", answer.header("link"));
    }
    assert_eq!(service.send(ask("POST", "/v1/services/llm", Some(CLIENT), "")).await.text, "llm");
    for uri in ["/health", "/v1/health", "/api/v1/health", "/api/v1/health/"] {
        assert_eq!(service.get(uri).await.json()["service"], "agent-management", "{uri}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_never_by_path() {
    let service = ToyService::new(|_| {});
    for uri in
        ["/api/v1/agents/things/1", "/v1/agents/things/2", "/api/v1/agents/things/404", "/nowhere/7", "/nowhere/8"]
    {
        service.get(uri).await;
    }
    service.send(ask("GET", "/api/v1/agents/things", None, "")).await;
    let page = service.get("/metrics").await;
    assert_eq!(page.header("content-type"), metrics::METRICS_CONTENT_TYPE);
    for line in [
        r#"http_requests_total{method="GET",route="/api/v1/agents/things/{number}",status="200"} 2"#,
        r#"http_requests_total{method="GET",route="/api/v1/agents/things/{number}",status="404"} 1"#,
        r#"http_requests_total{method="GET",route="unmatched",status="404"} 2"#,
        r#"http_request_duration_seconds_count{route="/api/v1/agents/things/{number}"} 3"#,
        r#"http_refused_total{code="unauthorized"} 1"#,
        "http_requests_in_flight 1",
    ] {
        assert!(page.text.lines().any(|found| found == line), "{line} is not in\n{}", page.text);
    }
    assert!(!page.text.contains("nowhere"));
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted_too() {
    let service = ToyService::new(|_| {});
    let waiting = service.send(ask("GET", "/api/v1/agents/things/504", Some(ADMIN), ""));
    assert!(futures_util::FutureExt::now_or_never(waiting).is_none());
    assert_eq!(service.shared.metrics.in_flight.get(), 0);
    assert!(service.get("/metrics").await.text.contains(r#"status="499"} 1"#));
}

#[tokio::test]
async fn limits_are_per_key_and_spare_the_probes() {
    let service = ToyService::new(|config| config.rate_limit_requests = 2);
    let status = async |key| service.send(ask("GET", "/api/v1/agents/things/1", key, "")).await;
    assert_eq!(status(Some(ADMIN)).await.status, 200);
    assert_eq!(status(Some(ADMIN)).await.status, 200);
    let refused = status(Some(ADMIN)).await;
    assert_eq!(refused.refusal(), refusal(429, "rate_limited"));
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(status(Some(MINER)).await.status, 200);
    for _ in 0..5 {
        assert_eq!(service.get("/health").await.status, 200);
    }
    assert_eq!(status(None).await.status, 401);
    assert_eq!(status(Some("guess-1")).await.status, 401);
    assert_eq!(status(Some("guess-2")).await.status, 429, "guesses share the limit of their address");
}

#[tokio::test]
async fn browsers_of_configured_origins_may_ask() {
    let service = ToyService::new(|config| config.cors_origins = vec!["https://console.example".to_owned()]);
    let mut preflight = ask("OPTIONS", "/v1/agents/things", None, "");
    for (name, value) in [
        ("origin", "https://console.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key,idempotency-key"),
    ] {
        preflight.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = service.send(preflight).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://console.example");
    assert!(answer.header("access-control-allow-headers").contains("idempotency-key"));
    let from = async |origin: &str| {
        let mut request = ask("GET", "/api/v1/agents/things/404", Some(ADMIN), "");
        request.headers_mut().insert("origin", origin.parse().unwrap());
        service.send(request).await
    };
    let answer = from("https://console.example").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (404, "https://console.example")
    );
    assert!(answer.header("access-control-expose-headers").contains("x-total-count"));
    assert!(!from("https://evil.example").await.headers.contains_key("access-control-allow-origin"));
    assert!(!ToyService::new(|_| {}).get("/health").await.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn the_document_lists_every_operation_with_its_key() {
    let service = ToyService::new(|_| {});
    let answer = service.send(ask("GET", "/openapi.json", None, "")).await;
    let document = answer.json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 10, "{:?}", paths.keys());
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let guarded = operation["security"].as_array().is_some_and(|list| !list.is_empty());
            assert_eq!(guarded, path.starts_with("/api/"), "{method} {path}");
        }
    }
    let page = service.send(ask("GET", "/docs", None, "")).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert!(page.text.contains("<title>"));
    let root = service.send(ask("GET", "/", None, "")).await;
    assert_eq!((root.status.as_u16(), root.header("location")), (307, "/docs"));
}

#[tokio::test]
async fn readiness_ends_when_a_stop_begins() {
    let service = ToyService::new(|_| {});
    let ready = service.send(ask("GET", "/health/ready", None, "")).await;
    assert_eq!(
        (ready.status.as_u16(), ready.json()),
        (200, json!({"status": "ready", "checks": [{"name": "database", "ok": true}]}))
    );
    service.shared.readiness.stop();
    let stopping = service.send(ask("GET", "/health/ready", None, "")).await;
    assert_eq!((stopping.status.as_u16(), &stopping.json()["status"]), (503, &json!("stopping")));
    assert_eq!(service.send(ask("GET", "/health/live", None, "")).await.status, 200);
}

#[tokio::test]
async fn a_guarded_request_knows_its_key_and_caller() {
    let service = ToyService::new(|_| {});
    let send = async |key: Option<&str>, body: &str| {
        let mut request = ask("POST", "/v1/agents/once?wait=2", Some(ADMIN), body);
        if let Some(key) = key {
            request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        }
        service.send(request).await
    };
    assert_eq!(send(Some("k-1"), r#"{"name": "x"}"#).await.json(), json!({"key": "k-1", "same": true, "body": true}));
    assert_eq!(send(None, "").await.json(), json!({"key": null, "same": null, "body": false}));
    let refused = send(Some("k 1"), "").await;
    assert_eq!(refused.json()["detail"][0]["loc"], json!(["header", "Idempotency-Key"]));
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let service = ToyService::new(|_| {});
    let answer = service.send(ask("HEAD", "/health", None, "")).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    assert!(answer.header("content-length").parse::<usize>().unwrap() > 0);
    let mut service = service.service.clone();
    assert!(service.ready().await.unwrap().call(ask("HEAD", "/nothing", None, "")).await.unwrap().status() == 404);
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Page {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_request_is_one_line_and_each_fault_is_told_once() {
    let service = ToyService::new(|_| {});
    let page = Page::default();
    let writer = page.clone();
    // While there is one subscriber alone, what it is asked for depends on the thread that comes first: another test's.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    service.get("/v1/agents/things/7?token=hidden").await;
    let failed = service.get("/api/v1/agents/things/500").await;
    service.send(ask("GET", "/api/v1/agents/things/7", Some("wrong-key-0123456789abcdef"), "")).await;
    drop(guard);
    let text = String::from_utf8(page.0.lock().clone()).unwrap();
    assert!(!text.contains("0123456789abcdef") && !text.contains("hidden"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines.iter().all(|line| line["target"] == "request"));
    let first = &lines[0]["fields"];
    assert_eq!(first["route"], "/api/v1/agents/things/{number}");
    assert_eq!((&first["method"], &first["path"]), (&json!("GET"), &Value::Null));
    assert_eq!((&first["status"], &first["bytes"]), (&json!(200), &json!(1)));
    assert_eq!(first["principal"], am_db::owner::PrincipalName::from_api_key(ADMIN).as_str());
    assert_eq!(first["trace_id"], first["request_id"]);
    assert!(first["ms"].as_f64().unwrap() >= 0.0);
    assert_eq!((&lines[1]["level"], &lines[1]["fields"]["cause"]), (&json!("ERROR"), &json!("the secret inside")));
    assert_eq!(lines[1]["fields"]["request_id"], failed.header("x-request-id"));
    assert_eq!(lines[2]["fields"]["status"], 500);
    assert_eq!(lines[3]["fields"]["principal"], Value::Null);
}
