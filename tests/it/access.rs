//! Who gets in, with what, and how much; and that no key is ever shown.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
};

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, MINER, OTHER_ADMIN, PATIENCE, Server, TestApp},
    kit::{AGENTS, JsonDocument, ask, filled, fixture, get_as, jq, operations, post_as, waiting},
    portfolio::PORTFOLIOS,
};

/// What is answered without a key. Anything else is behind one.
const OPEN: [&str; 10] = [
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/api/v1/agents/test",
    "/api/v1/agents/performance/health",
    "/api/v1/services",
    "/api/v1/services/{service_type}/schema",
];

/// The groups that any key may call.
const PERFORMANCE: &str = "/api/v1/agents/performance/";
const CREATIVITY: &str = "/api/v1/agents/creativity/";
/// The group that clients may call, and miners not.
const SERVICES: &str = "/api/v1/services/";

#[tokio::test]
async fn every_operation_requires_a_key_of_its_role() {
    let server = TestApp::start().await;
    let document = ask(&server, None, Method::GET, "/openapi.json", None).await.ok();
    let mut open = BTreeSet::new();
    for (method, template) in operations(&document) {
        let path = filled(&template, if template.contains("{service_type}") { "whisper" } else { "x" });
        let body = (method != Method::GET).then(|| json!({}));
        let nobody = ask(&server, None, method.clone(), &path, body.clone()).await;
        if OPEN.contains(&template.as_str()) {
            assert_eq!(nobody.status, 200, "{method} {path}: {}", nobody.text);
            open.insert(template.clone());
            continue;
        }
        assert_eq!(nobody.status, 401, "{method} {path}: {}", nobody.text);
        assert_eq!((&nobody.body["code"], nobody.header("www-authenticate")), (&json!("unauthorized"), "ApiKey"));
        if template.ends_with("/instances/{instance_id}/execute") {
            // It takes an instance's token, and no key.
            assert_eq!(ask(&server, Some(ADMIN), method, &path, body).await.status, 401);
            continue;
        }
        assert!(
            document["paths"][&template][method.as_str().to_lowercase()]["security"][0]["ApiKey"].is_array(),
            "{template}"
        );
        let near_misses =
            [format!("{ADMIN}x"), ADMIN[1..].to_owned(), ADMIN.to_uppercase(), format!(" {CLIENT}x"), "ü".to_owned()];
        for wrong in near_misses {
            let answer = ask(&server, Some(&wrong), method.clone(), &path, body.clone()).await;
            assert_eq!(answer.status, 401, "{method} {path} with {wrong:?}: {}", answer.text);
        }
        assert_eq!(ask(&server, Some(""), method.clone(), &path, body.clone()).await.status, 401);
        // The performance group takes any key, the services a client's, the others an admin's.
        // Webhooks are for everybody, but for the deletion of a delivery.
        let of_webhooks =
            template.contains("/security/webhooks") && !(method == Method::DELETE && template.contains("/deliveries/"));
        // So is the ledger, but for what only operators do.
        let for_operators = ["/deposits", "/withdrawals", "/reverse"];
        let of_ledger =
            template.contains("/agents/ledger/") && !for_operators.iter().any(|end| template.ends_with(end));
        // Portfolios are a client's, too; their prices are recorded by admins.
        let of_portfolios = template.starts_with(PORTFOLIOS);
        let by_admins = ["/portfolios/prices", "/portfolios/settlements/"];
        let by_admins = method == Method::POST && by_admins.iter().any(|part| template.contains(part));
        let of_clients = of_portfolios && !by_admins;
        // Hosts and their capacity are configured by admins.
        let of_performance = (template.starts_with(PERFORMANCE) && !template.contains("/capacity/hosts"))
            || template.starts_with(CREATIVITY);
        let for_admins = template.starts_with(AGENTS) && !(of_performance || of_webhooks || of_ledger || of_clients);
        let no_miners = for_admins || of_portfolios || template.starts_with(SERVICES);
        for (key, wanted) in [(CLIENT, for_admins), (MINER, no_miners)] {
            let answer = ask(&server, Some(key), method.clone(), &path, body.clone()).await;
            let refused = (answer.status.as_u16(), &answer.body["code"]) == (403, &json!("insufficient_role"));
            assert_eq!(refused, wanted, "{method} {path}: {}", answer.text);
        }
        let known = ask(&server, Some(ADMIN), method.clone(), &path, body).await;
        assert!(
            !matches!(known.status.as_u16(), 401 | 403) && known.status.as_u16() != 500,
            "{method} {path}: {}",
            known.text
        );
    }
    assert_eq!(open.len(), OPEN.len(), "no longer there: {open:?}");
    // Nor does an unknown path or method tell more than that.
    ask(&server, None, Method::GET, "/api/v1/agents/nothing/at/all", None).await.is(404);
    // A key elsewhere than in its headers is none.
    ask(&server, None, Method::GET, &format!("{AGENTS}/workflows?api_key={ADMIN}&x-api-key={ADMIN}"), None)
        .await
        .is(401);
    let basic = server.client().get(server.url(&format!("{AGENTS}/workflows"))).basic_auth(ADMIN, Some(ADMIN));
    Answer::of(basic).await.is(401);
}

