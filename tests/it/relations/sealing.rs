//! What is written stays between those it is for: in the file, on the way, and when somebody changes it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::{command, keyed, opened, try_send};
use crate::{
    harness::{ApiClient, MESSAGE_KEY, Server, TestApp},
    kit::{AGENTS, JsonDocument, locations, sql},
    messages::{MESSAGES, inbox, send},
};

/// Does anything in the server's directory, but what agents keep for themselves, hold these bytes?
fn found(server: &ApiClient, words: &str) -> Vec<String> {
    let mut folders = vec![server.dir().to_owned()];
    let mut holding = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(words.len()).any(|window| window == words.as_bytes()) {
                holding.push(path.display().to_string());
            }
        }
    }
    holding
}

#[tokio::test]
async fn sealed_message_is_opened_by_its_recipient_only() {
    let server = TestApp::start().await;
    let key = keyed(&server, "bob").await;
    keyed(&server, "eve").await;
    let seal = |content: &Value| {
        let to = ["agent-key", "seal", "--to", key.text("public_key"), "--sender", "alice", "--recipient", "bob"];
        serde_json::from_str::<Value>(&command(server.dir(), &to, &content.to_string())).unwrap()
    };
    let content = json!({"task": "count the tomatoes of tuesday", "budget": 1.5});
    let message = seal(&content);
    let receipt = server.post(&format!("{MESSAGES}/send"), message.clone()).await.ok();
    let got = [&receipt["scope"], &receipt["encryption"], &receipt["key_id"], &receipt["encrypted"]];
    assert_eq!(got, [&json!("end_to_end"), &json!("hpke"), &key["key_id"], &json!(true)]);
    let came = inbox(&server, "bob", "").await;
    assert_eq!(came[0]["content"], message["content"], "it is forwarded as it came");
    assert_eq!(opened(&server, "bob", &came[0]), content);
    let whole = server.get(&format!("{MESSAGES}/inbox?agent_id=bob")).await.ok();
    let lines = command(server.dir(), &["agent-key", "open", "bob"], &whole.to_string());
    assert_eq!(serde_json::from_str::<Value>(&lines).unwrap()["content"], content);
    // Neither another's key nor another place opens it.
    for (who, change) in
        [("eve", json!({})), ("bob", json!({"message_id": "other"})), ("bob", json!({"sender": "mallory"}))]
    {
        let mut changed = came[0].clone();
        change.as_object().unwrap().iter().for_each(|(name, value)| changed[name] = value.clone());
        let tried = crate::operation::run_with(server.dir(), &["agent-key", "open", who], &[], &changed.to_string());
        assert!(!tried.status.success() && tried.stdout.is_empty(), "{who} {change}");
    }
    assert_eq!(found(&server, "tomatoes of tuesday"), Vec::<String>::new());
    assert!(!server.log().contains("tomatoes"));
    // What can't be for bob is refused where it is wrong.
    let mut bad = seal(&content);
    bad["content"]["hpke"]["key_id"] = json!("0".repeat(32));
    let refused = server.post(&format!("{MESSAGES}/send"), bad).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "content", "hpke", "key_id"])]);
    let mut bad = seal(&content);
    bad["content"]["hpke"]["enc"] = json!("AAAA");
    let refused = server.post(&format!("{MESSAGES}/send"), bad).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "content", "hpke", "enc"])]);
    // Without the id that it is bound to nobody could open it, nor could one of several.
    let mut unnamed = seal(&content);
    unnamed.as_object_mut().unwrap().remove("message_id");
    let refused = server.post(&format!("{MESSAGES}/send"), unnamed).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "message_id"])]);
    let mut several = seal(&content);
    several.as_object_mut().unwrap().remove("recipient");
    let refused = server.post(&format!("{MESSAGES}/broadcast"), several).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "content"])]);
    let mut late = seal(&content);
    server.delete(&format!("{AGENTS}/bob/keys/{}", key.text("key_id"))).await.ok();
    late["message_id"] = json!("late");
    server.post(&format!("{MESSAGES}/send"), late).await.is(422);
}

