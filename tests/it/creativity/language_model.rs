//! Ideas that a language model writes: a server with the chat completions of OpenAI's API, as a script has it answer.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, http::HeaderMap, response::IntoResponse as _, routing::post};
use reqwest::StatusCode;

use super::*;
use crate::{harness::TestApp, portfolio::text_of};

/// What the server has been asked, and what it answers next.
#[derive(Clone, Default)]
struct Script {
    asked: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    answers: Arc<Mutex<Vec<(u16, String)>>>,
}

async fn complete(State(script): State<Script>, headers: HeaderMap, body: String) -> axum::response::Response {
    script.asked.lock().unwrap().push((headers, serde_json::from_str(&body).unwrap()));
    let next = script.answers.lock().unwrap().pop();
    match next {
        Some((status, text)) => (StatusCode::from_u16(status).unwrap(), text).into_response(),
        // No answer at all.
        None => std::future::pending().await,
    }
}

/// Start it; answers its address up to `/v1`.
async fn start(script: &Script) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(script.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/v1")
}

fn chat(content: &str) -> String {
    json!({"id": "c1", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})
        .to_string()
}

#[tokio::test]
async fn ideas_of_a_language_model_are_judged_like_others() {
    let script = Script::default();
    let url = start(&script).await;
    let server = TestApp::builder()
        .env("CREATIVITY_LLM_URL", url)
        .env("CREATIVITY_LLM_KEY", "key-of-the-model")
        .env("CREATIVITY_LLM_MODEL", "tiny-1")
        .env("CREATIVITY_LLM_SECONDS", 1)
        .env("CREATIVITY_LLM_PRIVATE_ADDRESSES", true)
        .start()
        .await;
    let path = format!("{CREATIVITY}/ideation/generate");
    let lines = "1. Hang the drum on magnets\n2. Hang the drum on magnets!\n- Wash with sound instead of motion\n3) Line the case with cork";
    script.answers.lock().unwrap().push((200, chat(lines)));
    let found = server.post(&path, body_of("", "generate")).await.ok();
    assert_eq!((&found["source"], &found["model"]), (&json!("language_model"), &json!("tiny-1")), "{found}");
    let made = found["ideas"].as_array().unwrap();
    assert_eq!((made.len(), &found["duplicates"]), (3, &json!(1)), "{found}");
    assert!(
        made.iter().all(|idea| idea["novelty"].is_number() && idea["lineage"]["source"] == "language_model"),
        "{found}"
    );
    {
        let asked = script.asked.lock().unwrap();
        let (headers, body) = &asked[0];
        assert_eq!(headers["authorization"], "Bearer key-of-the-model");
        assert_eq!(body["model"], "tiny-1");
        assert!(body["messages"][1]["content"].as_str().unwrap().contains("washing machine"), "{body}");
    }
    let entries = "SELECT count(*) || '' FROM agent_audit_logs WHERE event_data LIKE '%\"generated\"%' AND event_data LIKE '%\"ideas\"%'";
    assert_eq!(text_of(&server, entries).await, "1");
    for answer in [
        (500, "out of order".to_owned()),
        (200, "no JSON".to_owned()),
        (200, chat(" \n---\n")),
        (200, json!({"choices": []}).to_string()),
    ] {
        script.answers.lock().unwrap().push(answer.clone());
        let told = server.post(&path, body_of("", "generate")).await.is(503);
        assert!(told.text("detail").contains("the language model"), "{answer:?}: {told}");
    }
    let told = server.post(&path, body_of("", "generate")).await.is(503);
    assert!(told.text("detail").contains("in time"), "{told}");
    assert_eq!(text_of(&server, entries).await, "1", "nothing is stored of what failed");
    let mut body = body_of("", "generate");
    body["language_model"] = json!(false);
    assert_eq!(server.post(&path, body).await.ok()["source"], "template");
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("creativity_llm_failures_total 5"), "{metrics}");
}

#[tokio::test]
async fn an_address_inside_the_network_is_not_asked() {
    let refused = TestApp::builder().env("CREATIVITY_LLM_URL", "http://127.0.0.1:1/v1").refusal();
    assert!(
        refused.contains("CREATIVITY_LLM_URL") && refused.contains("CREATIVITY_LLM_PRIVATE_ADDRESSES"),
        "{refused}"
    );
}