/// Everything that was answered, with its headers.
#[derive(Default)]
struct Heard(String);

impl Heard {
    fn hear(&mut self, answer: Answer) -> Value {
        self.0.push_str(&format!("{:?}\n{}\n", answer.headers, answer.text));
        answer.body
    }
}

#[tokio::test]
async fn api_keys_are_never_shown_or_stored() {
    let before = key_cells(&fixture("coordinator/coordinator.sqlite")).await;
    assert_eq!(before.len(), 4, "the coordinator's rows hold keys: {before:?}");
    let server =
        Server::builder().database(&fixture("coordinator/coordinator.sqlite")).env("LOG_LEVEL", "debug").start().await;
    let mut heard = Heard::default();
    for key in [ADMIN, OTHER_ADMIN, CLIENT, MINER] {
        use_everything(&server, key, &mut heard).await;
    }
    heard.hear(ask(&server, None, Method::GET, "/metrics", None).await);
    let database = server.database();
    let mut server = server;
    assert!(server.terminate().success());
    for key in [ADMIN, OTHER_ADMIN, CLIENT, MINER] {
        for (what, text) in [("an answer", &heard.0), ("the log", &server.log())] {
            let shown = text.find(key).map(|at| text[at.saturating_sub(300)..].chars().take(600).collect::<String>());
            assert_eq!(shown, None, "{key} was shown in {what}");
        }
    }
    assert!(heard.0.len() > 20_000 && server.log().lines().count() > 50, "too little was looked at");
    assert_eq!(key_cells(&database).await, before, "a key was stored");
}

async fn use_everything(server: &ApiClient, key: &str, heard: &mut Heard) {
    let document = server.get("/openapi.json").await.ok();
    // Not a key, and hardly less of a secret.
    let mistyped = format!("{key}x");
    for (method, template) in operations(&document) {
        for id in ["agent_fix00000", "exec_fix000002", "nothing", key, &mistyped] {
            let body = (method != Method::GET && method != Method::DELETE).then(|| json!({"name": 5}));
            if method == Method::DELETE {
                continue;
            }
            heard.hear(ask(server, Some(key), method.clone(), &filled(&template, id), body).await);
        }
    }
    let enable = heard.hear(post_as(server, key, &format!("{AGENTS}/{key}/learning/enable"), json!({})).await);
    assert!(enable["agent_id"].is_null() || enable.text("agent_id").starts_with("key_"), "{enable}");
    let refused = heard.hear(get_as(server, key, &format!("{AGENTS}/nothing/{mistyped}")).await);
    assert_eq!((&refused["code"], &refused["detail"][0]["loc"]), (&json!("validation_error"), &json!(["path"])));
    // The monolith's clients name themselves by their key.
    for query in
        [format!("owner_id={key}"), format!("owner_id={key}&limit=1"), format!("limit=1&offset=1&owner_id={key}")]
    {
        heard.hear(get_as(server, key, &format!("{AGENTS}/workflows?{query}")).await);
    }
    let listed = heard.hear(get_as(server, key, &format!("{AGENTS}/workflows")).await);
    for workflow in listed.as_array().into_iter().flatten() {
        let path = format!("{AGENTS}/workflows/{}", workflow.text("id"));
        heard.hear(get_as(server, key, &path).await);
        let run = heard.hear(post_as(server, key, &format!("{path}/execute"), json!({"inputs": {"x": 1}})).await);
        if let Some(id) = run["id"].as_str() {
            heard.hear(post_as(server, key, &format!("{AGENTS}/executions/{id}/cancel"), json!({})).await);
        }
    }
    let body = json!({"name": "mine", "steps": {"a": jq("."), "w": waiting()}});
    let made = heard.hear(post_as(server, key, &format!("{AGENTS}/workflows"), body).await);
    if let Some(id) = made["id"].as_str() {
        let network = json!({"name": "n", "agents": [id]});
        let network = heard.hear(post_as(server, key, &format!("{AGENTS}/networks"), network).await);
        heard.hear(
            post_as(server, key, &format!("{AGENTS}/networks/{}/execute", network.text("id")), json!({"task": 1}))
                .await,
        );
        heard.hear(post_as(server, key, &format!("{AGENTS}/workflows/{id}/execute"), json!({})).await);
    }
    let executions = heard.hear(get_as(server, key, &format!("{AGENTS}/executions")).await);
    for execution in executions.as_array().into_iter().flatten() {
        let path = format!("{AGENTS}/executions/{}", execution.text("id"));
        heard.hear(post_as(server, key, &format!("{path}/cancel"), json!({})).await);
        for part in ["", "/status", "/logs", "/receipt", "/events?format=json"] {
            heard.hear(get_as(server, key, &format!("{path}{part}")).await);
        }
    }
}

