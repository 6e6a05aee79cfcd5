//! `audit`, `config check`, `completions`, `man` and `--version`.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{document, printed, said};
use crate::{
    harness::TestApp,
    keys,
    kit::{AGENTS, JsonDocument, get_as, jq, post_as},
    operation::run,
};

#[tokio::test]
async fn audit_entries_are_found_by_time_by_whom_and_by_kind() {
    let server = TestApp::start().await;
    let key = keys::create(&server, "ci", "admin", &[]);
    while get_as(&server, &key, &format!("{AGENTS}/workflows")).await.status != 200 {
        crate::harness::poll_interval().await;
    }
    let body = json!({"name": "by ci", "steps": {"a": jq("1")}});
    let made = post_as(&server, &key, &format!("{AGENTS}/workflows"), body).await.ok();
    server.workflow(json!({"a": jq("1")})).await;
    let audit = |arguments: &[&str]| {
        let env = [("DATA_DIR", "."), ("APP_ENV", "dev"), ("LOG_LEVEL", "error")];
        run(server.dir(), &[&["audit"], arguments].concat(), &env)
    };
    let by_ci = document(&audit(&["--by", "ci"]));
    assert_eq!(by_ci.as_array().unwrap().len(), 1, "{by_ci}");
    assert_eq!((by_ci[0].text("key_name"), &by_ci[0]["workflow_id"]), ("ci", &made["id"]));
    assert_eq!(document(&audit(&["--by", by_ci[0].text("user_id")])), by_ci);
    let of_kind = document(&audit(&["--kind", "workflow_created", "--since", "1h"]));
    let names: Vec<&Value> = of_kind.as_array().unwrap().iter().map(|entry| &entry["key_name"]).collect();
    assert_eq!(names, [&Value::Null, &json!("ci")], "the newest first");
    assert_eq!(document(&audit(&["--since", "2099-01-01"])), json!([]));
    let of_keys = document(&audit(&["--resource", "api_key"]));
    assert_eq!((of_keys.as_array().unwrap().len(), &of_keys[0]["event_data"]["action"]), (1, &json!("created")));
    let limited = audit(&["--limit", "1"]);
    assert_eq!((document(&limited).as_array().unwrap().len(), said(&limited, 0).contains("--all")), (1, true));
    assert_eq!(audit(&["--kind", "dance"]).status.code(), Some(2));
}

#[test]
fn settings_are_checked_with_their_sources_and_all_faults_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".env"), "JQ_WORKERS=0\nADMIN_API_KEYS=a-secret-that-nobody-sees\n").unwrap();
    fs::write(dir.path().join("settings.toml"), "db_readers = 9\njwt_secret = \"a-secret-that-nobody-sees\"\n")
        .unwrap();
    let check = |env: &[(&str, &str)]| run(dir.path(), &["--config", "settings.toml", "config", "check"], env);
    let output = check(&[("APP_PORT", "none"), ("DATA_DIR", "data")]);
    let words = said(&output, 1);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings: Vec<(&str, &Value, &str)> = found["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one.text("name"), &one["value"], one.text("from")))
        .collect();
    let null = Value::Null;
    assert_eq!(
        settings,
        [
            ("ADMIN_API_KEYS", &null, ".env"),
            ("APP_PORT", &json!("none"), "environment"),
            ("DATA_DIR", &json!("data"), "environment"),
            ("DB_READERS", &json!("9"), "settings.toml"),
            ("JQ_WORKERS", &json!("0"), ".env"),
            ("JWT_SECRET", &null, "settings.toml"),
        ]
    );
    let faults: Vec<&str> = found["faults"].as_array().unwrap().iter().map(|fault| fault.text("setting")).collect();
    for name in ["APP_PORT", "JQ_WORKERS", "JWT_SECRET"] {
        assert!(faults.contains(&name) && words.contains(name), "{name}: {found} {words}");
    }
    assert!(!format!("{found}{words}").contains("nobody-sees"));
    fs::remove_file(dir.path().join(".env")).unwrap();
    fs::write(dir.path().join("settings.toml"), "db_readers = 9\n").unwrap();
    let good = document(&check(&[]));
    assert_eq!((&good["faults"], &good["dotenv"], &good["database"]["exists"]), (&json!([]), &null, &json!(false)));
    // A command that finds no database says which settings it went by.
    let words = said(&run(dir.path(), &["backup", "kept"], &[("DATA_DIR", "nowhere")]), 1);
    assert!(words.contains("1 settings: 1 from the environment, none from .env"), "{words}");
    assert!(!dir.path().join("kept").exists());
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let bash = printed(&run(dir.path(), &["completions", "bash"], &[]), 0);
    fs::write(dir.path().join("bash"), &bash).unwrap();
    let mut tried = Command::new("bash");
    tried.arg("-c").arg(
        ". ./bash; COMP_WORDS=(agent-management workflows run --f); COMP_CWORD=3; _agent__management agent-management --f run; echo \"${COMPREPLY[@]}\"",
    );
    let completed = tried.current_dir(dir.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&completed.stdout).contains("--follow"), "{completed:?}");
    for shell in ["zsh", "fish"] {
        assert!(printed(&run(dir.path(), &["completions", shell], &[]), 0).contains("workflows"), "{shell}");
    }
    assert_eq!(run(dir.path(), &["completions", "tcsh"], &[]).status.code(), Some(2));
    printed(&run(dir.path(), &["man", "pages"], &[]), 0);
    for page in
        ["agent-management", "agent-management-workflows-run", "agent-management-backup", "agent-management-serve"]
    {
        let text = fs::read_to_string(dir.path().join("pages").join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    assert!(printed(&run(dir.path(), &["man"], &[]), 0).contains(".SH SUBCOMMANDS"));
    let version = printed(&run(dir.path(), &["--version"], &[]), 0);
    for words in ["agent-management ", env!("CARGO_PKG_VERSION"), "commit ", "rustc "] {
        assert!(version.contains(words), "{version}");
    }
    assert_eq!(
        printed(&run(dir.path(), &["-V"], &[]), 0).trim(),
        concat!("agent-management ", env!("CARGO_PKG_VERSION"))
    );
}
