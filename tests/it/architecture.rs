//! The rules of docs/ARCHITECTURE.md that the compiler can't hold, read from the source and the manifests.

use std::{collections::BTreeSet, fs};

use crate::sources::{Source, crates, paths_behind, root, sources};

/// The crates' layers, lowest first. A crate depends on crates of lower layers only. The root package (executable,
/// routes, what all routes share) stands above all of them.
const LAYERS: [&[&str]; 11] = [
    &["agent-process", "core", "json-schema", "performance-math", "portfolio-math", "sandbox-init", "zk"],
    &["jq-worker"],
    &["db"],
    &["events", "webhooks"],
    &["audit"],
    &["ledger", "background"],
    &["rl", "security", "jobs", "keys"],
    &["communication", "creativity", "deployment", "marketplace", "portfolio"],
    &["orchestration"],
    &["performance", "proofs", "retention"],
    &["."],
];
/// A file's lines at most.
const MAX_FILE_LINES: usize = 500;

/// The paths behind `crate::` (or `agent_management::`).
fn uses(code: &str) -> Vec<String> {
    ["crate::", "agent_management::"].into_iter().flat_map(|root| paths_behind(root, code)).collect()
}

/// Every breach of a rule: its file, and what it does.
fn breaches(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources()
        .iter()
        .flat_map(|source| check(source).into_iter().map(|what| format!("{}: {what}", source.path)))
        .collect()
}

#[track_caller]
fn none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// The own crates that a manifest's `[dependencies]` name, by their folder.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let section = rest.split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.split_once(['.', ' ', '=']).map(|(name, _)| name));
    names
        .filter_map(|name| match name {
            "agent-management-jq" => Some("jq-worker".to_owned()),
            "agent-management-sandbox" => Some("sandbox-init".to_owned()),
            "agent-management-agent" => Some("agent-process".to_owned()),
            _ => name.strip_prefix("am-").map(str::to_owned),
        })
        .collect()
}

/// What docs/ARCHITECTURE.md shows: a line for each crate with the crates it depends on.
fn graph() -> String {
    let shown = |name: &str| if name == "." { "agent-management (src/)".to_owned() } else { name.to_owned() };
    let mut text = String::new();
    for name in LAYERS.iter().rev().flat_map(|layer| layer.iter()) {
        let folder = if *name == "." { ".".to_owned() } else { format!("crates/{name}") };
        let below: Vec<String> = dependencies(&folder).into_iter().collect();
        let line = format!("{:<24} {}", shown(name), if below.is_empty() { "-".to_owned() } else { below.join(" ") });
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[test]
fn crates_depend_on_lower_layers_only() {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut found = Vec::new();
    for name in crates() {
        let Some(own) = layer(&name) else {
            found.push(format!("crates/{name} has no layer: give it one here and in docs/ARCHITECTURE.md"));
            continue;
        };
        for below in dependencies(&format!("crates/{name}")) {
            if layer(&below).is_none_or(|below| below >= own) {
                found.push(format!("crates/{name} depends on {below}, which is not below it"));
            }
        }
    }
    none(found);
}

/// Without it a crate's test executable does not find libtorch when it is started as it lies, as `cargo test` may.
#[test]
fn crates_above_libtorch_tell_the_linker_where_it_is() {
    let mut linked = BTreeSet::from(["rl".to_owned()]);
    let mut found = Vec::new();
    for name in LAYERS.concat().into_iter().filter(|name| *name != ".") {
        let folder = format!("crates/{name}");
        if name != "rl" && dependencies(&folder).is_disjoint(&linked) {
            continue;
        }
        linked.insert(name.to_owned());
        let manifest = fs::read_to_string(root().join(&folder).join("Cargo.toml")).unwrap();
        if !manifest.contains("\nbuild = \"../../build.rs\"\n") {
            found.push(format!("{folder}/Cargo.toml lacks build = \"../../build.rs\""));
        }
    }
    assert!(linked.len() > 1, "no crate depends on rl");
    none(found);
}

#[test]
fn architecture_document_shows_the_crates_graph() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let graph = graph();
    assert!(document.contains(&graph), "docs/ARCHITECTURE.md must show the crates as they are:\n\n{graph}");
}

#[test]
fn shared_http_modules_do_not_know_the_routes() {
    none(breaches(|source| {
        let known = uses(&source.code).into_iter().filter(|_| source.in_root && source.module == "http");
        known
            .filter(|path| matches!(path.split("::").next(), Some("app" | "routes" | "lifecycle")))
            .map(|path| format!("uses {path}"))
            .collect()
    }));
}

#[test]
fn sql_stands_in_stores_and_in_the_database_crate() {
    let is_store = |path: &str| path.ends_with("/store.rs") || path.starts_with("db/");
    none(breaches(|source| {
        let mut found = Vec::new();
        for sql in ["sqlx::query", "sqlx::raw_sql", "QueryBuilder", "query_as", "query_scalar"] {
            if !is_store(&source.path) && source.code.contains(sql) {
                found.push(format!("has SQL ({sql}), which stands in files named store.rs and in crates/db"));
            }
        }
        if source.code.contains("pub mod store") {
            found.push("shows its store".to_owned());
        }
        found
    }));
}

/// What only SQLite says, and what says it for all databases.
const SQLITE_WORDS: [(&str, &str); 24] = [
    ("json_each", "{texts $1}, {integers $1}, {records $1 ...}"),
    ("json_array", "{array ...}"),
    ("json_group_array", "{arrays ...}"),
    ("json_valid", "{member column name}"),
    ("json_extract", "{member column name}"),
    ("->>", "{member column name}"),
    ("rowid", "{place alias}"),
    ("sqlite_", "{last table}"),
    ("instr(", "{contains column $1}"),
    ("iif(", "CASE"),
    ("ifnull(", "coalesce"),
    ("group_concat(", "string_agg"),
    ("total(", "coalesce(sum(...), 0)"),
    ("PRAGMA", "am_db"),
    ("SAVEPOINT", "am_db"),
    ("INDEXED BY", "{by index}"),
    ("CROSS JOIN", "{then}"),
    (" GLOB ", "LIKE"),
    ("INSERT OR ", "ON CONFLICT"),
    ("datetime(", "a moment bound as a parameter"),
    ("(?", "$1"),
    ("= ?", "$1"),
    ("> ?", "$1"),
    (", ?", "$1"),
];

/// The texts of a source file's string literals.
fn literals(code: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), code);
    while let Some(at) = rest.find('"') {
        // A quotation mark as a character begins no text.
        if rest[..at].ends_with('\'') && rest[at + 1..].starts_with('\'') {
            rest = &rest[at + 1..];
            continue;
        }
        let text = &rest[at + 1..];
        let mut escaped = false;
        let end = text.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(end) = end else { break };
        found.push(&text[..end]);
        rest = &text[end + 1..];
    }
    found
}

