//! What is taken and what is refused, and by which schema.

use reqwest::Method;
use serde_json::{Value, json};

use super::{SERVICES, good, submit};
use crate::{
    harness::{MINER, TestApp},
    jobs::queue,
    kit::{JsonDocument, ask, get_as, locations, operations, post_as},
    marketplace::MARKET,
};

#[tokio::test]
async fn services_and_schemas_need_no_key() {
    let server = TestApp::start().await;
    let open = async |path: &str| ask(&server, None, Method::GET, path, None).await;
    let list = open(SERVICES).await.ok();
    let services = list["services"].as_array().unwrap();
    assert_eq!(services.len(), 5, "{list}");
    for service in services {
        let schema = open(service.text("schema")).await.ok();
        jsonschema::meta::validate(&schema).unwrap();
        assert_eq!(schema["type"], "object");
        // What a good request has is good by the schema too, and each route is there.
        for endpoint in service["endpoints"].as_array().unwrap() {
            let (path, body) = good(endpoint.as_str().unwrap());
            assert!(jsonschema::is_valid(&schema, &body), "{path}");
            post_as(&server, crate::harness::CLIENT, &path, body).await.ok();
        }
    }
    open(&format!("{SERVICES}/tea/schema")).await.is(422);
    let document = open("/openapi.json").await.ok();
    let generic = &document["paths"]["/api/v1/services/{service_type}"]["post"];
    assert_eq!(generic["deprecated"], true);
    let shown = &document["components"]["schemas"]["LlmRequest"]["properties"]["max_tokens"];
    assert_eq!((&shown["maximum"], &shown["default"]), (&json!(4096), &json!(256)), "{shown}");
}

#[tokio::test]
async fn service_schemas_agree_with_validation() {
    let server = TestApp::start().await;
    let mut verdicts = [0, 0];
    let values = [
        json!(null),
        json!(-1),
        json!(0),
        json!(1),
        json!(2.0),
        json!(0.5),
        json!(41),
        json!(5000),
        json!(1e9),
        json!("x"),
        json!("medium"),
        json!("512x512"),
        json!(true),
        json!([]),
        json!([1]),
        json!(["x"]),
        json!({}),
        json!("x".repeat(10_001)),
    ];
    for (method, template) in operations(&server.get("/openapi.json").await.ok()) {
        let is_of_miners = template.starts_with(SERVICES) && !template.starts_with(MARKET);
        if method != Method::POST || !is_of_miners || template.contains("{service_type}") {
            continue;
        }
        let (path, body) = good(&template);
        let service = match template.split('/').nth(4).unwrap() {
            "stable-diffusion" => "stable_diffusion",
            "llm" => "llm_inference",
            other => other,
        };
        let schema = server.get(&format!("{SERVICES}/{service}/schema")).await.ok();
        let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        // Each member with a few of the values, another few for each.
        for (at, name) in names.iter().enumerate() {
            for turn in 0..5 {
                let mut changed = body.clone();
                changed[name.as_str()] = values[(at * 7 + turn * 4) % values.len()].clone();
                let fits = jsonschema::is_valid(&schema, &changed);
                let answer = post_as(&server, crate::harness::CLIENT, &path, changed.clone()).await;
                let taken = answer.status.is_success();
                // Addresses and arguments have rules that no schema can say, and so has the order of frames.
                let beyond = name.ends_with("_url") || matches!(name.as_str(), "custom_args" | "frame_start" | "lora");
                assert!(
                    taken == fits || (fits && beyond),
                    "{path} {name} = {}: {}",
                    changed[name.as_str()],
                    answer.text
                );
                assert!(taken || answer.status == 422, "{}", answer.text);
                verdicts[usize::from(taken)] += 1;
            }
        }
    }
    assert!(verdicts[0] > 100 && verdicts[1] > 50, "{verdicts:?}");
}