/// Every cell of the database that holds a key: table, column, how many.
async fn key_cells(database: &std::path::Path) -> Vec<(String, String, i64)> {
    use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
    // A copy: opening the fixture itself would leave files beside it.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    std::fs::copy(database, &copy).unwrap();
    let mut conn = SqliteConnection::connect(copy.to_str().unwrap()).await.unwrap();
    let columns = sqlx::query(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY 1, 2",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let mut cells = Vec::new();
    for row in columns {
        let (table, column): (String, String) = (row.get(0), row.get(1));
        let any =
            [ADMIN, OTHER_ADMIN, CLIENT, MINER].map(|key| format!("instr(\"{column}\", '{key}') > 0")).join(" OR ");
        let query = format!("SELECT count(*) FROM \"{table}\" WHERE {any}");
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut conn).await.unwrap();
        if count > 0 {
            cells.push((table, column, count));
        }
    }
    cells
}

#[tokio::test]
async fn development_server_accepts_any_key_as_a_principal() {
    let server = TestApp::builder()
        .env("APP_ENV", "dev")
        .env("ADMIN_API_KEYS", "")
        .env("CLIENT_API_KEYS", "")
        .env("MINER_API_KEYS", "")
        .start()
        .await;
    let body = || json!({"name": "n", "steps": {"a": jq("1")}});
    let workflows = format!("{AGENTS}/workflows");
    let owner = |answer: Answer| answer.ok().text("owner_id").to_owned();
    assert_eq!(owner(ask(&server, None, Method::POST, &workflows, Some(body())).await), "dev_key");
    assert_eq!(owner(post_as(&server, "dev_key", &workflows, body()).await), "dev_key");
    let some = owner(post_as(&server, "any", &workflows, body()).await);
    assert!(some.starts_with("key_") && some.len() == 24, "{some}");
    assert_ne!(owner(post_as(&server, "other", &workflows, body()).await), some);
    assert_eq!(get_as(&server, "any", &workflows).await.header("x-total-count"), "1");
    assert_eq!(ask(&server, None, Method::GET, &workflows, None).await.header("x-total-count"), "2");
    // To present the principal of another is not to be it.
    assert_eq!(get_as(&server, &some, &workflows).await.header("x-total-count"), "0");
}

