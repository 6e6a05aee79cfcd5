//! The OpenAPI document, by the programs that others read it with.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    coordinator::python,
    harness::{ADMIN, Server},
    kit::fixture,
};

/// The document that is committed; a test of the routes compares it with what they say.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

/// What a program of the test tools wrote, once it has succeeded.
fn run(command: &mut Command) -> String {
    let output = command.env("NO_COLOR", "1").output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed: {text}");
    text
}

#[test]
fn openapi_document_is_valid() {
    let text = run(Command::new(python()).args(["-m", "openapi_spec_validator", DOCUMENT]));
    assert!(text.trim_end().ends_with("OK"), "{text}");
}

#[test]
fn openapi_typescript_types_are_generated_without_a_warning() {
    let place = tempfile::tempdir().unwrap();
    let python = python();
    let node = python.with_file_name("node");
    let modules = python.ancestors().nth(3).unwrap().join("npm/node_modules");
    let types = place.path().join("api.ts");
    let generator = modules.join("openapi-typescript/bin/cli.js");
    let text = run(Command::new(&node).arg(generator).arg(DOCUMENT).arg("--output").arg(&types));
    assert!(!text.to_lowercase().contains("warn") && !text.contains('⚠'), "{text}");
    let written = fs::read_to_string(&types).unwrap();
    assert!(written.contains("workflows_create") && written.contains("\"Idempotency-Key\"?: string"), "{text}");
    let compiler = modules.join("typescript/bin/tsc");
    run(Command::new(&node).arg(compiler).args(["--noEmit", "--strict"]).arg(&types));
}

/// Generates the Python client below `place`.
fn generate_client(place: &Path) {
    let text = run(Command::new(python())
        .current_dir(place)
        .args(["-m", "openapi_python_client", "generate", "--path", DOCUMENT, "--meta", "none", "--fail-on-warning"])
        .args(["--output-path", "agent_management_client", "--config"])
        .arg(fixture("openapi/client.yaml")));
    assert!(!text.to_lowercase().contains("warning"), "{text}");
}

#[tokio::test]
async fn openapi_python_client_drives_the_server() {
    let place = tempfile::tempdir().unwrap();
    generate_client(place.path());
    let server = Server::start().await;
    let address = server.url("");
    let output = run(Command::new(python())
        .env("PYTHONPATH", place.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(fixture("openapi/drive.py"))
        .args([address.trim_end_matches('/'), ADMIN]));
    let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(report["result"]["step_results"]["double"], json!(42), "{report}");
    assert_eq!(report["missing"], "not_found");
    assert!(report["policy"].as_str().unwrap().starts_with("marketplace-ppo@"), "{report}");
    assert_eq!(server.get("/api/v1/agents/workflows").await.ok().as_array().unwrap().len(), 1);
}