#[tokio::test]
async fn message_content_is_stored_encrypted() {
    let mut server = Server::start().await;
    keyed(&server, "bob").await;
    let words = "parsley of wednesday";
    let content = json!({"note": words});
    let sealed = send(&server, "alice", "bob", content.clone()).await;
    assert_eq!((&sealed["scope"], &sealed["encryption"]), (&json!("sealed_on_arrival"), &json!("hpke")));
    let at_rest = send(&server, "alice", "carol", content.clone()).await;
    assert_eq!((&at_rest["scope"], &at_rest["encryption"]), (&json!("at_rest"), &json!("aes256")));
    let body = json!({"sender": "bob", "content": content});
    server.post(&format!("{MESSAGES}/broadcast"), body).await.ok();
    assert_eq!(inbox(&server, "carol", "").await[0]["content"], content);
    let came = inbox(&server, "bob", "").await;
    assert!(!came[0].to_string().contains(words));
    assert_eq!(opened(&server, "bob", &came[0]), content);
    assert_eq!(found(&server, words), Vec::<String>::new(), "while it runs");
    server.terminate();
    assert_eq!(found(&server, words), Vec::<String>::new(), "and after");
    assert!(!server.log().contains(words));
    // What looks for it would find it.
    std::fs::write(server.dir().join("sample"), format!("the {words}!")).unwrap();
    assert_eq!(found(&server, words).len(), 1);
}

#[tokio::test]
async fn plaintext_messages_are_refused_unless_allowed() {
    let server = TestApp::start().await;
    let refused = try_send(&server, "a", "b", json!({"encryption": "none"})).await.is(403);
    assert_eq!(refused["code"], "plaintext_not_allowed");
    let asked = try_send(&server, "a", "b", json!({"encrypt": false})).await.ok();
    assert_eq!((&asked["encrypted"], &asked["scope"]), (&json!(true), &json!("at_rest")));
    for kind in ["hpke", "rsa", "hybrid"] {
        let refused = try_send(&server, "a", "b", json!({"encryption": kind})).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", "encryption"])], "{kind}");
    }
    let server = server.restart_with(&[("MESSAGES_ALLOW_PLAINTEXT", "true")]).await;
    for more in [json!({"encryption": "none"}), json!({"encrypt": false})] {
        let clear = try_send(&server, "a", "b", more).await.ok();
        assert_eq!(
            (&clear["encrypted"], &clear["encryption"], &clear["scope"]),
            (&json!(false), &json!("none"), &json!("none"))
        );
    }
    assert_eq!(try_send(&server, "a", "b", json!({})).await.ok()["scope"], "at_rest");
    assert!(inbox(&server, "b", "").await.iter().all(|message| message["content"] == json!({"x": 1})));
}

#[tokio::test]
async fn rsa_recipients_get_rsa_envelopes() {
    let server = TestApp::start().await;
    let all = crate::kit::json_fixture("envelopes/envelopes.json");
    let key = json!({"kind": "rsa", "public_key": all["rsa"]["pem"]});
    let key = super::post(&server, "old", "keys", key).await.is(201);
    let hybrid = try_send(&server, "a", "old", json!({"content": {"x": "y".repeat(500)}})).await.ok();
    assert_eq!(
        (&hybrid["encryption"], &hybrid["scope"], &hybrid["key_id"]),
        (&json!("hybrid"), &json!("sealed_on_arrival"), &key["key_id"])
    );
    assert_eq!(try_send(&server, "a", "old", json!({"encryption": "rsa"})).await.ok()["encryption"], "rsa");
    let long =
        try_send(&server, "a", "old", json!({"encryption": "rsa", "content": {"x": "y".repeat(500)}})).await.is(422);
    assert_eq!(locations(&long), [json!(["body", "content"])]);
    let own = json!({"content": all["rsa"]["hybrid"], "message_id": "m1"});
    let own = try_send(&server, "a", "old", own).await.ok();
    assert_eq!((&own["encryption"], &own["scope"]), (&json!("hybrid"), &json!("end_to_end")));
}

#[tokio::test]
async fn tampered_message_row_is_not_decrypted() {
    let server = TestApp::start().await;
    let first = send(&server, "alice", "bob", json!({"x": "first"})).await;
    let second = send(&server, "alice", "bob", json!({"x": "second"})).await;
    let [first, second] = [&first, &second].map(|receipt| receipt.text("message_id"));
    let swap = format!(
        "UPDATE am_messages SET content = (SELECT content FROM am_messages WHERE message_id = '{second}') WHERE message_id = '{first}'"
    );
    sql(&server.database(), &swap).await;
    let shown = server.get(&format!("{MESSAGES}/id/{first}")).await.ok();
    assert_eq!(shown["content"], Value::Null, "{shown}");
    assert!(shown.text("failure").contains("altered"), "{shown}");
    let moved = format!("UPDATE am_messages SET sender = 'mallory' WHERE message_id = '{second}'");
    sql(&server.database(), &moved).await;
    let shown = server.get(&format!("{MESSAGES}/id/{second}")).await.ok();
    assert_eq!(shown["content"], Value::Null, "{shown}");
}

