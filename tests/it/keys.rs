//! API keys that are made, rotated and taken back while the service runs.

use std::{
    fs,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, PATIENCE, Server, TestApp},
    kit::{AGENTS, JsonDocument, ask, get_as, jq, post_as, sql},
    operation::run,
};

/// How soon a running server knows of a change: two seconds are promised, the rest is for a machine that is busy.
const SOON: Duration = Duration::from_secs(4);
const WORKFLOWS: &str = "/api/v1/agents/workflows";
/// Any key may call this.
const ENVIRONMENTS: &str = "/api/v1/agents/performance/rl/environments";

fn keys(dir: &Path, arguments: &[&str]) -> Output {
    run(dir, &[&["keys"], arguments].concat(), &[("DATA_DIR", "."), ("APP_ENV", "dev"), ("LOG_LEVEL", "warn")])
}

/// What a command that went well printed.
#[track_caller]
fn printed(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What a command that was refused said.
#[track_caller]
fn refused(output: Output, status: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{said}");
    said
}

/// A key made on the command line.
pub fn create(server: &ApiClient, name: &str, role: &str, more: &[&str]) -> String {
    let key = printed(keys(server.dir(), &[&["create", "--name", name, "--role", role], more].concat()));
    let parts: Vec<&str> = key.split('_').collect();
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    assert_eq!((parts.len(), parts[0], parts[1].len(), parts[2].len()), (3, "am", 8, 48), "{key}");
    assert!(is_hex(parts[1]) && is_hex(parts[2]), "{key}");
    key
}

/// The next secret of a key; that before is void.
pub fn rotate(server: &ApiClient, name: &str) -> String {
    printed(keys(server.dir(), &["rotate", name]))
}

/// Take a key back.
pub fn revoke(server: &ApiClient, name: &str) {
    printed(keys(server.dir(), &["revoke", name]));
}

/// All keys, as the command line lists them.
pub fn listed(dir: &Path) -> Vec<Value> {
    serde_json::from_str(&printed(keys(dir, &["list", "--json"]))).unwrap()
}

/// The key of this name, as it is listed.
fn one(dir: &Path, name: &str) -> Value {
    listed(dir).into_iter().find(|key| key["name"] == name).unwrap()
}

/// Ask until the answer has this status; it must come soon.
async fn until(server: &ApiClient, key: &str, path: &str, status: u16) -> Answer {
    let began = Instant::now();
    loop {
        let answer = get_as(server, key, path).await;
        if answer.status == status {
            return answer;
        }
        assert!(began.elapsed() < SOON, "still {}: {}", answer.status, answer.text);
        crate::harness::poll_interval().await;
    }
}

/// The body of an error, without what is each request's own.
fn refusal(answer: Answer) -> Value {
    let mut body = answer.is(401);
    body.as_object_mut().unwrap().remove("request_id");
    body
}

#[tokio::test]
async fn created_key_works_by_role_and_its_secret_is_not_stored() {
    let server = Server::builder().env("LOG_LEVEL", "debug").start().await;
    let made = ["admin", "client", "miner"].map(|role| (role, create(&server, &format!("the-{role}"), role, &[])));
    let [(_, admin), ..] = &made;
    until(&server, admin, WORKFLOWS, 200).await;
    for (role, key) in &made {
        let answer = until(&server, key, WORKFLOWS, if *role == "admin" { 200 } else { 403 }).await;
        assert!(*role == "admin" || answer.body["code"] == "insufficient_role", "{}", answer.text);
        get_as(&server, key, ENVIRONMENTS).await.is(200);
        // Almost the key.
        let last = if key.ends_with('0') { "1" } else { "0" };
        for wrong in [format!("{}{last}", &key[..key.len() - 1]), key.to_uppercase(), key[..key.len() - 1].to_owned()] {
            get_as(&server, &wrong, ENVIRONMENTS).await.is(401);
        }
    }
    let swapped = format!("{}{}", &made[1].1[..12], &made[0].1[12..]);
    get_as(&server, &swapped, ENVIRONMENTS).await.is(401);

    let owner = post_as(&server, admin, WORKFLOWS, json!({"name": "n", "steps": {"a": jq("1")}})).await.ok();
    let (table, all) = (printed(keys(server.dir(), &["list"])), listed(server.dir()));
    assert_eq!(all.len(), 3);
    for ((role, key), entry) in made.iter().zip(&all) {
        assert_eq!((entry["role"].as_str(), entry["state"].as_str()), (Some(*role), Some("active")));
        assert_eq!((&entry["id"], &entry["expires_at"]), (&json!(key[3..11]), &Value::Null));
        let principal = entry.text("principal");
        assert!(principal.starts_with("key_") && principal.len() == 24, "{entry}");
        for shown in [&key[3..11], &format!("the-{role}"), role, principal, "active", "never"] {
            assert!(table.contains(shown), "{shown} is not in {table}");
        }
    }
    assert_eq!(owner["owner_id"], all[0]["principal"]);

    // Each change is in the audit log, by nobody who calls.
    let log = server.get(&format!("{AGENTS}/security/audit-logs?user_id=system&limit=500")).await.ok();
    let told: Vec<&Value> =
        log.as_array().unwrap().iter().filter(|entry| entry["event_data"]["resource"] == "api_key").collect();
    assert_eq!(told.len(), 3, "{log}");
    assert_eq!(
        (&told[2]["event_data"]["action"], &told[2]["event_data"]["name"]),
        (&json!("created"), &json!("the-admin"))
    );
    assert_eq!(told[2]["new_state"]["principal"], all[0]["principal"]);

    let mut server = server;
    let files = |dir: &Path| -> Vec<u8> {
        let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file());
        files.flat_map(|path| fs::read(path).unwrap()).collect()
    };
    let before = files(server.dir());
    assert!(server.terminate().success());
    let (after, shown) = (files(server.dir()), format!("{table}\n{all:?}\n{log}\n{}", server.log()));
    for (_, key) in &made {
        let secret = &key[12..];
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!holds(&before) && !holds(&after), "a file holds a secret");
        assert!(!shown.contains(secret), "a secret was shown");
        assert!(after.windows(8).any(|part| part == &key.as_bytes()[3..11]), "the id is looked for in vain");
    }
}

