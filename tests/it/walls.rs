//! The house's walls (docs/ARCHITECTURE.md), read from the source: which room may use which, and what stays where.

use std::{collections::BTreeMap, fs, path::Path};

/// From the ground up. A room uses rooms on lower floors only. The shell (executable, routes, the floor that all routes
/// share) stands on all of them and is no room.
const FLOORS: [&[&str]; 9] = [
    &["ambient"],
    &["db", "crypto", "config", "net"],
    &["events", "webhooks"],
    &["audit"],
    &["rl", "security", "jobs", "ledger", "keys"],
    &["portfolio", "communication", "creativity"],
    &["orchestration"],
    &["marketplace", "performance", "deployment"],
    &["main", "bin", "lib", "commands", "app", "lifecycle", "logging", "routes", "http"],
];
/// A file's lines at most.
const MOST_LINES: usize = 500;
struct Source {
    /// Below `src`, with `/`.
    path: String,
    room: String,
    /// Without comments and tests.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() && file.file_name().is_some_and(|name| name != "tests") {
                folders.push(file);
            } else if file.extension().is_some_and(|kind| kind == "rs") && !file.ends_with("tests.rs") {
                let text = fs::read_to_string(&file).unwrap();
                let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                let room = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
                found.push(Source { code: code(&text), lines: text.lines().count(), path, room });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "only {} files under {}", found.len(), root.display());
    found
}

/// The text without comments, and without what follows the first test module, which stands at a file's end.
fn code(text: &str) -> String {
    let text = text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at]);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// `lib.rs` only lists the rooms.
fn floor(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("the room {room} stands on no floor: say on which, in docs/ARCHITECTURE.md and here"))
}

/// The paths behind `crate::` (or `agent_management::`), with braces opened: `crate::{db::{self, Tx}, jobs}` names `db`,
/// `db::Tx` and `jobs`.
fn uses(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "agent_management::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_') {
                tree(&code[at + root.len()..], "", &mut found);
            }
        }
    }
    found
}

/// Read one use tree; answers how many bytes it took.
fn tree(text: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    let mut path = prefix.to_owned();
    loop {
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            loop {
                at += text[at..].len() - text[at..].trim_start_matches(|c: char| c.is_whitespace() || c == ',').len();
                if text[at..].is_empty() {
                    return at;
                }
                if text[at..].starts_with('}') {
                    return at + 1;
                }
                let took = tree(&text[at..], &path, found);
                // Something that is no use tree, such as a block: leave it.
                if took == 0 {
                    return at;
                }
                at += took;
            }
        }
        let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
        at += word.len();
        if word.is_empty() {
            return if rest.starts_with('*') { at + 1 } else { at };
        }
        if word != "self" {
            path = if path.is_empty() { word } else { format!("{path}::{word}") };
        }
        let rest = &text[at..];
        if let Some(more) = rest.strip_prefix("::") {
            at += 2;
            if more.starts_with('<') {
                found.push(path);
                return at;
            }
            continue;
        }
        found.push(path);
        // `x as y`
        let renamed = rest.strip_prefix(" as ").map(|name| 4 + name.chars().take_while(|c| is_word(*c)).count());
        return at + renamed.unwrap_or(0);
    }
}

/// Every breach of a wall: its file, and what it does.
fn breaches(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources()
        .iter()
        .flat_map(|source| check(source).into_iter().map(|what| format!("src/{}: {what}", source.path)))
        .collect()
}

#[track_caller]
fn none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

fn is_shell(room: &str) -> bool {
    floor(room) == FLOORS.len() - 1
}

#[test]
fn rooms_use_lower_floors_only() {
    let rooms: Vec<String> = FLOORS.iter().flat_map(|floor| floor.iter().map(|room| (*room).to_owned())).collect();
    none(breaches(|source| {
        let own = floor(&source.room);
        let named = uses(&source.code);
        let others = named
            .iter()
            .filter_map(|path| path.split("::").next())
            .filter(|room| rooms.iter().any(|r| r == room) && *room != source.room);
        others
            .filter(|other| !is_shell(&source.room) && floor(other) >= own)
            // The floor that all routes share is no room of its own: it may not know the routes above it.
            .chain(
                named
                    .iter()
                    .filter_map(|path| path.split("::").next())
                    .filter(|room| source.room == "http" && matches!(*room, "app" | "routes" | "lifecycle")),
            )
            .map(|other| format!("uses {other}, which is not below {}", source.room))
            .collect()
    }));
}

#[test]
fn a_rooms_store_and_its_sql_stay_in_it() {
    let is_store = |path: &str| path.ends_with("/store.rs") || path.starts_with("db/") || path == "db.rs";
    none(breaches(|source| {
        let mut found = Vec::new();
        for path in uses(&source.code) {
            let parts: Vec<&str> = path.split("::").collect();
            if parts[0] != source.room && parts.contains(&"store") {
                found.push(format!("reaches into the store of {}", parts[0]));
            }
        }
        for sql in ["sqlx::query", "sqlx::raw_sql", "QueryBuilder", "query_as", "query_scalar"] {
            if !is_store(&source.path) && source.code.contains(sql) {
                found.push(format!("has SQL ({sql}), which stands in files named store.rs and in db/"));
            }
        }
        if source.code.contains("pub mod store") {
            found.push("shows its store".to_owned());
        }
        found
    }));
}

