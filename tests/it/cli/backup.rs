//! `backup` and `restore`: while everything runs, and never over what would be lost.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use am_core::crypto::sha256_hex;
use serde_json::{Value, json};

use super::{document, printed, said};
use crate::{
    harness::{ADMIN, CLIENT, MINER, Server},
    kit::{AGENTS, JsonDocument, jq},
    operation::run,
};

/// A command on the files of `dir`, with the settings that the tests' servers have.
fn on_files(dir: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let fixed = [
        ("APP_ENV", "production"),
        ("DATA_DIR", "."),
        ("ADMIN_API_KEYS", ADMIN),
        ("CLIENT_API_KEYS", CLIENT),
        ("MINER_API_KEYS", MINER),
        ("LOG_LEVEL", "error"),
    ];
    run(dir, arguments, &[&fixed, env].concat())
}

/// Weights of a policy, of which nothing but the name matters here.
fn add_weights(dir: &Path, content: &str) -> String {
    let name = format!("{}.safetensors", sha256_hex(content.as_bytes()));
    fs::create_dir_all(dir.join("policies")).unwrap();
    fs::write(dir.join("policies").join(&name), content).unwrap();
    fs::write(dir.join("policies/unfinished.partial"), "half").unwrap();
    name
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn names(server: &Server) -> Vec<String> {
    let list = server.get(&format!("{AGENTS}/workflows")).await.ok();
    list.as_array().unwrap().iter().map(|one| one.text("name").to_owned()).collect()
}

async fn make(server: &Server, name: &str) {
    let body = json!({"name": name, "steps": {"a": jq("1")}});
    let made = server.post(&format!("{AGENTS}/workflows"), body).await.ok();
    let run = server.execute(made.text("id"), json!({})).await;
    server.ended(run.text("id")).await;
}

#[tokio::test]
async fn a_backup_of_a_running_service_is_restored_and_the_audit_log_says_so() {
    let mut server = Server::builder().env("AUDIT_SEAL_SECONDS", 1).start().await;
    let dir = server.dir().to_owned();
    let weights = add_weights(&dir, "weights");
    make(&server, "before").await;
    let made = document(&on_files(&dir, &["backup", "kept"], &[]));
    make(&server, "after").await;
    let backup = dir.join("kept");
    assert_eq!((mode(&backup), mode(&backup.join("coordinator.db"))), (0o700, 0o600));
    let manifest: Value = serde_json::from_slice(&fs::read(backup.join("manifest.json")).unwrap()).unwrap();
    let files: Vec<&str> = manifest["files"].as_array().unwrap().iter().map(|file| file.text("path")).collect();
    let expected = format!("policies/{weights}");
    assert_eq!(files, ["coordinator.db", "receipt-signing-key.hex", "audit-signing-key.hex", expected.as_str()]);
    assert!(files.iter().all(|file| mode(&backup.join(file)) == 0o600));
    assert_eq!(sha256_hex(&fs::read(backup.join("manifest.json")).unwrap()), made.text("manifest_sha256"));
    assert!(said(&on_files(&dir, &["backup", "kept"], &[]), 1).contains("is a backup already"));

    // Nothing is done over a database, and never beside a process that has it open.
    assert!(said(&on_files(&dir, &["restore", "kept"], &[]), 1).contains("--force"));
    let beside = said(&on_files(&dir, &["restore", "kept", "--force"], &[]), 1);
    assert!(beside.contains("another process has"), "{beside}");
    assert_eq!(names(&server).await, ["after", "before"]);
    server.terminate();
    fs::remove_file(dir.join("policies").join(&weights)).unwrap();
    let hash = made.text("manifest_sha256");
    let restore = ["restore", "kept", "--force", "--manifest-sha256", hash, "--reason", "a test of it"];
    let restored = document(&on_files(&dir, &restore, &[]));
    assert!(restored["audit_head"].as_str().is_some_and(|head| head.starts_with("agent-management\n")), "{restored}");
    let kept = Path::new(restored["kept"][0].as_str().unwrap()).to_owned();
    assert!(dir.join(&kept).exists(), "what was replaced is kept");
    assert_eq!(fs::read_to_string(dir.join("policies").join(&weights)).unwrap(), "weights");

    let server = server.restart().await;
    assert_eq!(names(&server).await, ["before"]);
    server.get("/health/ready").await.is(200);
    make(&server, "later").await;
    let entries = document(&on_files(&dir, &["audit", "--resource", "audit_log"], &[]));
    let data = &entries[0]["event_data"];
    assert_eq!(
        (data["action"].as_str(), data["reason"].as_str()),
        (Some("restored"), Some("a test of it")),
        "{entries}"
    );
}

#[tokio::test]
async fn a_backup_makes_the_service_anew_on_another_machine() {
    let mut server = Server::start().await;
    make(&server, "kept").await;
    let key = server.get(&format!("{AGENTS}/receipts/keys")).await.ok();
    printed(&on_files(server.dir(), &["backup", "kept"], &[]), 0);
    server.terminate();
    let there = Server::builder();
    let backup = server.dir().join("kept");
    let restored = document(&on_files(there.dir(), &["restore", backup.to_str().unwrap()], &[]));
    assert_eq!((&restored["audit_head"], &restored["kept"]), (&Value::Null, &json!([])));
    let there = there.start().await;
    assert_eq!(names(&there).await, ["kept"]);
    assert_eq!(there.get(&format!("{AGENTS}/receipts/keys")).await.ok(), key);
}

#[tokio::test]
async fn a_backup_that_was_changed_is_refused_and_nothing_is_restored() {
    let server = Server::start().await;
    let weights = add_weights(server.dir(), "weights");
    make(&server, "kept").await;
    let made = document(&on_files(server.dir(), &["backup", "kept"], &[]));
    let backup = server.dir().join("kept");
    let place = tempfile::tempdir().unwrap();
    let source = backup.to_str().unwrap();
    for file in ["coordinator.db".to_owned(), "audit-signing-key.hex".to_owned(), format!("policies/{weights}")] {
        let path = backup.join(&file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, bad).unwrap();
        let words = said(&on_files(place.path(), &["restore", source], &[]), 1);
        assert!(
            words.contains(&format!("{file}: its SHA-256 is")) && words.contains("nothing was restored"),
            "{words}"
        );
        fs::write(&path, good).unwrap();
    }
    // Who changes the manifest as well is found by its hash, which was kept elsewhere.
    let manifest = backup.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"version\"", " \"version\"")).unwrap();
    let hash = made.text("manifest_sha256");
    let words = said(&on_files(place.path(), &["restore", source, "--manifest-sha256", hash], &[]), 1);
    assert!(words.contains(&format!("not {hash}")), "{words}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing was written");
}