#[tokio::test]
async fn master_keys_are_rotated_while_running() {
    let new = "m2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    let server = TestApp::start().await;
    let before = send(&server, "a", "b", json!({"n": 1})).await;
    let both = format!("{new},{MESSAGE_KEY}");
    let server = server.restart_with(&[("MESSAGE_KEYS", &both)]).await;
    assert_eq!(send(&server, "a", "b", json!({"n": 2})).await["key_id"], before["key_id"]);
    let keys = |arguments: &[&str], configured: &str| {
        let env = [("DATA_DIR", "."), ("MESSAGE_KEYS", configured), ("LOG_LEVEL", "warn")];
        crate::operation::run_with(server.dir(), &[&["message-keys"], arguments].concat(), &env, "")
    };
    let listed = || -> Value { serde_json::from_slice(&keys(&["list", "--json"], &both).stdout).unwrap() };
    assert_eq!(listed()[0]["master_id"], "m1");
    // One that does not have the old key can't.
    let missing = keys(&["rotate"], new);
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("'m1'"));
    let rotated = keys(&["rotate"], &both);
    let rotated: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    assert_eq!((&rotated["master_id"], rotated["rewrapped"].as_u64()), (&json!("m2"), Some(1)), "{rotated}");
    assert!(listed().as_array().unwrap().iter().all(|master| master["master_id"] == "m2" || master["data_keys"] == 0));
    let after = send(&server, "a", "b", json!({"n": 3})).await;
    assert_ne!(after["key_id"], before["key_id"], "the running server takes a new data key");
    assert!(super::told(&server, "message_keys").await.iter().any(|action| action == "rotated"));
    // The old master can go, and all that was written is there.
    let server = server.restart_with(&[("MESSAGE_KEYS", new)]).await;
    let came = inbox(&server, "b", "").await;
    let mut numbers: Vec<i64> = came.iter().map(|message| message["content"]["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3]);
    // Without it, what is under it is not to be had, and the rest works.
    let server = server.restart_with(&[("MESSAGE_KEYS", MESSAGE_KEY)]).await;
    let refused = try_send(&server, "a", "b", json!({})).await.is(503);
    assert_eq!(refused["code"], "message_keys_missing");
    assert_eq!(inbox(&server, "b", "").await[0]["content"], Value::Null);
    send(&server, "a", "c", json!({})).await;
}

#[tokio::test]
async fn production_without_master_keys_refuses_messages() {
    let server = Server::builder().env("MESSAGE_KEYS", "").start().await;
    let refused = try_send(&server, "a", "b", json!({})).await.is(503);
    assert_eq!(refused["code"], "message_keys_missing");
    assert!(refused.text("detail").contains("MESSAGE_KEYS"));
    server.logged("MESSAGE_KEYS is not set").await;
    keyed(&server, "b").await;
    assert_eq!(try_send(&server, "a", "b", json!({})).await.ok()["scope"], "sealed_on_arrival");
    assert!(!server.dir().join("message-key.hex").exists());

    let server = Server::builder().env("APP_ENV", "dev").env("MESSAGE_KEYS", "").start().await;
    assert_eq!(try_send(&server, "a", "b", json!({})).await.ok()["scope"], "at_rest");
    let mode = std::fs::metadata(server.dir().join("message-key.hex")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let server = server.restart().await;
    assert_eq!(inbox(&server, "b", "").await[0]["content"], json!({"x": 1}));

    for bad in
        ["m1", "m1:AAAA", ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", &format!("{MESSAGE_KEY},{MESSAGE_KEY}")]
    {
        let said = TestApp::builder().env("MESSAGE_KEYS", bad).refusal();
        assert!(said.contains("MESSAGE_KEYS") && !said.contains("AAECAwQF"), "{bad}: {said}");
    }
}
