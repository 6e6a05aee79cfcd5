//! The coordinator hands every kind of job to a miner, unchanged.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{SERVICES, get, submit};
use crate::{
    agents::conforms,
    coordinator::python,
    harness::Server,
    jobs::queue,
    kit::{JsonDocument, fixture, json_fixture, sql},
};

/// Local time nine hours ahead of UTC's, so that the two can't be taken for each other.
const ZONE: &str = "XST-9";

/// A miner that can do all that the fixture's can't, and one that a name as `any` would not help.
const MINERS: &str = "INSERT INTO miner (id, region, capabilities, concurrency, status, inflight, extra_metadata, last_heartbeat, \
     jobs_completed, jobs_failed, total_job_duration_ms, average_job_duration_ms) VALUES
     ('miner-2', 'us', '{\"gpus\": [{\"name\": \"nvidia\", \"memory_mb\": 81920}], \"models\": [\"llm\", \"stable-diffusion\", \"ffmpeg\", \"blender\"], \"cuda\": \"11.8, 12.4\"}',
      1, 'ONLINE', 0, '{}', '2026-05-12 15:32:30.132465', 0, 0, 0, 0.0),
     ('miner-3', 'us', '{\"gpus\": [], \"models\": [\"ffmpeg\", \"blender\"], \"price\": 5}',
      1, 'ONLINE', 0, '{}', '2026-05-12 15:32:30.132465', 0, 0, 0, 0.0)";

/// Route, request, what a miner must have, time to live, and members that the miner's request has besides.
fn orders() -> Vec<(&'static str, Value, Value, i64, Value)> {
    let nvidia = |models: &str, gb: u32| json!({"models": [models], "gpu": "nvidia", "min_vram_gb": gb});
    let cuda = |models: &str, gb: u32| json!({"models": [models], "gpu": "nvidia", "cuda": "11.8", "min_vram_gb": gb});
    let audio = |model: &str| json!({"audio_url": "https://example.com/a.wav", "model": model});
    let image = |model: &str| json!({"prompt": "☃", "model": model});
    let llm = |model: &str| json!({"model": model, "prompt": "naïve ✓"});
    let video = |codec: &str| json!({"input_url": "ipfs://bafyx/a.mkv", "codec": codec});
    let scene = |engine: &str, more: Value| {
        let mut scene = json!({"blend_file_url": "http://example.com/a.blend", "engine": engine});
        scene.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        scene
    };
    vec![
        ("/whisper/transcribe", audio("tiny"), nvidia("whisper", 1), 900, json!({"task": "transcribe", "best_of": 5})),
        ("/whisper/translate", audio("large-v3"), nvidia("whisper", 10), 900, json!({"task": "translate"})),
        (
            "/stable-diffusion/generate",
            image("stable-diffusion-2.1"),
            cuda("stable-diffusion", 4),
            600,
            json!({"size": "512x512"}),
        ),
        (
            "/stable-diffusion/img2img",
            image("sdxl-turbo"),
            cuda("stable-diffusion", 8),
            600,
            json!({"mode": "img2img"}),
        ),
        ("/llm/inference", llm("llama-70b"), cuda("llm", 64), 300, json!({"stream": false, "max_tokens": 256})),
        ("/llm/stream", llm("codellama-34b"), cuda("llm", 32), 300, json!({"stream": true})),
        (
            "/ffmpeg/transcode",
            video("h265"),
            nvidia("ffmpeg", 4),
            1800,
            json!({"preset": "medium", "audio_codec": "aac"}),
        ),
        ("/ffmpeg/transcode", video("av1"), json!({"models": ["ffmpeg"]}), 1800, json!({"crf": 23})),
        (
            "/blender/render",
            scene("cycles", json!({"samples": 1000, "frame_end": 40})),
            nvidia("blender", 19),
            1200,
            json!({"format": "png"}),
        ),
        (
            "/blender/render",
            scene("eevee", json!({})),
            json!({"models": ["blender"], "min_vram_gb": 4}),
            600,
            json!({"samples": 128}),
        ),
        ("/whisper", audio("small"), nvidia("whisper", 2), 900, json!({"fp16": true})),
        (
            "/llm_inference?max_price=1.5",
            llm("mistral-7b"),
            {
                let mut needs = cuda("llm", 8);
                needs["max_price"] = json!(1.5);
                needs
            },
            900,
            json!({"top_k": 40}),
        ),
    ]
}