#[test]
fn stores_hold_sql_that_other_databases_take() {
    none(breaches(|source| {
        if source.module == "db" || !source.path.ends_with("/store.rs") {
            return Vec::new();
        }
        let mut found: Vec<String> = SQLITE_WORDS
            .iter()
            .filter(|(word, _)| literals(&source.code).iter().any(|text| text.contains(word)))
            .map(|(word, instead)| format!("says {word}, which only SQLite takes: {instead} says it for all"))
            .collect();
        for own in ["sqlx::", "QueryBuilder", "try_get"] {
            if source.code.contains(own) {
                found.push(format!("has {own} where am_db's statements and rows belong"));
            }
        }
        found
    }));
    let quoted = r#"let a = 'x' == '"'; f("SELECT \"rowid\"", "b")"#;
    assert_eq!(literals(quoted), [r#"SELECT \"rowid\""#, "b"], "the reader of literals sees what it must");
}

/// Writes that change nothing an auditor would ask about, and how many there are in each file.
const BOOKKEEPING: [(&str, usize, &str); 43] = [
    ("deployment/fleet/checks.rs", 1, "what checks of instances found"),
    ("deployment/fleet/look.rs", 2, "that a process has ended, and the token of one whose file was lost"),
    ("deployment/fleet/sampling.rs", 1, "what was measured, and alerts, which keep their own record"),
    ("deployment/fleet/steps.rs", 1, "a canary's calls so far"),
    ("performance/suites/worker.rs", 4, "runs tell of themselves, the end of an evaluation of its cases"),
    ("performance/resources/sweep.rs", 1, "the function that ends what is due tells the log"),
    (
        "background/driver.rs",
        2,
        "progress of a task under way, and the function that all writes of the driver go through",
    ),
    ("keys/lib.rs", 1, "when keys were used last"),
    ("webhooks/hooks/mod.rs", 2, "stands below the log: the routes pass in the entries, as rows"),
    ("audit/event_webhooks.rs", 1, "tells what the log has"),
    ("orchestration/bulk/work.rs", 3, "each execution's change tells the log itself; deletes what ended long ago"),
    ("communication/messages/mod.rs", 1, "that what was fetched came"),
    ("communication/messages/send_queue.rs", 3, "all three write what message_writer.rs makes, and that tells the log"),
    ("communication/delivery/event_recorder.rs", 2, "that messages came, and who has a socket"),
    ("audit/sealing.rs", 4, "seals what is written"),
    (
        "audit/continuity.rs",
        2,
        "changes of keys and restores are entries themselves, and disowned ones stay in the log",
    ),
    ("audit/witnesses/mod.rs", 1, "cosignatures, each over a head that tells all"),
    ("audit/consumer.rs", 1, "where a reader of the log begins"),
    ("security/trust/audit_consumer.rs", 1, "counts what the log tells"),
    ("orchestration/engine/claim/mod.rs", 2, "which process drives a run"),
    ("orchestration/engine/costs/mod.rs", 1, "sets free what budgets reserve for executions that have ended"),
    ("orchestration/engine/lease.rs", 3, "which processes live"),
    ("rl/runs/driver.rs", 2, "progress of a run under way, and the function that all writes of the driver go through"),
    ("rl/runs/driver/environment.rs", 1, "that a run whose bridge is asked is under way"),
    ("orchestration/engine/first_save.rs", 1, "a first save is one of two writes"),
    ("rl/outcomes/mod.rs", 1, "what a call earned, which is kept with the call"),
    ("orchestration/executions/mod.rs", 1, "two writes go through one change, which tells the log"),
    ("orchestration/workflows/mod.rs", 1, "a new workflow is one of two writes"),
    ("marketplace/requests/mod.rs", 1, "tells by `note` in advance.rs"),
    ("marketplace/requests/acceptance.rs", 1, "tells by `advance` in advance.rs"),
    ("marketplace/requests/completion.rs", 3, "tells by `advance` and `note` in advance.rs"),
    ("marketplace/requests/passing.rs", 4, "tells by `advance` in advance.rs"),
    ("marketplace/scores/mod.rs", 1, "computed from ratings, of which the log tells"),
    ("marketplace/suggestions/mod.rs", 1, "counts payments, of which the log tells"),
    (
        "retention/sweep.rs",
        3,
        "deletes what an archive holds, of which the log tells, and counts it; the function that tells appends itself",
    ),
    ("webhooks/lib.rs", 2, "stands below the log: the routes pass in the entries, as rows"),
    ("webhooks/delivery_worker.rs", 3, "attempts, which each delivery keeps its own record of"),
    (
        "orchestration/assignments/notifications.rs",
        2,
        "whom to tell and how that went; what is said then is taken in elsewhere",
    ),
    ("orchestration/plans/mod.rs", 2, "answers of what others did and told of"),
    ("portfolio/settlement/worker.rs", 4, "signs and sends what the log tells of, until its end, which it tells"),
    ("portfolio/reviews/mod.rs", 1, "when a portfolio is looked at next"),
    ("performance/profiles/worker.rs", 3, "counts what the log tells of, and what was reported"),
    ("routes/recorded_response.rs", 1, "answers of requests that change nothing"),
];

#[test]
fn every_write_has_its_audit_entry() {
    none(breaches(|source| {
        if source.module == "db" {
            return Vec::new();
        }
        let count = |words: &[&str]| words.iter().map(|word| source.code.matches(word).count()).sum::<usize>();
        let writes =
            count(&[".write(async", ".write(expire", ".write(work", ".write({", ".write_idempotent", ".db.insert("]);
        let tells =
            count(&["audit.append(", "audit.record(", "audit.add_entry_rows(", "audit.rows(", "publish_version(tx"]);
        let known = BOOKKEEPING.iter().find(|(path, ..)| *path == source.path).map_or(0, |(_, known, _)| *known);
        match writes > tells + known {
            true => vec![format!("has {writes} writes and tells the audit log {tells} times (of {known} it need not)")],
            false => Vec::new(),
        }
    }));
}

#[test]
fn libtorch_is_named_in_one_crate() {
    let named = |source: &Source| {
        let mut found = source.code.match_indices("tch::");
        found.any(|(at, _)| !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let outside = |source: &Source| source.module != "rl" && named(source);
    none(breaches(|source| if outside(source) { vec!["names tch".to_owned()] } else { Vec::new() }));
    assert!(sources().iter().any(|source| source.module == "rl" && named(source)), "the rule is looked for in vain");
}

#[test]
fn crates_know_nothing_of_http() {
    // A call to a configured endpoint is a client's business, and has its own crate.
    none(breaches(|source| {
        let words = ["axum", "StatusCode", "HeaderMap", "tower_http", "utoipa::path"];
        let found = words.into_iter().filter(|word| !source.in_root && source.code.contains(*word));
        found.map(|word| format!("speaks of {word}")).collect()
    }));
}

#[test]
fn time_and_chance_come_from_one_place() {
    none(breaches(|source| {
        let words =
            ["Utc::now", "Local::now", "SystemTime::now", "Uuid::new_v4", "rand::rng(", "rand::random", "thread_rng"];
        let found = words.into_iter().filter(|word| source.path != "core/ambient.rs" && source.code.contains(*word));
        found.map(|word| format!("asks {word} itself, not am_core::ambient")).collect()
    }));
}

#[test]
fn files_stay_readable() {
    let long: Vec<Source> = sources().into_iter().filter(|source| source.lines > MAX_FILE_LINES).collect();
    none(
        long.iter()
            .map(|source| format!("{}: has {} lines, over {MAX_FILE_LINES}", source.path, source.lines))
            .collect(),
    );
}

#[test]
fn every_crate_and_root_module_says_in_a_line_what_it_is() {
    for name in crates() {
        let lib = fs::read_to_string(root().join("crates").join(&name).join("src/lib.rs")).unwrap();
        assert!(lib.starts_with("//! "), "crates/{name}/src/lib.rs does not begin with what the crate is");
    }
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let lines: Vec<&str> = lib.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("pub mod ")) {
        assert!(lines[at - 1].starts_with("/// "), "src/lib.rs: no line of meaning for {line}");
    }
}

/// The names of all tests, by the file that they stand in: `audit/merkle.rs` and `it/security/hostile.rs`.
fn tests_by_file() -> Vec<(String, Vec<String>)> {
    let (mut found, mut folders) =
        (Vec::new(), vec![root().join("src"), root().join("crates"), root().join("tests/it")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            let text = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let is_test = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
            let named = lines.windows(2).filter(|pair| is_test(pair[0])).filter_map(|pair| pair[1].split_once("fn "));
            let names = named.map(|(_, rest)| rest.split('(').next().unwrap_or_default().to_owned()).collect();
            found.push((file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), names));
        }
    }
    found
}

#[test]
fn the_threat_model_names_tests_that_exist() {
    let model = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let all = tests_by_file();
    let mut named = 0;
    for name in model.split('`').filter(|word| word.contains("::") && !word.contains(' ')) {
        named += 1;
        let (module, test) = name.rsplit_once("::").unwrap();
        let place = module.trim_end_matches("::tests").replace("::", "/");
        let in_crate = match place.split_once('/') {
            Some((name, rest)) => format!("crates/{name}/src/{rest}"),
            None => format!("crates/{place}/src"),
        };
        let in_core = format!("crates/core/src/{place}");
        let places = [
            format!("{in_crate}.rs"),
            format!("{in_crate}/tests.rs"),
            format!("{in_core}.rs"),
            format!("src/{place}.rs"),
            format!("src/{place}/tests.rs"),
            format!("tests/it/{place}.rs"),
            format!("tests/it/{place}/mod.rs"),
        ];
        let here = all.iter().filter(|(file, _)| places.contains(file)).flat_map(|(_, tests)| tests);
        let mut here = here.filter(|found| test == "*" || *found == test);
        assert!(here.next().is_some(), "SECURITY.md names {name}, and there is none");
    }
    assert!(named > 40, "{named}");
}

#[test]
fn the_table_of_faults_names_tests_that_exist() {
    let table = fs::read_to_string(root().join("docs/FAULTS.md")).unwrap();
    let all: Vec<String> = tests_by_file().into_iter().flat_map(|(_, tests)| tests).collect();
    let mut named = 0;
    for row in table.lines().filter(|row| row.starts_with("| ") && !row.starts_with("| kind")) {
        let tests = row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2);
        for name in tests.filter(|name| !name.starts_with("scripts/")) {
            named += 1;
            let test = name.rsplit("::").next().unwrap();
            let exists = match test.strip_prefix("...") {
                Some(ending) => all.iter().any(|found| found.ends_with(ending)),
                None => all.iter().any(|found| found == test),
            };
            assert!(exists, "docs/FAULTS.md names {name}, and there is none");
        }
    }
    assert!(named > 100, "{named}");
}