#[tokio::test]
async fn unsafe_job_requests_are_refused() {
    let server = TestApp::start().await;
    let refused = async |path: &str, body: Value| locations(&submit(&server, path, body).await.is(422));
    let audio = |url: &str| json!({"audio_url": url});
    for url in [
        "ftp://example.com/a",
        "file:///etc/passwd",
        "https://user:secret@example.com/a",
        "https://localhost/a",
        "http://10.1.2.3/a",
        "http://[::1]/a",
        "http://169.254.169.254/latest/meta-data",
        "http://0x7f.1/",
        "https://coordinator/a",
    ] {
        assert_eq!(refused("/whisper/transcribe", audio(url)).await, [json!(["body", "audio_url"])], "{url}");
    }
    let video = |arguments: Value| json!({"input_url": "https://example.com/a", "custom_args": arguments});
    assert_eq!(
        refused("/ffmpeg/transcode", video(json!(["-an", "-i", "/etc/passwd"]))).await,
        [json!(["body", "custom_args", 1]), json!(["body", "custom_args", 2])]
    );
    let scene = json!({"blend_file_url": "https://example.com/a", "custom_args": ["-t", "4", "--python-expr", "1"]});
    let faults = submit(&server, "/blender/render", scene.clone()).await.is(422);
    assert!(faults["detail"][0].text("msg").contains("--python-expr"), "{faults}");
    assert_eq!(submit(&server, "/blender", scene).await.status, 422, "the generic route checks the same");
    assert_eq!(
        refused("/llm/inference", json!({})).await,
        [json!(["body", "model"]), json!(["body", "prompt"])],
        "all at once"
    );
    submit(&server, "/tea", json!({})).await.is(422);
    for (query, name) in [
        ("max_price=-1", "max_price"),
        ("max_price=x", "max_price"),
        ("deadline=tomorrow", "deadline"),
        ("deadline=2020-01-01T00:00:00Z", "deadline"),
        ("wait=-1", "wait"),
    ] {
        let (_, body) = good("/api/v1/services/llm/inference");
        assert_eq!(refused(&format!("/llm/inference?{query}"), body).await, [json!(["query", name])], "{query}");
    }
    assert!(queue(&server).await.is_empty(), "nothing was put into the queue");
    let (path, body) = good("/api/v1/services/llm/inference");
    post_as(&server, MINER, &path, body).await.is(403);
    get_as(&server, MINER, &format!("{SERVICES}/jobs")).await.is(403);
    let private = server.restart_with(&[("SERVICE_PRIVATE_ADDRESSES", "true")]).await;
    submit(&private, "/whisper/transcribe", audio("http://10.1.2.3/a")).await.is(201);
    submit(&private, "/whisper/transcribe", audio("file:///etc/passwd")).await.is(422);
}

#[tokio::test]
async fn job_steps_have_the_limits_of_client_requests() {
    let server = TestApp::start().await;
    let step = json!({"step_type": "inference", "max_retries": 0, "action": {"kind": "job", "service": "ffmpeg",
        "request": {"input_url": "https://example.com/a", "custom_args": "$.inputs.args"}}});
    let workflow = server.workflow(json!({"j": step})).await;
    let run = server.execute(&workflow, json!({"args": ["-i", "/etc/passwd"]})).await;
    let failed = server.ended(run.text("id")).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed.text("error_message").contains("custom_args.0"), "{failed}");
    for (member, value) in [
        ("input_url", json!(["file:///etc/passwd"])),
        ("input_url", json!("file:///etc/passwd")),
        ("resolution", json!("1x1 -i /etc/passwd")),
        ("output_format", json!("mp4 -y /tmp/x")),
        ("codec", json!({"-i": "/etc/passwd"})),
    ] {
        let mut request = json!({"input_url": "https://example.com/a"});
        request[member] = "$.inputs.it".into();
        let step = json!({"step_type": "inference", "max_retries": 0,
            "action": {"kind": "job", "service": "ffmpeg", "request": request}});
        let workflow = server.workflow(json!({"j": step})).await;
        let run = server.execute(&workflow, json!({"it": value})).await;
        let failed = server.ended(run.text("id")).await;
        assert!(failed.text("error_message").contains(member), "{member}: {failed}");
    }
    assert!(queue(&server).await.is_empty());
}