#[tokio::test]
async fn revoked_and_expired_keys_are_refused() {
    let server = TestApp::start().await;
    let revoked = create(&server, "gone", "admin", &[]);
    let long = create(&server, "long", "admin", &["--expires", "2999-01-01"]);
    let short = create(&server, "short", "admin", &[]);
    for key in [&revoked, &long, &short] {
        until(&server, key, WORKFLOWS, 200).await;
    }
    assert_eq!(one(server.dir(), "long")["expires_at"], "2999-01-01T00:00:00.000000Z");
    let said = printed(keys(server.dir(), &["revoke", "gone"]));
    assert!(said.contains("gone") && said.contains(&revoked[3..11]), "{said}");
    let nobody = refusal(get_as(&server, &format!("am_01234567_{}", "0".repeat(48)), WORKFLOWS).await);
    assert_eq!(nobody, refusal(get_as(&server, "nobody", WORKFLOWS).await));
    assert_eq!(nobody, refusal(until(&server, &revoked, WORKFLOWS, 401).await));
    // The time of a key is over for both of its secrets.
    let soon = printed(keys(server.dir(), &["rotate", "short", "--expires", "2s", "--grace", "1h"]));
    let began = Instant::now();
    while get_as(&server, &short, WORKFLOWS).await.status != 401 {
        assert!(began.elapsed() < PATIENCE, "it does not expire");
        crate::harness::poll_interval().await;
    }
    for secret in [&short, &soon] {
        assert_eq!(nobody, refusal(get_as(&server, secret, WORKFLOWS).await));
    }
    let states = ["gone", "short", "long"].map(|name| one(server.dir(), name)["state"].clone());
    assert_eq!(states, [json!("revoked"), json!("expired"), json!("active")]);
    // Nor is anything else after a restart.
    let server = server.restart().await;
    for (key, status) in [(&revoked, 401), (&short, 401), (&long, 200)] {
        get_as(&server, key, WORKFLOWS).await.is(status);
    }
    // A key whose time is over gets another with its next secret.
    let said = refused(keys(server.dir(), &["rotate", "short"]), 1);
    assert!(said.contains("expired"), "{said}");
    let again = printed(keys(server.dir(), &["rotate", "short", "--expires", "90d"]));
    until(&server, &again, WORKFLOWS, 200).await;
    get_as(&server, &short, WORKFLOWS).await.is(401);
}