/// A process that dies on the way leaves no backup that could be taken for one, and a restore that can be repeated.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn commands_that_die_on_the_way_do_no_harm() {
    let mut server = Server::start().await;
    let dir = server.dir().to_owned();
    make(&server, "kept").await;
    let died = on_files(&dir, &["backup", "half"], &[("FAILPOINTS", "backup.database_copied=return")]);
    assert_eq!(died.status.code(), None, "it was killed");
    assert!(dir.join("half/coordinator.db").exists());
    assert!(said(&on_files(&dir, &["restore", "half"], &[]), 1).contains("no complete backup"));
    assert!(said(&on_files(&dir, &["backup", "half"], &[]), 1).contains("is not empty"));
    printed(&on_files(&dir, &["backup", "whole"], &[]), 0);
    make(&server, "lost").await;
    server.terminate();
    let died = on_files(&dir, &["restore", "whole", "--force"], &[("FAILPOINTS", "restore.copied=return")]);
    assert_eq!(died.status.code(), None, "it was killed");
    let mut server = server.restart().await;
    assert_eq!(names(&server).await, ["lost", "kept"], "the database that was there still is");
    server.terminate();
    printed(&on_files(&dir, &["restore", "whole", "--force"], &[]), 0);
    let server = server.restart().await;
    assert_eq!(names(&server).await, ["kept"]);
}
