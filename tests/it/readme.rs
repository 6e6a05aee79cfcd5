//! What the documents say, tried: the README's tour as one bash session against the real executable, the workflows
//! that docs/API.md shows, and the links between all of them.

use std::path::Path;

use am_core::crypto::{NoteKey, NoteKeyKind, Signer};
use serde_json::{Value, json};

use crate::{
    harness::{PATIENCE, TestApp},
    kit::{JsonDocument, webhook_to_nobody},
    tour::{blocks, run_blocks},
};

const README: &str = include_str!("../../README.md");
const API: &str = include_str!("../../docs/API.md");
const DOCUMENTS: [(&str, &str); 16] = [
    ("README.md", README),
    ("CHANGELOG.md", include_str!("../../CHANGELOG.md")),
    ("docs/API.md", API),
    ("docs/ARCHITECTURE.md", include_str!("../../docs/ARCHITECTURE.md")),
    ("docs/DEPLOYMENTS.md", include_str!("../../docs/DEPLOYMENTS.md")),
    ("docs/ECONOMY.md", include_str!("../../docs/ECONOMY.md")),
    ("docs/FAILURES.md", include_str!("../../docs/FAILURES.md")),
    ("docs/GLOSSARY.md", include_str!("../../docs/GLOSSARY.md")),
    ("docs/GUIDES.md", include_str!("../../docs/GUIDES.md")),
    ("docs/OPERATIONS.md", include_str!("../../docs/OPERATIONS.md")),
    ("docs/RL.md", include_str!("../../docs/RL.md")),
    ("docs/SCALE.md", include_str!("../../docs/SCALE.md")),
    ("docs/SECURITY-FIGURES.md", include_str!("../../docs/SECURITY-FIGURES.md")),
    ("docs/SERVICES.md", include_str!("../../docs/SERVICES.md")),
    ("SECURITY.md", include_str!("../../SECURITY.md")),
    ("deploy/README.md", include_str!("../../deploy/README.md")),
];

/// Runs the blocks in one bash, then verifies the receipt with the few lines of Python in docs/API.md.
#[test]
fn readme_tour_ends_with_a_verified_receipt() {
    let tour = blocks(README, "tour");
    let section = README.split("\n## ").find(|section| section.starts_with("A tour")).unwrap();
    assert_eq!(section.matches("```sh").count(), tour.len(), "each block of the tour is tried");
    let offline = blocks(API, "receipt.py");
    let [offline] = offline.as_slice() else { panic!("docs/API.md has one way to check a receipt") };
    let verify = "python3 \"$here/receipt.py\" receipt.json \"$key\"\n\
         if python3 \"$here/receipt.py\" forged.json \"$key\"; then exit 9; fi\necho 'a forged one is refused'";
    let said = run_blocks("README.md", &tour, &[("receipt.py", &offline.code)], verify);
    assert!(said.starts_with("valid") && said.contains("a forged one is refused"), "{said}");
}

/// Runs the blocks of the deployment in one bash, with real processes.
#[test]
fn readme_deployment_is_rolled_out_undone_repaired_and_removed() {
    let walk = blocks(README, "deployment");
    let section = README.split("\n## ").find(|section| section.starts_with("A deployment")).unwrap();
    assert_eq!(section.matches("```sh").count(), walk.len(), "each block is tried");
    run_blocks("README.md", &walk, &[], "true");
}

/// Each example is a workflow's `steps`; `steps` ones are taken, `refused` ones are refused with just these words.
#[tokio::test]
async fn api_guide_step_examples_are_accepted() {
    let endpoints = json!({"llm": {"url": "http://127.0.0.1:9/v1/chat/completions", "kind": "openai"}});
    let server = TestApp::builder().env("HTTP_ENDPOINTS", endpoints).start().await;
    let (taken, refused) = (blocks(API, "steps"), blocks(API, "refused"));
    assert!(taken.len() >= 7 && refused.len() >= 5, "examples are found");
    for block in taken.iter().chain(&refused) {
        let steps: Value =
            serde_json::from_str(&block.code).unwrap_or_else(|error| panic!("docs/API.md:{}: {error}", block.line));
        let answer = server.post("/api/v1/agents/workflows", json!({"name": "example", "steps": steps})).await;
        if block.words.is_empty() {
            assert_eq!(answer.status, 200, "docs/API.md:{}: {}", block.line, answer.text);
        } else {
            assert_eq!(answer.status, 422, "docs/API.md:{}: {}", block.line, answer.text);
            assert!(answer.text.contains(&block.words), "docs/API.md:{}: {}", block.line, answer.text);
        }
    }
}