#[tokio::test]
async fn rotated_key_keeps_its_principal_and_resources() {
    let server = TestApp::start().await;
    let (first, other) = (create(&server, "ci", "admin", &[]), create(&server, "other", "admin", &[]));
    until(&server, &other, WORKFLOWS, 200).await;
    let id =
        post_as(&server, &first, WORKFLOWS, json!({"name": "mine", "steps": {"a": jq("1")}})).await.ok()["id"].clone();
    let path = format!("{WORKFLOWS}/{}", id.as_str().unwrap());
    let principal = one(server.dir(), "ci")["principal"].clone();

    let second = printed(keys(server.dir(), &["rotate", "ci", "--grace", "1h"]));
    assert_eq!(second[..12], first[..12], "the id stays");
    assert_ne!(second, first);
    until(&server, &second, WORKFLOWS, 200).await;
    get_as(&server, &first, WORKFLOWS).await.is(200);
    let changed = ask(&server, Some(&second), Method::PUT, &path, Some(json!({"name": "renamed"}))).await.ok();
    assert_eq!((&changed["owner_id"], &changed["name"]), (&principal, &json!("renamed")));
    get_as(&server, &other, &path).await.is(404);

    // By its id, and without grace: both before are gone.
    let third = printed(keys(server.dir(), &["rotate", &first[3..11]]));
    until(&server, &third, WORKFLOWS, 200).await;
    get_as(&server, &first, WORKFLOWS).await.is(401);
    get_as(&server, &second, WORKFLOWS).await.is(401);
    let entry = one(server.dir(), "ci");
    assert_eq!((&entry["principal"], &entry["previous_until"]), (&principal, &Value::Null));
    assert!(entry["rotated_at"].is_string());

    // Clients of the monolith name themselves by their key, and are led on by their principal.
    post_as(&server, &third, WORKFLOWS, json!({"name": "second", "steps": {"a": jq("1")}})).await.ok();
    let page = get_as(&server, &third, &format!("{WORKFLOWS}?owner_id={third}&limit=1")).await;
    assert_eq!(page.header("x-total-count"), "2");
    let link = page.header("link").to_owned();
    assert!(link.contains(principal.as_str().unwrap()) && !link.contains(&third[12..]), "{link}");
    let next = link.split(", ").find(|link| link.ends_with("rel=\"next\"")).unwrap();
    let next = &next[1..next.find('>').unwrap()];
    assert_eq!(get_as(&server, &third, next).await.ok()[0]["name"], "renamed");

    // A grace is over by itself.
    let fourth = printed(keys(server.dir(), &["rotate", "ci", "--grace", "3s"]));
    until(&server, &fourth, WORKFLOWS, 200).await;
    server.clock().advance(Duration::from_secs(4));
    let began = Instant::now();
    while get_as(&server, &third, WORKFLOWS).await.status != 401 {
        assert!(began.elapsed() < PATIENCE, "the grace does not end");
        crate::harness::poll_interval().await;
    }
    get_as(&server, &fourth, &path).await.is(200);
}

/// A stream and a socket that are open with a key.
struct OpenStreams {
    events: reqwest::Response,
    socket: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
}