#[tokio::test]
async fn unsafe_settings_refuse_the_start_by_name() {
    let refused = |setting: &str, value: &str, also: &[(&str, &str)], said: &[&str]| {
        let mut builder = TestApp::builder().env(setting, value);
        for (name, value) in also {
            builder = builder.env(name, value);
        }
        let refusal = builder.refusal();
        for word in [setting].iter().chain(said) {
            assert!(refusal.contains(word), "{setting}={value} was refused without {word:?}: {refusal}");
        }
    };
    refused("ADMIN_API_KEYS", "", &[], &["empty"]);
    refused("CLIENT_API_KEYS", "", &[], &["empty"]);
    refused("MINER_API_KEYS", "[]", &[], &["empty"]);
    refused("ADMIN_API_KEYS", "short", &[], &["16 characters"]);
    refused("ADMIN_API_KEYS", "$ADMIN_KEY_OF_SOME_LENGTH", &[], &["placeholder"]);
    refused("CLIENT_API_KEYS", "your_api_key_here", &[], &["placeholder"]);
    refused("CLIENT_API_KEYS", ADMIN, &[], &["ADMIN_API_KEYS"]);
    refused("APP_HOST", "0.0.0.0", &[("APP_ENV", "dev")], &["APP_ENV=production", "APP_ALLOW_REMOTE_DEV"]);
    refused("APP_HOST", "::", &[("APP_ENV", "dev")], &["APP_ALLOW_REMOTE_DEV"]);
    refused("APP_ENV", "staging", &[], &["dev or production"]);
    refused("APP_PORT", "http", &[], &["0 to 65535"]);
    refused("DATABASE_URL", "postgresql://localhost/x", &[], &["sqlite:///"]);
    refused("RATE_LIMIT_REQUESTS", "many", &[], &[]);
    refused("RATE_LIMIT_WINDOW_SECONDS", "0", &[], &[]);
    refused("RECEIPT_SIGNING_KEY_HEX", "abc", &[], &["64 hex digits"]);
    refused("LOG_LEVEL", "loud", &[], &[]);
    refused("LOG_FORMAT", "xml", &[], &["json or text"]);
    refused("CORS_ORIGINS", "app.example", &[], &[]);
    refused("BODY_LIMIT_BYTES", "1", &[], &[]);
    refused("REQUEST_TIMEOUT_SECONDS", "0", &[], &[]);
    refused("HTTP_ENDPOINTS", "{\"x\": {\"url\": \"ftp://h/\", \"kind\": \"json\"}}", &[], &["http or https"]);
    let (status, log) =
        Server::builder().env("ADMIN_API_KEYS", "secret-but-bad key").env("APP_PORT", "99999").start_and_fail();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("ADMIN_API_KEYS") && log.contains("APP_PORT"), "all faults at once: {log}");
    assert!(!log.contains("secret-but-bad"), "{log}");
}

#[tokio::test]
async fn development_server_listens_remotely_only_when_allowed() {
    let server = Server::builder()
        .env("APP_ENV", "dev")
        .env("APP_HOST", "0.0.0.0")
        .env("APP_ALLOW_REMOTE_DEV", "true")
        .start()
        .await;
    ask(&server, None, Method::GET, &format!("{AGENTS}/workflows"), None).await.is(200);
}

#[tokio::test]
async fn development_server_obeys_no_page_and_no_proxy() {
    let server = TestApp::builder().env("APP_ENV", "dev").start().await;
    let url = server.url(&format!("{AGENTS}/workflows"));
    let body = json!({"name": "n", "steps": {"a": jq("1")}}).to_string();
    let post = |headers: &[(&str, &str)]| {
        let mut request = server.client().post(&url).body(body.clone());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    };
    let json = ("content-type", "application/json");
    let table = [
        (post(&[]), 415, "unsupported_media_type"),
        (post(&[("content-type", "text/plain")]), 415, "unsupported_media_type"),
        (post(&[json, ("host", "rebound.example")]), 403, "host_not_allowed"),
        (post(&[json, ("origin", "https://evil.example")]), 403, "cross_origin"),
        (post(&[json, ("sec-fetch-site", "cross-site")]), 403, "cross_origin"),
        (post(&[json, ("x-forwarded-for", "8.8.8.8")]), 403, "forwarded_not_allowed"),
        (post(&[json, ("content-encoding", "gzip")]), 415, "unsupported_encoding"),
        (post(&[json, ("content-encoding", "identity, br")]), 415, "unsupported_encoding"),
    ];
    for (request, status, code) in table {
        // Over a socket, as a browser sends it.
        let answer = Answer::of(request).await;
        assert_eq!((answer.status.as_u16(), answer.body["code"].as_str()), (status, Some(code)), "{}", answer.text);
        let taken = if code == "unsupported_encoding" { "identity" } else { "" };
        assert_eq!(answer.header("accept-encoding"), taken, "{code}");
    }
    assert_eq!(
        ask(&server, None, Method::GET, &format!("{AGENTS}/workflows"), None).await.header("x-total-count"),
        "0"
    );
    Answer::of(post(&[json])).await.ok();
    // A page can't send a key, so whoever sends one may leave the type out.
    Answer::of(post(&[("x-api-key", "any")])).await.ok();
    let socket = server.client().get(server.url(&format!("{AGENTS}/messages/stream?agent_id=a")));
    let socket =
        socket.header("connection", "upgrade").header("upgrade", "websocket").header("sec-websocket-version", "13");
    let socket =
        socket.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").header("origin", "https://evil.example");
    assert_eq!(Answer::of(socket).await.body["code"], "cross_origin");
}

