//! `verify-proof` as others use it: the executable alone, with files that a service gave out.

use std::{fs, path::Path, process::Output};

use am_core::crypto::Signer;
use serde_json::{Value, json};

use super::{ZK, asked, completed, some_proof, zero_knowledge::proved};
use crate::{
    cli::{document, printed, said},
    harness::TestApp,
    kit::{AGENTS, JsonDocument as _, jq},
    operation::{run, run_with},
};

fn put(folder: &Path, name: &str, value: &Value) {
    fs::write(folder.join(name), value.to_string()).unwrap();
}

/// What the command says of files that are not valid, whose faults it names, and whose refusal is its exit status.
#[track_caller]
fn refused(output: &Output) -> Value {
    assert!(said(output, 1).contains("the proof is not valid"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], false);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_proof_says_which_parts_hold() {
    let server = TestApp::start().await;
    super::put_keys(&server, "openings-v1-2x1");
    let execution = completed(&server, json!({"a": jq("1"), "b": jq("2")}), json!({})).await;
    let proof = proved(&server, &execution).await;
    let export = server.get(&format!("{ZK}/{execution}/proofs/0")).await.ok();
    let key = server.get(&format!("{AGENTS}/receipts/keys")).await.ok()["keys"][0].text("public_key_hex").to_owned();

    // Nothing of the service is there any more: no database, no settings.
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let verify = |files: &[&str]| run(folder, &[&["verify-proof"], files].concat(), &[]);
    put(folder, "document.json", &proof);
    put(folder, "export.json", &export);
    let report = document(&verify(&["document.json", "export.json", "--public-key", &key]));
    assert_eq!((&report["valid"], &report["refused"]), (&json!(true), &json!([])), "{report}");
    // The signature, the statement, two steps, the proof, and what it is about.
    assert_eq!(report["verified"].as_array().unwrap().len(), 6, "{report}");
    assert!(report["not_verified"].to_string().contains("keys were made honestly"), "{report}");
    // Without a key nobody can tell who signed, and the command says so.
    let report = document(&verify(&["document.json"]));
    assert!(report["not_verified"].to_string().contains("public key is needed"), "{report}");
    let stranger = Signer::from_hex(&"11".repeat(32)).unwrap().public_key().to_hex();
    let report = refused(&verify(&["document.json", "--public-key", &stranger]));
    assert!(report["refused"][0].as_str().unwrap().contains("the signature of its statement"), "{report}");

    let mut altered = proof.clone();
    altered["verification_results"][1]["inclusion"]["leaf"]["output_sha256"] = json!("00");
    put(folder, "altered.json", &altered);
    let report = refused(&verify(&["altered.json", "export.json", "--public-key", &key]));
    assert!(report["refused"][0].as_str().unwrap().contains("step b is in the receipt"), "{report}");
    assert!(report["verified"].to_string().contains("step a is in the receipt"), "the others hold: {report}");

    for (name, member) in [("proof.json", "proof"), ("public.json", "public"), ("key.json", "verification_key")] {
        put(folder, name, &export[member]);
    }
    assert_eq!(document(&verify(&["key.json", "proof.json", "public.json"]))["valid"], true);
    let piped = run_with(folder, &["verify-proof", "key.json", "-", "public.json"], &[], &export["proof"].to_string());
    assert_eq!(document(&piped)["valid"], true);
    let mut signals = export["public"].clone();
    signals[1] = json!("5");
    put(folder, "other.json", &signals);
    refused(&verify(&["key.json", "proof.json", "other.json"]));
    // The proof of other keys, and of another circuit.
    let (proof, public) = some_proof();
    put(folder, "proof.json", &proof);
    put(folder, "public.json", &public);
    let report = refused(&verify(&["key.json", "proof.json", "public.json"]));
    assert!(report["refused"].to_string().contains("public signals"), "{report}");
}

#[tokio::test]
async fn verify_proof_refuses_what_is_no_proof() {
    let server = TestApp::start().await;
    let execution = completed(&server, json!({"a": jq("1")}), json!({})).await;
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "document.json", &asked(&server, &execution, "basic").await);
    put(dir.path(), "proof.json", &some_proof().0);
    put(dir.path(), "any.json", &json!({"a": 1}));
    let verify = |files: &[&str]| run(dir.path(), &[&["verify-proof"], files].concat(), &[]);
    assert!(said(&verify(&["any.json"]), 1).contains("any.json: it is no proof"));
    assert!(said(&verify(&["proof.json"]), 1).contains("needed together"));
    assert!(said(&verify(&["nowhere.json"]), 1).contains("nowhere.json"));
    assert!(said(&verify(&["proof.json", "proof.json"]), 1).contains("another file of this kind"));
    assert_eq!(verify(&["document.json", "--public-key", "no key"]).status.code(), Some(1));
    assert_eq!(verify(&[]).status.code(), Some(2));
    assert!(printed(&verify(&["--help"]), 0).contains("verify-proof document.json export.json"));
}