/// Writes that change nothing an auditor would ask about, and how many there are in each file.
const BOOKKEEPING: [(&str, usize, &str); 14] = [
    ("communication/messages/mod.rs", 1, "that what was fetched came"),
    ("communication/messages/office.rs", 3, "all three write what post.rs makes, and that tells the log"),
    ("communication/delivery/notes.rs", 2, "that messages came, and who has a socket"),
    ("audit/seal.rs", 3, "seals what is written"),
    ("audit/follow.rs", 1, "where a reader of the log begins"),
    ("security/trust/reader.rs", 1, "counts what the log tells"),
    ("orchestration/engine/claim/mod.rs", 2, "which process drives a run"),
    ("orchestration/engine/lease.rs", 3, "which processes live"),
    ("rl/runs/driver.rs", 2, "progress of a run under way, and the function that all writes of the driver go through"),
    ("orchestration/engine/mod.rs", 1, "a first save is one of two writes"),
    ("orchestration/workflows/mod.rs", 1, "a new workflow is one of two writes"),
    ("webhooks/mod.rs", 2, "stands below the log: the routes pass in the entries, as rows"),
    ("webhooks/worker.rs", 3, "attempts, which each delivery keeps its own record of"),
    ("routes/kept.rs", 1, "answers of requests that change nothing"),
];

#[test]
fn no_room_writes_without_telling_the_audit_log() {
    none(breaches(|source| {
        if source.room == "db" {
            return Vec::new();
        }
        let count = |words: &[&str]| words.iter().map(|word| source.code.matches(word).count()).sum::<usize>();
        let writes = count(&[".write(async", ".write(expire", ".write(work", ".write({", ".write_once", ".db.insert("]);
        let tells = count(&[
            "audit.append(",
            "audit.record(",
            "audit.add_to(",
            "audit.rows(",
            "library::publish(",
            " publish(tx",
        ]);
        let known = BOOKKEEPING.iter().find(|(path, ..)| *path == source.path).map_or(0, |(_, known, _)| *known);
        match writes > tells + known {
            true => vec![format!("has {writes} writes and tells the audit log {tells} times (of {known} it need not)")],
            false => Vec::new(),
        }
    }));
}

#[test]
fn libtorch_is_named_in_one_room() {
    let named = |source: &Source| {
        let mut found = source.code.match_indices("tch::");
        found.any(|(at, _)| !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let outside = |source: &Source| source.room != "rl" && named(source);
    none(breaches(|source| if outside(source) { vec!["names tch".to_owned()] } else { Vec::new() }));
    assert!(sources().iter().any(|source| source.room == "rl" && named(source)), "the wall is looked for in vain");
}

#[test]
fn rooms_know_nothing_of_http() {
    // A call to a configured endpoint is a client's business, and has its own crate.
    none(breaches(|source| {
        let words = ["axum", "StatusCode", "HeaderMap", "tower_http", "utoipa::path"];
        let found = words.into_iter().filter(|word| !is_shell(&source.room) && source.code.contains(*word));
        found.map(|word| format!("speaks of {word}")).collect()
    }));
}

#[test]
fn time_and_chance_come_from_one_place() {
    none(breaches(|source| {
        let words =
            ["Utc::now", "Local::now", "SystemTime::now", "Uuid::new_v4", "rand::rng(", "rand::random", "thread_rng"];
        let found = words.into_iter().filter(|word| source.path != "ambient.rs" && source.code.contains(*word));
        found.map(|word| format!("asks {word} itself, not ambient")).collect()
    }));
}

#[test]
fn files_stay_readable() {
    let long: Vec<Source> = sources().into_iter().filter(|source| source.lines > MOST_LINES).collect();
    none(
        long.iter()
            .map(|source| format!("src/{}: has {} lines, over {MOST_LINES}", source.path, source.lines))
            .collect(),
    );
}

#[test]
fn every_room_says_in_a_line_what_it_is() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let lines: Vec<&str> = lib.lines().collect();
    let mut rooms = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(room) = line.strip_prefix("pub mod ") {
            rooms.insert(room.trim_end_matches(';').to_owned(), lines[at - 1].starts_with("/// "));
        }
    }
    for source in sources().iter().filter(|source| !matches!(source.room.as_str(), "main" | "bin" | "commands" | "lib"))
    {
        assert_eq!(rooms.get(&source.room), Some(&true), "src/lib.rs has no line of meaning for {}", source.room);
    }
}

/// The names of all tests, by the file that they stand in: `audit/merkle.rs` and `it/security/hostile.rs`.
fn tests_by_file() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join("src"), root.join("tests/it")]);
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
            found.push((file.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), names));
        }
    }
    found
}

#[test]
fn the_threat_model_names_tests_that_exist() {
    let model = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md")).unwrap();
    let all = tests_by_file();
    let mut named = 0;
    for name in model.split('`').filter(|word| word.contains("::") && !word.contains(' ')) {
        named += 1;
        let (module, test) = name.rsplit_once("::").unwrap();
        let place = module.trim_end_matches("::tests").replace("::", "/");
        let places = [
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
fn the_reader_of_uses_sees_what_it_must() {
    let code = "use crate::{\n    db::{self, codec::{Doc, Timestamp}, once::Done as D},\n    jobs,\n};\nlet x = crate::rl::Policies::open();";
    let expected = ["db", "db::codec::Doc", "db::codec::Timestamp", "db::once::Done", "jobs", "rl::Policies::open"];
    assert_eq!(uses(code), expected);
}