#[tokio::test]
async fn a_query_of_many_parameters_is_refused_at_once() {
    let server = TestApp::start().await;
    let query: Vec<String> = (0..8000).map(|n| format!("x{n}=")).collect();
    let path = format!("{AGENTS}/workflows?{}", query.join("&"));
    ask(&server, None, Method::GET, &path, None).await.is(401);
    assert_eq!(get_as(&server, ADMIN, &path).await.is(422)["detail"][0]["loc"], json!(["query"]));
}

#[tokio::test]
async fn rate_limit_is_per_caller() {
    let server = TestApp::builder().env("RATE_LIMIT_REQUESTS", 3).env("RATE_LIMIT_WINDOW_SECONDS", 3600).start().await;
    let path = format!("{AGENTS}/workflows");
    for _ in 0..3 {
        get_as(&server, ADMIN, &path).await.is(200);
    }
    let refused = get_as(&server, ADMIN, &path).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (429, &json!("rate_limited")));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=1200).contains(&wait), "a third of the window gives one more: {wait}");
    get_as(&server, OTHER_ADMIN, &path).await.is(200);
    // By whatever name: the limit is the caller's.
    get_as(&server, ADMIN, "/v1/agents/workflows/").await.is(429);
    // Who has no key is limited by address, and probes are not limited at all.
    for _ in 0..3 {
        ask(&server, None, Method::GET, &path, None).await.is(401);
    }
    ask(&server, None, Method::GET, &path, None).await.is(429);
    for _ in 0..5 {
        ask(&server, None, Method::GET, "/health", None).await.is(200);
        ask(&server, None, Method::GET, "/metrics", None).await.is(200);
    }
    let metrics = ask(&server, None, Method::GET, "/metrics", None).await.text;
    assert!(metrics.contains("http_refused_total{code=\"rate_limited\"} 3"), "{metrics}");
}