impl OpenStreams {
    async fn open(server: &ApiClient, key: &str) -> Self {
        let url = server.url(&format!("{AGENTS}/registry/events?format=sse"));
        let events = server.client().get(url).header("x-api-key", key).send().await.unwrap();
        assert_eq!(events.status(), 200);
        let url = format!("ws://127.0.0.1:{}{AGENTS}/messages/stream?agent_id=a", server.port());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("x-api-key", key.parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Text(_)))), "the first frame");
        Self { events, socket }
    }

    /// Both end, the socket with a code that says why.
    async fn ended(mut self) {
        let ended = async {
            while self.events.chunk().await.unwrap().is_some() {}
            loop {
                if let Some(Ok(Message::Close(frame))) = self.socket.next().await {
                    return u16::from(frame.unwrap().code);
                }
            }
        };
        assert_eq!(tokio::time::timeout(SOON, ended).await.expect("they stay open"), 1008);
    }
}

#[tokio::test]
async fn streams_and_sockets_end_with_their_key() {
    let server = TestApp::start().await;
    let key = |name: &str| create(&server, name, "admin", &[]);
    let names = ["kept", "revoked", "replaced", "demoted"];
    let keys_of = names.map(key);
    let mut open = Vec::new();
    for key in &keys_of {
        open.push(OpenStreams::open(&server, key).await);
    }
    let mut open = open.into_iter();
    let mut kept = open.next().unwrap();
    printed(keys(server.dir(), &["rotate", "kept", "--grace", "1h"]));
    printed(keys(server.dir(), &["revoke", "revoked"]));
    // Its time begins while they are open.
    printed(keys(server.dir(), &["rotate", "replaced", "--grace", "1s"]));
    let change = "UPDATE am_api_keys SET role = 'CLIENT', revision = (SELECT max(revision) + 1 FROM am_api_keys) WHERE name = 'demoted'";
    sql(&server.dir().join("coordinator.db"), change).await;
    for streams in open {
        streams.ended().await;
    }
    assert!(kept.socket.next().now_or_never().is_none(), "a key in its grace is good");
    assert!(kept.events.chunk().now_or_never().is_none());
}

#[tokio::test]
async fn development_server_recognises_stored_keys() {
    let server = TestApp::builder().env("APP_ENV", "dev").start().await;
    let key = create(&server, "mine", "miner", &[]);
    let principal = one(server.dir(), "mine")["principal"].clone();
    let body = json!({"name": "n", "steps": {"a": jq("1")}});
    let began = Instant::now();
    while post_as(&server, &key, WORKFLOWS, body.clone()).await.ok()["owner_id"] != principal {
        assert!(began.elapsed() < SOON, "it is not known");
        crate::harness::poll_interval().await;
    }
    let any = format!("am_01234567_{}", "0".repeat(48));
    let owner = post_as(&server, &any, WORKFLOWS, body).await.ok()["owner_id"].clone();
    assert!(owner != principal && owner.as_str().unwrap().starts_with("key_"), "{owner}");
}

#[tokio::test]
async fn key_commands_report_invalid_arguments() {
    let server = TestApp::start().await;
    let dir = server.dir();
    create(&server, "ci", "admin", &[]);
    let made = |name: &str, role: &str, expires: &str| {
        keys(dir, &["create", "--name", name, "--role", role, "--expires", expires])
    };
    for (name, role, expires, status, said) in [
        ("ci", "client", "never", 1, "already"),
        ("x", "root", "never", 2, "admin, client, miner"),
        ("x", "client", "2020-01-01", 1, "expires"),
        ("x", "agent", "never", 2, "--agent"),
    ] {
        let text = refused(made(name, role, expires), status);
        assert!(text.contains(said), "{name:?} {role} {expires}: {text}");
    }
    assert!(refused(keys(dir, &["revoke", "nobody"]), 1).contains("nobody"));
    assert_eq!(listed(dir).len(), 1, "nothing was made");
    printed(keys(dir, &["revoke", "ci"]));
    assert!(refused(keys(dir, &["rotate", "ci"]), 1).contains("revoked"));
    assert!(refused(made("ci", "client", "never"), 1).contains("already"), "a name is never given twice");

    // Two at the same moment: one has it.
    let both: Vec<Output> = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| made("both", "client", "never")));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(both.iter().filter(|output| output.status.success()).count(), 1);

    for (arguments, words) in [
        (&["--help"][..], &["create", "list", "revoke", "rotate"][..]),
        (&["create", "--help"], &["--name", "--role", "admin, client, miner, agent", "--agent", "--expires"]),
    ] {
        let help = printed(keys(dir, arguments));
        assert!(words.iter().all(|word| help.contains(word)), "{help}");
    }
}

