//! The keys of agents over HTTP, and the commands for them.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::{command, get, keyed, post, told};
use crate::{
    harness::{ADMIN, TestApp},
    kit::{AGENTS, JsonDocument, json_fixture, locations},
    operation::run_with,
};

#[tokio::test]
async fn agent_keys_are_registered_listed_and_revoked() {
    let server = TestApp::start().await;
    let mut made = Vec::new();
    for name in ["first", "second", "third"] {
        let key: Value = serde_json::from_str(&command(server.dir(), &["agent-key", "new", name], "")).unwrap();
        made.push(post(&server, "bob", "keys", key).await.is(201)["key_id"].clone());
    }
    let page = get(&server, "bob", "keys?limit=2").await;
    assert_eq!(page.header("x-total-count"), "3");
    assert!(page.header("link").contains("rel=\"next\""));
    let listed: Vec<&Value> = page.body.as_array().unwrap().iter().map(|key| &key["key_id"]).collect();
    assert_eq!(listed, [&made[2], &made[1]], "the newest first");
    let third = made[2].as_str().unwrap();
    let revoked = server.delete(&format!("{AGENTS}/bob/keys/{third}")).await.ok();
    assert!(revoked["revoked_at"].is_string());
    assert_eq!(server.delete(&format!("{AGENTS}/bob/keys/{third}")).await.ok(), revoked, "once more changes nothing");
    server.delete(&format!("{AGENTS}/alice/keys/{third}")).await.is(404);
    let again = json!({"kind": "x25519", "public_key": page.body[0]["public_key"]});
    assert_eq!(post(&server, "bob", "keys", again).await.is(400)["code"], "invalid_state");
    assert_eq!(told(&server, "agent_key").await, ["revoked", "registered", "registered", "registered"]);

    let all = json_fixture("envelopes/envelopes.json");
    for bad in [
        json!({"kind": "x25519", "public_key": "AAAA"}),
        json!({"kind": "rsa", "public_key": all["rsa_1024"]}),
        json!({"kind": "rsa", "public_key": all["hpke"]["public_key"]}),
    ] {
        let refused = post(&server, "bob", "keys", bad).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", "public_key"])]);
    }
    let refused = post(&server, "bob", "keys", json!({"kind": "dsa", "public_key": "AAAA"})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "kind"])]);
    post(&server, &"x".repeat(129), "keys", json!({"kind": "x25519", "public_key": "AAAA"})).await.is(422);
}

#[tokio::test]
async fn agent_keys_of_an_api_key_belong_to_its_principal() {
    let server = TestApp::start().await;
    let key: Value = serde_json::from_str(&command(server.dir(), &["agent-key", "new", "k"], "")).unwrap();
    post(&server, ADMIN, "keys", key).await.is(201);
    let added = post(&server, ADMIN, "contacts", json!({"contact_id": ADMIN})).await.is(422);
    assert!(!added.to_string().contains(ADMIN));
    let added = post(&server, ADMIN, "contacts", json!({"contact_id": "b"})).await.is(201);
    assert!(added.text("agent_id").starts_with("key_"), "{added}");
    let principal = added.text("agent_id");
    assert_eq!(get(&server, principal, "keys").await.header("x-total-count"), "1");
    assert_eq!(get(&server, principal, "contacts").await.header("x-total-count"), "1");
}

#[tokio::test]
async fn key_commands_protect_secret_files() {
    let server = TestApp::start().await;
    let public = keyed(&server, "bob").await;
    let file = server.dir().join("bob");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let again: Value = serde_json::from_str(&command(server.dir(), &["agent-key", "public", "bob"], "")).unwrap();
    assert_eq!(again, public);
    let secret = std::fs::read_to_string(&file).unwrap();
    // In base64url a key may begin with a dash, and is no option for that.
    let to = "-G8HL7k3GAlWLUWQm4mI99k4SluEae1F3CDkZfWGgVM";
    let seal = ["agent-key", "seal", "--to", to, "--sender", "ada", "--recipient", "bob"];
    let sealed: Value = serde_json::from_str(&command(server.dir(), &seal, "{}")).unwrap();
    assert!(sealed["content"]["hpke"]["ciphertext"].is_string(), "{sealed}");
    let refused = run_with(server.dir(), &["agent-key", "new", "bob"], &[], "");
    assert!(!refused.status.success() && std::fs::read_to_string(&file).unwrap() == secret, "what is there stays");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run_with(server.dir(), &["agent-key", "public", "bob"], &[], "");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("0644") && !said.contains(secret.trim()), "{said}");
    for stdin in ["", "no json", "{}", "[]"] {
        let refused = run_with(server.dir(), &["agent-key", "open", "bob"], &[], stdin);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0), "{stdin}");
    }
    let master = command(server.dir(), &["message-keys", "new", "2027"], "");
    assert!(master.starts_with("2027:") && master.len() == 5 + 44, "{}", master.len());
    assert_ne!(master, command(server.dir(), &["message-keys", "new", "2027"], ""));
    assert!(!run_with(server.dir(), &["message-keys", "new", "a b"], &[], "").status.success());
}