#[tokio::test]
async fn cors_allows_configured_origins_only() {
    let server = TestApp::builder().env("CORS_ORIGINS", "https://app.example,https://b.example").start().await;
    let preflight = |origin: &str| {
        let request = server.client().request(Method::OPTIONS, server.url(&format!("{AGENTS}/workflows")));
        request
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "x-api-key,content-type,idempotency-key")
    };
    let allowed = Answer::of(preflight("https://b.example")).await;
    assert_eq!((allowed.status.as_u16(), allowed.header("access-control-allow-origin")), (200, "https://b.example"));
    for name in ["x-api-key", "content-type", "idempotency-key", "if-match", "last-event-id"] {
        assert!(allowed.header("access-control-allow-headers").contains(name), "{name}");
    }
    for method in ["GET", "POST", "PUT", "DELETE"] {
        assert!(allowed.header("access-control-allow-methods").contains(method), "{method}");
    }
    let stranger = Answer::of(preflight("https://evil.example")).await;
    assert_eq!(stranger.header("access-control-allow-origin"), "");
    let read = Answer::of(
        server.request(Method::GET, &format!("{AGENTS}/workflows")).header(header::ORIGIN, "https://app.example"),
    )
    .await;
    assert_eq!(read.header("access-control-allow-origin"), "https://app.example");
    for name in ["x-total-count", "link", "etag", "retry-after", "x-request-id", "idempotency-replayed"] {
        assert!(read.header("access-control-expose-headers").contains(name), "{name}");
    }
    // A refusal can be read by the page as well.
    let refused =
        server.client().get(server.url(&format!("{AGENTS}/workflows"))).header(header::ORIGIN, "https://app.example");
    let refused = Answer::of(refused).await;
    assert_eq!((refused.status.as_u16(), refused.header("access-control-allow-origin")), (401, "https://app.example"));
    // Without origins there is nothing of it.
    let server = server.restart_with(&[("CORS_ORIGINS", "")]).await;
    let answer = Answer::of(server.request(Method::GET, "/health").header(header::ORIGIN, "https://app.example")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn body_size_limit_holds_for_chunked_and_sized_requests() {
    let server = TestApp::builder().env("BODY_LIMIT_BYTES", 2048).start().await;
    let path = server.url(&format!("{AGENTS}/workflows"));
    let body = |bytes: usize| {
        let text = json!({"name": "n", "steps": {}, "description": ""}).to_string();
        let filling = "x".repeat(bytes - text.len());
        text.replace("\"description\":\"\"", &format!("\"description\":\"{filling}\""))
    };
    let post = || server.client().post(&path).header("x-api-key", ADMIN).header("content-type", "application/json");
    Answer::of(post().body(body(2048))).await.is(200);
    let large = Answer::of(post().body(body(2049))).await;
    assert_eq!((large.status.as_u16(), &large.body["code"]), (413, &json!("body_too_large")));
    assert!(large.body.text("detail").contains("2048"), "{}", large.text);
    let server = TestApp::builder().env("BODY_VALUE_LIMIT", 2000).start().await;
    let many = |count: usize| json!({"name": "n", "steps": {}, "tags": vec!["a,[:"; count]});
    server.post(&format!("{AGENTS}/workflows"), many(2_500)).await.is(413);
    let refused = server.post(&format!("{AGENTS}/workflows"), many(1_900)).await;
    assert_ne!(refused.status, 413, "brackets inside strings are not values: {}", refused.text);
    let pieces = |bytes: usize| {
        let pieces: Vec<_> =
            body(bytes).into_bytes().chunks(100).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
    };
    Answer::of(post().body(pieces(2048))).await.is(200);
    Answer::of(post().body(pieces(2049))).await.is(413);
}

/// Send these bytes, and read what comes back until the server closes or the answer is whole.
fn raw(port: u16, request: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = socket.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
        if answer.ends_with(b"}") {
            break;
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn request_timeout_is_answered_with_504() {
    let server = TestApp::builder().env("REQUEST_TIMEOUT_SECONDS", 4).start().await;
    // A client that announces more than it sends would hold its place for ever.
    let head = format!(
        "POST {AGENTS}/workflows HTTP/1.1\r\nHost: h\r\nX-Api-Key: {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    let answer = raw(server.port(), &head);
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("\"code\":\"timeout\""), "{answer}");
    // A wait never reaches that time: it is answered with what is there.
    let id = server.workflow(json!({"a": waiting()})).await;
    let run = server.post(&format!("{AGENTS}/workflows/{id}/execute?wait=600"), json!({})).await.is(200);
    assert_eq!(run["status"], "running");
}

#[tokio::test]
async fn request_id_is_in_answer_header_and_log() {
    let server = Server::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let id = server.workflow(json!({"a": jq("1")})).await;
    let path = format!("{AGENTS}/workflows/{id}/execute?wait=20");
    let run = server.request(Method::POST, &path).header("x-request-id", "my-request.1").header("traceparent", parent);
    let run = Answer::of(run).await;
    assert_eq!((run.status.as_u16(), run.header("x-request-id")), (200, "my-request.1"));
    let given = run.header("traceparent");
    assert!(
        given.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && !given.contains("b7ad6b7169203331"),
        "{given}"
    );
    let failed =
        server.request(Method::GET, &format!("{AGENTS}/workflows/none")).header("x-request-id", "my-request.2");
    assert_eq!(Answer::of(failed).await.is(404)["request_id"], "my-request.2");
    let fresh = server.get(&format!("{AGENTS}/workflows/none")).await;
    assert_eq!(fresh.body["request_id"], fresh.header("x-request-id"));
    assert_eq!(&fresh.header("traceparent")[3..35], fresh.header("x-request-id"));
    let bad = server.request(Method::GET, "/health").header("x-request-id", "a b{}").header("traceparent", "nonsense");
    let bad = Answer::of(bad).await;
    assert!(bad.header("x-request-id").len() == 32 && bad.header("traceparent").len() == 55);
    let mut server = server;
    server.terminate();
    let line =
        server.log().lines().find(|line| line.contains("my-request.1")).map(str::to_owned).expect("a line of it");
    assert!(line.contains("0af7651916cd43dd8448eb211c80319c"), "{line}");
}
