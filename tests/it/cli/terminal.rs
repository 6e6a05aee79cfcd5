//! The same verbs on a terminal: tables, and progress.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::{
    harness::{ADMIN, ApiClient, TestApp},
    kit::{AGENTS, JsonDocument, jq},
};

/// What a command shows on a terminal of 160 columns, without the terminal's own control sequences, and its exit status.
fn on_terminal(server: &ApiClient, arguments: &str) -> (String, Option<i32>) {
    let binary = env!("CARGO_BIN_EXE_agent-management");
    let line = format!("stty cols 160 rows 40; exec '{binary}' {arguments}");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(server.dir()).env_clear();
    for name in ["PATH", "LD_LIBRARY_PATH", "LIBTORCH"] {
        command.envs(std::env::var(name).map(|value| (name, value)));
    }
    command.env("TERM", "xterm").env("SHELL", "/bin/sh");
    command.env("AGENT_MANAGEMENT_URL", server.url("")).env("AGENT_MANAGEMENT_KEY", ADMIN);
    let output = command.stdin(Stdio::null()).output().unwrap();
    (String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n"), output.status.code())
}

/// The text with each id, time and measured number by its kind, as wide as it was.
fn masked(text: &str) -> String {
    let is_id = |word: &str| {
        word.split_once('_').is_some_and(|(_, rest)| rest.len() >= 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let mask = |word: &str| -> String {
        if is_id(word) {
            let (kind, rest) = word.split_once('_').unwrap();
            return format!("{kind}_{}", "x".repeat(rest.len()));
        }
        let is_time = word.len() >= 8 && word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':'));
        if is_time { word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect() } else { word.to_owned() }
    };
    let parts = text.split_inclusive([' ', '\n']);
    let masked: String = parts
        .map(|part| {
            let word = part.trim_end_matches([' ', '\n']);
            format!("{}{}", mask(word), &part[word.len()..])
        })
        .collect();
    // Measured seconds, of which none of these tests has ten.
    let mut shown = String::new();
    let mut rest = masked.as_str();
    while let Some(at) = rest.find(" s") {
        let begin = rest[..at].rfind(|c: char| !c.is_ascii_digit() && c != '.').map_or(0, |at| at + 1);
        shown.push_str(&rest[..begin]);
        shown.push_str(if at - begin == 4 { "0.00" } else { &rest[begin..at] });
        shown.push_str(" s");
        rest = &rest[at + 2..];
    }
    shown + rest
}

#[tokio::test]
async fn tables_are_shown_on_a_terminal() {
    let server = TestApp::start().await;
    let body = json!({"name": "wild\u{1b}[2J name", "steps": {"a": jq("{x: 1}"), "b": {"step_type": "data_processing", "depends_on": ["a"], "action": {"kind": "jq", "program": "error(\"no luck\")"}}}});
    let made = server.post(&format!("{AGENTS}/workflows"), body).await.ok();
    let run = server.execute(made.text("id"), json!({})).await;
    let id = run.text("id");
    server.ended(id).await;
    let mut shown = String::new();
    for (arguments, expected) in [
        ("status".to_owned(), 0),
        ("workflows list".to_owned(), 0),
        (format!("workflows show {}", made.text("id")), 0),
        ("runs list".to_owned(), 0),
        (format!("runs show {id}"), 0),
        ("jobs list".to_owned(), 0),
    ] {
        let (text, status) = on_terminal(&server, &arguments);
        assert_eq!(status, Some(expected), "{text}");
        assert!(!text.contains('\u{1b}'), "other people's texts steer no terminal: {text:?}");
        assert!(text.lines().all(|line| line.chars().count() <= 160), "{text}");
        let arguments = arguments.split(' ').take(2).collect::<Vec<_>>().join(" ");
        shown += &format!("$ {arguments}\n{}\n", masked(&text.replace(&server.url(""), "http://service")));
    }
    insta::assert_snapshot!("tables", shown);
    // Asked for, JSON comes on a terminal too.
    let (text, _) = on_terminal(&server, "runs list --json");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()[0]["id"], id);
}

#[tokio::test]
async fn progress_of_steps_is_shown_on_a_terminal() {
    let server = TestApp::start().await;
    let steps = json!({"first": jq("1"), "second": {"step_type": "data_processing", "depends_on": ["first"], "action": {"kind": "jq", "program": "error(\"no luck\")"}}});
    std::fs::write(server.dir().join("workflow.json"), json!({"name": "n", "steps": steps}).to_string()).unwrap();
    let (text, status) = on_terminal(&server, "workflows run workflow.json --follow");
    assert_eq!(status, Some(1), "{text}");
    for words in ["done       first (", "failed     second: ", "no luck", "STEP", "ATTEMPTS", "failed: step second"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert!(!text.contains('{'), "no JSON: {text}");
}
