//! Calls of endpoints with a method, headers and parameters of their own.

use super::*;
use crate::kit::{AGENTS, locations};

/// An endpoint `api` with a parameter of its own, which takes two headers, and one `reader` that is read only.
fn endpoints(peer: &Peer) -> String {
    let url = format!("http://127.0.0.1:{}/json", peer.port());
    json!({
        "api": {"url": format!("{url}?token=t0ken"), "kind": "json", "headers": ["X-Tenant", "accept-language"]},
        "reader": {"url": url, "kind": "json", "methods": ["GET"]},
    })
    .to_string()
}

fn step(mut action: Value) -> Value {
    action["kind"] = "http".into();
    json!({"step_type": "custom", "max_retries": 0, "action": action})
}

#[tokio::test]
async fn a_call_has_the_method_headers_and_parameters_of_its_step() {
    let peer = Peer::start();
    let server = TestApp::builder()
        .env("HTTP_ENDPOINTS", endpoints(&peer))
        .env("HTTP_STEP_MAX_RESPONSE_BYTES", 2048)
        .start()
        .await;
    let steps = json!({
        "get": step(json!({"endpoint": "api", "method": "GET",
            "headers": {"x-tenant": "$.inputs.tenant", "Accept-Language": null},
            "query": {"q": "$.inputs.q", "tag": ["a", "b"], "page": 2, "none": null}})),
        "put": after(step(json!({"endpoint": "api", "method": "PUT", "body": {"x": "$.inputs.q"}})), &["get"]),
        "patch": after(step(json!({"endpoint": "api", "method": "PATCH"})), &["put"]),
        "delete": after(step(json!({"endpoint": "api", "method": "DELETE"})), &["patch"]),
        "post": after(step(json!({"endpoint": "api", "body": 1})), &["delete"]),
    });
    let done = run(&server, steps, json!({"tenant": "t 1", "q": "a&b c"})).await;
    completed(&done);
    let calls = peer.calls();
    let made: Vec<(&str, &str, &Value)> =
        calls.iter().map(|call| (call.method.as_str(), call.query.as_str(), &call.body)).collect();
    assert_eq!(
        made,
        [
            ("GET", "token=t0ken&page=2&q=a%26b%20c&tag=a&tag=b", &Value::Null),
            ("PUT", "token=t0ken", &json!({"x": "a&b c"})),
            ("PATCH", "token=t0ken", &json!({"x": "a&b c"})),
            ("DELETE", "token=t0ken", &Value::Null),
            ("POST", "token=t0ken", &json!(1)),
        ]
    );
    assert_eq!((calls[0].header("x-tenant"), calls[0].headers.get("content-type")), ("t 1", None));
    assert_eq!(calls[1].headers.get("x-tenant"), None);
    assert!(calls.iter().all(|call| !call.key().is_empty()), "each call can be recognised");

    // Bounds and retries are those of every call: the same key until there is an answer.
    let large = json!({"l": step(json!({"endpoint": "api", "method": "PUT", "body": {"bytes": 10_000}}))});
    has(failed_at(&run(&server, large, json!({})).await, "l"), "larger than 2048 bytes");
    let mut cut = step(json!({"endpoint": "api", "method": "DELETE", "body": {"id": "cut", "hang_up": 1}}));
    cut["max_retries"] = 2.into();
    cut["retry_policy"] = json!({"initial_seconds": 0, "max_seconds": 0, "jitter": 0});
    completed(&run(&server, json!({"c": cut}), json!({})).await);
    let keys: Vec<String> =
        peer.calls().iter().filter(|call| call.body["id"] == "cut").map(|call| call.key().to_owned()).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);

    // A value that can't be sent fails the step before anything leaves.
    let before = peer.calls().len();
    let split = json!({"s": step(json!({"endpoint": "api", "headers": {"x-tenant": "$.inputs.t"}}))});
    let bad = run(&server, split, json!({"t": "a\r\nhost: evil"})).await;
    has(failed_at(&bad, "s"), "action.headers.x-tenant");
    assert_eq!(peer.calls().len(), before);
}

#[tokio::test]
async fn what_the_configuration_does_not_allow_is_refused_with_its_place() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", endpoints(&peer)).start().await;
    for (action, place, why) in [
        (json!({"endpoint": "api", "headers": {"Authorization": "x"}}), vec!["headers", "Authorization"], "x-tenant"),
        (json!({"endpoint": "api", "headers": {"Host": "x"}}), vec!["headers", "Host"], "allows"),
        (json!({"endpoint": "reader", "method": "GET", "headers": {"cookie": "x"}}), vec!["headers", "cookie"], "none"),
        (json!({"endpoint": "api", "query": {"token": "mine"}}), vec!["query", "token"], "configuration"),
        (json!({"endpoint": "api", "query": {"q": {"a": 1}}}), vec!["query", "q"], "list"),
        (json!({"endpoint": "api", "method": "TRACE"}), vec!["method"], "PATCH"),
        (json!({"endpoint": "reader"}), vec!["method"], "GET"),
        (json!({"endpoint": "api", "method": "GET", "body": 1}), vec!["body"], "query"),
        (json!({"endpoint": "api", "header": {}}), vec!["header"], "`headers`"),
    ] {
        let draft = json!({"name": "n", "steps": {"s": step(action.clone())}});
        let refused = server.post(&format!("{AGENTS}/workflows"), draft).await.is(422);
        let expected: Vec<&str> = ["body", "steps", "s", "action"].into_iter().chain(place).collect();
        assert_eq!(locations(&refused), [json!(expected)], "{action}");
        has(refused["detail"][0].text("msg"), why);
    }
    assert_eq!(peer.calls().len(), 0);
}

#[tokio::test]
async fn a_running_step_is_held_to_the_configuration_of_the_moment() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", endpoints(&peer)).start().await;
    let first = step(json!({"endpoint": "api", "body": {"id": "first", "hold": true}}));
    let then = after(step(json!({"endpoint": "api", "method": "DELETE"})), &["first"]);
    let workflow = server.workflow(json!({"first": first, "then": then})).await;
    let id = server.execute(&workflow, json!({})).await.text("id").to_owned();
    peer.called(1).await;
    let url = format!("http://127.0.0.1:{}/json", peer.port());
    let narrowed = json!({"api": {"url": url, "kind": "json", "methods": ["POST"]}}).to_string();
    let server = server.restart_with(&[("HTTP_ENDPOINTS", &narrowed)]).await;
    peer.open();
    let ended = server.ended(&id).await;
    has(failed_at(&ended, "then"), "does not take DELETE");
    assert!(peer.calls().iter().all(|call| call.method == Method::POST));
}