#[tokio::test]
async fn coordinator_hands_every_job_kind_to_its_miners() {
    let contract = json_fixture("contract/openapi.json");
    let mut server = Server::builder()
        .database(&fixture("coordinator/coordinator.sqlite"))
        .env("TZ", ZONE)
        .env("SERVICE_CONSTRAINTS", "strict")
        .start()
        .await;
    sql(&server.database(), MINERS).await;
    let mut made = Vec::new();
    for (path, body, ..) in orders() {
        let answer = submit(&server, path, body).await;
        let template = format!("{SERVICES}{}", path.split('?').next().unwrap());
        let known = contract["paths"].get(&template).is_some();
        conforms(&contract, "post", if known { &template } else { "/api/v1/services/{service_type}" }, &answer);
        let deprecated = !known;
        assert_eq!(answer.header("x-deprecated"), if deprecated { "true" } else { "" }, "{path}");
        assert_eq!(!answer.header("x-deprecation-message").is_empty(), deprecated, "{path}");
        made.push(answer.ok());
    }
    let rows = queue(&server).await;
    for ((path, body, needs, ttl, more), job) in orders().into_iter().zip(&made) {
        let row = rows.iter().find(|row| row["id"] == job["job_id"]).unwrap();
        let parsed = |column: &str| serde_json::from_str::<Value>(row[column].as_str().unwrap()).unwrap();
        assert_eq!((&row["state"], &parsed("constraints")), (&json!("QUEUED"), &needs), "{path}");
        assert_eq!(row["ttl_seconds"], ttl, "{path}");
        let payload = parsed("payload");
        assert_eq!(payload["service_type"], job["service_type"], "{path}");
        for (name, value) in body.as_object().unwrap().iter().chain(more.as_object().unwrap()) {
            assert_eq!(&payload["service_request"][name], value, "{name} of {path}");
        }
        let moment = |column: &str| {
            chrono::NaiveDateTime::parse_from_str(row[column].as_str().unwrap(), "%Y-%m-%d %H:%M:%S%.6f").unwrap()
        };
        assert_eq!((moment("expires_at") - moment("requested_at")).num_seconds(), ttl, "{path}");
        let told: chrono::DateTime<chrono::Utc> = job.text("requested_at").parse().unwrap();
        assert_eq!((moment("requested_at") - told.naive_utc()).num_seconds(), 9 * 3600, "in this table time is local");
        assert!(row.text("client_id").starts_with("key_"), "a principal and no key: {row}");
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/services/coordinator.py");
    let mut command = Command::new("python3");
    command.arg(program).arg(server.database()).arg(made.len().to_string()).env("TZ", ZONE).stdin(Stdio::null());
    let played = tokio::task::spawn_blocking(move || command.output().unwrap());
    for ((path, ..), job) in orders().into_iter().zip(&made) {
        let id = job.text("job_id");
        let done = get(&server, &format!("/jobs/{id}?wait=25")).await.ok();
        assert_eq!(done["status"], "COMPLETED", "{path}: {done}");
        assert_eq!(done["result"]["service"], job["service_type"], "{path}");
        assert_eq!((&done["result"]["by"], &done["receipt"]["price"]), (&done["miner"], &json!(0.25)), "{path}");
        assert_eq!(done["result"]["request"], done["request"], "what the miner read is what was asked: {path}");
    }
    let said = String::from_utf8(played.await.unwrap().stdout).unwrap();
    let taken: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    // The order of the queue, as far as a miner was there for each.
    let asked: Vec<&str> = made.iter().map(|job| job.text("job_id")).collect();
    assert_eq!(taken, asked, "{said}");
    assert!(said.contains(" miner-1") && said.contains(" miner-2"), "{said}");
    assert!(server.terminate().success());
    let check = Command::new(python()).arg(fixture("coordinator/readback.py")).arg(server.database()).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && said.contains(" 0 faults"), "{said}{}", String::from_utf8_lossy(&check.stderr));
}