/// The README's table of actions has its examples in one line each.
#[tokio::test]
async fn readme_actions_are_accepted() {
    let endpoints = json!({"llm": {"url": "http://127.0.0.1:9/v1/chat/completions", "kind": "openai"}});
    let server = TestApp::builder().env("HTTP_ENDPOINTS", endpoints).start().await;
    let section = README.split("\n## ").find(|section| section.starts_with("What a step can do")).unwrap();
    let mut count = 0;
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let action = cells[1].trim_matches('`').replace("\\|", "|");
        let action: Value = if action == "none" { Value::Null } else { serde_json::from_str(&action).unwrap() };
        for step_type in cells[0].trim_start_matches("| ").split(", ") {
            let step = json!({"step_type": step_type.trim_matches('`'), "action": action});
            server.workflow(json!({"a": step})).await;
            count += 1;
        }
    }
    assert!(count >= 10, "{count} actions are found");
}

/// The metrics that docs/OPERATIONS.md explains are those that the service has, no more and no fewer.
#[tokio::test]
async fn operations_guide_lists_every_metric() {
    let key = Signer::from_hex(&"19".repeat(32)).unwrap().public_key().clone();
    let key = NoteKey::new("witness.example", NoteKeyKind::Cosignature, key).to_string();
    // Nobody listens at port 9.
    let witnesses = json!([{"url": "http://127.0.0.1:9/", "key": key, "allow_private": true}]).to_string();
    let server = TestApp::builder().env("WEBHOOKS", webhook_to_nobody()).env("AUDIT_WITNESSES", witnesses);
    let server = server.env("AUDIT_SEAL_SECONDS", 1).start().await;
    let made = server.post("/api/v1/agents/security/webhooks/ops/test", json!({})).await.ok();
    let delivery = format!("/api/v1/agents/security/webhooks/deliveries/{}", made.text("id"));
    let deadline = std::time::Instant::now() + PATIENCE;
    while server.get(&delivery).await.ok()["attempts"] == 0 {
        assert!(std::time::Instant::now() < deadline, "nobody was called");
        crate::harness::poll_interval().await;
    }
    // Some show nothing until there is something to count: an answer, an end, a refusal.
    let workflow = server.workflow(json!({})).await;
    server.execute(&workflow, json!({})).await;
    server.client().get(server.url("/api/v1/agents/workflows")).send().await.unwrap();
    server.post("/api/v1/services/llm/inference", json!({"model": "llama-7b", "prompt": "x"})).await.ok();
    let page = loop {
        let page = server.get("/metrics").await.text;
        if page.contains("audit_witness_submissions_total{") {
            break page;
        }
        assert!(std::time::Instant::now() < deadline, "no head was submitted");
        crate::harness::poll_interval().await;
    };
    let mut served: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let operations = DOCUMENTS.iter().find(|(name, _)| name.ends_with("OPERATIONS.md")).unwrap().1;
    let section = operations.split("\n## ").find(|section| section.starts_with("Metrics")).unwrap();
    let mut explained: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(|name| name.strip_suffix("_total").unwrap_or(name))
        .collect();
    // Nothing here can count on a write that takes so long.
    if !served.contains(&"db_long_writes") {
        served.push("db_long_writes");
    }
    served.sort_unstable();
    explained.sort_unstable();
    assert_eq!(served, explained);
}

/// Every link to a file leads to one, and every `#heading` to a heading.
#[test]
fn documentation_links_resolve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for (name, text) in DOCUMENTS {
        let folder = root.join(name).parent().unwrap().to_owned();
        let targets = text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { root.join(name) } else { folder.join(file) };
            let there = match std::fs::read_to_string(&path) {
                Ok(_) if heading.is_empty() => true,
                Ok(text) => text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading),
                Err(_) => path.is_dir(),
            };
            if !there {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A heading's anchor, as code hosts make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>().replace(' ', "-")
}