#[test]
fn key_commands_need_an_existing_database() {
    let dir = tempfile::tempdir().unwrap();
    let said = refused(keys(dir.path(), &["create", "--name", "x", "--role", "admin"]), 1);
    assert!(said.contains("coordinator.db") && said.contains("agent-management migrate"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(run(dir.path(), &["migrate"], &[("DATA_DIR", "."), ("APP_ENV", "dev")]).status.success());
    printed(keys(dir.path(), &["create", "--name", "x", "--role", "admin"]));
}

#[tokio::test]
async fn key_in_the_place_of_a_name_is_not_shown() {
    let server = TestApp::start().await;
    let managed = create(&server, "ci", "admin", &[]);
    let workflows = format!("{AGENTS}/workflows");
    for key in [ADMIN, CLIENT, &managed, &format!("{ADMIN}x")] {
        for path in [format!("{workflows}?{key}"), format!("{workflows}?limit=1&{key}=1"), format!("/health?{key}")] {
            let answer = get_as(&server, ADMIN, &path).await;
            let headers = format!("{:?}", answer.headers);
            assert!(!answer.text.contains(key) && !headers.contains(key), "{path}: {} {headers}", answer.text);
            assert_eq!(answer.status.as_u16(), if path.starts_with("/health") { 200 } else { 422 }, "{}", answer.text);
        }
        for (path, body, status) in [
            (&workflows, json!({"name": "n", "steps": {"a": jq("1")}, key: 1}), 200),
            (
                &workflows,
                json!({"name": "n", "steps": {"a": {"step_type": "custom", "action": {"kind": "jq", key: 1}}}}),
                422,
            ),
            (&format!("{AGENTS}/plans"), json!({"name": "n", "task_types": ["io_bound"], key: 1}), 422),
        ] {
            let answer = post_as(&server, ADMIN, path, body).await;
            let headers = format!("{:?}", answer.headers);
            assert!(!answer.text.contains(key) && !headers.contains(key), "{path}: {} {headers}", answer.text);
            assert!(answer.text.contains("(an API key)"), "{}", answer.text);
            assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        }
    }
    assert!(!server.log().contains("0123456789abcdef"), "{}", server.log());
}

#[tokio::test]
async fn the_last_use_of_a_key_is_listed() {
    let server = TestApp::start().await;
    let key = create(&server, "ci", "admin", &[]);
    create(&server, "idle", "admin", &[]);
    let used = || -> Vec<Value> {
        let all: Value = serde_json::from_str(&printed(keys(server.dir(), &["list", "--json"]))).unwrap();
        all.as_array().unwrap().iter().map(|key| key["last_used_at"].clone()).collect()
    };
    assert_eq!(used(), [Value::Null, Value::Null]);
    get_as(&server, &key, &format!("{AGENTS}/workflows")).await.ok();
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while used()[0].is_null() {
        assert!(std::time::Instant::now() < deadline, "its use was never stored");
        crate::harness::poll_interval().await;
    }
    assert_eq!(used()[1], Value::Null);
}

#[tokio::test]
async fn names_of_keys_stand_beside_their_principals() {
    let server = TestApp::start().await;
    let [ci, shop] = [create(&server, "ci", "admin", &[]), create(&server, "shop", "client", &[])];
    until(&server, &ci, WORKFLOWS, 200).await;
    let made =
        post_as(&server, &ci, WORKFLOWS, json!({"name": "n", "steps": {"a": jq("1")}, "is_public": true})).await.ok();
    until(&server, &shop, ENVIRONMENTS, 200).await;
    let order = json!({"model": "llama-7b", "prompt": "x"});
    post_as(&server, &shop, "/api/v1/services/llm/inference", order).await.is(201);

    let named = async |path: &str| server.get(path).await.ok()[0]["key_name"].clone();
    assert_eq!(named(WORKFLOWS).await, "ci");
    assert_eq!(named("/api/v1/services/jobs").await, "shop");
    let log = format!("{AGENTS}/security/audit-logs?user_id={}", made.text("owner_id"));
    assert_eq!(named(&log).await, "ci");
    let entry = server.get(&log).await.ok()[0].text("id").to_owned();
    let one = server.get(&format!("{AGENTS}/security/audit-logs/{entry}")).await.ok();
    assert_eq!((&one["key_name"], &one["user_id"]), (&json!("ci"), &made["owner_id"]));
    // A client is shown no names, and a configured key has none.
    let mine = get_as(&server, &shop, "/api/v1/services/jobs").await.ok();
    assert_eq!((mine.as_array().unwrap().len(), mine[0].get("key_name")), (1, None));
    server.workflow(json!({"a": jq("1")})).await;
    assert_eq!(server.get(&format!("{WORKFLOWS}?limit=1")).await.ok()[0].get("key_name"), None);
    // A name outlives its key.
    revoke(&server, "ci");
    until(&server, &ci, WORKFLOWS, 401).await;
    assert_eq!(named(&log).await, "ci");
}

#[tokio::test]
async fn refusals_are_counted_by_key_and_told_once() {
    let server = TestApp::start().await;
    let shop = create(&server, "shop", "client", &[]);
    until(&server, &shop, ENVIRONMENTS, 200).await;
    let id = shop[3..11].to_owned();
    // Of the key's id with another secret; of nobody's; for lack of a role.
    let wrong = format!("{}{}", &shop[..12], "0".repeat(48));
    for _ in 0..30 {
        get_as(&server, &wrong, ENVIRONMENTS).await.is(401);
        get_as(&server, &shop, WORKFLOWS).await.is(403);
    }
    get_as(&server, "am_00000000_000000000000000000000000000000000000000000000000", ENVIRONMENTS).await.is(401);
    get_as(&server, "nobody-s-key-0123456789", ENVIRONMENTS).await.is(401);
    get_as(&server, crate::harness::CLIENT, WORKFLOWS).await.is(403);
    let page = server.get("/metrics").await.text;
    let count = |key: &str, code: &str| {
        let series = |line: &&str| {
            line.starts_with("http_refused_by_key_total{")
                && line.contains(&format!("key=\"{key}\""))
                && line.contains(&format!("code=\"{code}\""))
        };
        page.lines().find(series).map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    assert_eq!(count(&id, "unauthorized").as_deref(), Some("30"), "{page}");
    assert_eq!(count(&id, "insufficient_role").as_deref(), Some("30"));
    let unknown: u32 = count("unknown", "unauthorized").unwrap().parse().unwrap();
    assert!(unknown >= 2, "unknown ids make no series of their own: {page}");
    let series = page.lines().filter(|line| line.starts_with("http_refused_by_key_total{")).count();
    assert_eq!(series, 4, "{page}");
    assert!(!page.contains(&shop[12..]));

    let log = format!("{AGENTS}/security/audit-logs?event_type=access_denied");
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    let told = loop {
        let told = server.get(&log).await.ok();
        if told.as_array().unwrap().iter().any(|entry| entry["event_data"]["action"] == "refused") {
            break told;
        }
        assert!(std::time::Instant::now() < deadline, "it was never told: {told}");
        crate::harness::poll_interval().await;
    };
    let data = &told[0]["event_data"];
    assert_eq!((&data["key"], &data["refusals"], &told[0]["user_id"]), (&json!(id), &json!(50), &json!("system")));
    for _ in 0..60 {
        get_as(&server, &wrong, ENVIRONMENTS).await.is(401);
    }
    // What is written after it would be there by now.
    server.workflow(json!({"a": jq("1")})).await;
    assert_eq!(server.get(&log).await.ok().as_array().unwrap().len(), 1, "once an hour");
}
