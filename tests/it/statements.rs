//! Every statement of the program, prepared by the databases that must take it: SQLite, with the tables that a migration makes,
//! and a real PostgreSQL (Debian's package), with the coordinator's own tables there and this service's translated.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use am_db::{
    dialect::Dialect,
    statement_list::{Listed, statements},
};
use sqlx::AssertSqlSafe;

use crate::kit::migrated_database;

/// Statements that only SQLite takes: those that ask for a row's place among all ever written, which PostgreSQL does not keep.
const MAX_SQLITE_ONLY: usize = 19;
/// The user that PostgreSQL runs as where the test is root, which it refuses.
const NOBODY: u32 = 65534;
const COORDINATOR_POSTGRES: &str = include_str!("../fixtures/coordinator/postgres.sql");
/// Made by the coordinator when it is first needed.
const PRICING_HISTORY: &str = "CREATE TABLE pricing_history (id VARCHAR NOT NULL PRIMARY KEY, price FLOAT NOT NULL, \
     demand_level FLOAT NOT NULL, created_at TIMESTAMP NOT NULL, competitor_prices JSON);";

/// Columns that are truth values: SQLite has integers for them.
const TRUTHS: [&str; 11] = [
    "am_runs.paused",
    "am_audit_entries.requires_investigation",
    "am_audit_counts.requires_investigation",
    "am_agents.performance_reported",
    "am_messages.pushed",
    "am_broadcasts.encrypted",
    "am_presence.online",
    "am_policy_alias_moves.rollback",
    "am_sandboxes.fixed",
    "am_workflow_list.is_public",
    "am_sandbox_list.is_active",
];

/// Tables of the coordinator that its PostgreSQL schema has no more.
const FORMER_TABLES: [&str; 8] = [
    "rl_configurations",
    "agent_portfolio",
    "portfolio_strategy",
    "portfolio_asset",
    "portfolio_trade",
    "rebalance_history",
    "portfolio_alert",
    "portfolio_snapshot",
];

/// In an order that does not change: by their place, and by their text within one.
fn all() -> Vec<&'static Listed> {
    let mut all: Vec<&Listed> = statements().collect();
    all.sort_by_key(|listed| (listed.place(), listed.texts(Dialect::Sqlite)));
    assert!(all.len() > 250, "only {} statements are listed", all.len());
    all
}

#[tokio::test]
async fn every_statement_is_prepared_by_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let db = migrated_database(&folder.path().join("t.db")).await;
    let mut faults = Vec::new();
    let mut conn = db.read().await.unwrap();
    for listed in all() {
        for text in listed.texts(Dialect::Sqlite) {
            let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN {text}"))).fetch_all(&mut *conn).await;
            // The coordinator makes that table late.
            let late = |error: &sqlx::Error| error.to_string().contains("no such table: pricing_history");
            if let Err(error) = explained
                && !late(&error)
            {
                faults.push(format!("{}: {error}\n    {text}", listed.place()));
            }
        }
        assert!(!listed.texts(Dialect::Sqlite).is_empty(), "{} names an unknown fragment", listed.place());
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// Only these inserts are completed with the columns that the coordinator's tables have beyond those that the statement names.
#[test]
fn rows_of_the_coordinators_tables_are_pushed() {
    for listed in all() {
        let Listed::Statement(_) = listed else { continue };
        for text in listed.texts(Dialect::Sqlite) {
            let table = text.trim_start().strip_prefix("INSERT INTO ");
            assert!(table.is_none_or(|table| table.starts_with("am_")), "{}: use push_row! for {text}", listed.place());
        }
    }
}

#[test]
fn every_statement_is_prepared_by_postgresql() {
    let mut script: Vec<String> = statements_of(COORDINATOR_POSTGRES);
    script.push(PRICING_HISTORY.to_owned());
    script.extend(translated_schema());
    let tables = script.len();
    let mut prepared = BTreeMap::new();
    let mut sqlite_only = BTreeSet::new();
    for listed in all() {
        let texts = listed.texts(Dialect::Postgres);
        if texts.is_empty() {
            sqlite_only.insert(listed.place());
        }
        for text in texts {
            let name = format!("s{}", prepared.len());
            script.push(format!("PREPARE {name} AS {}", one_line(&text)));
            prepared.insert(name, (listed.place(), text));
        }
    }
    assert!(sqlite_only.len() <= MAX_SQLITE_ONLY, "only SQLite can say {}: {sqlite_only:#?}", sqlite_only.len());
    let faults: Vec<String> = Postgres::start()
        .run(&script)
        .into_iter()
        .map(|(error, statement)| {
            let name = statement.strip_prefix("PREPARE ").and_then(|rest| rest.split(' ').next());
            match name.and_then(|name| prepared.get(name)) {
                Some((place, text)) => format!("{place}: {error}\n    {text}"),
                None => format!("the tables: {error}\n    {statement}"),
            }
        })
        .collect();
    assert!(faults.is_empty(), "{} faults of {}\n{}", faults.len(), script.len() - tables, faults.join("\n"));
}

/// A statement that only SQLite takes is told, so that the test above is no empty one.
#[test]
fn postgresql_refuses_what_only_sqlite_says() {
    let script = ["CREATE TABLE t (id TEXT PRIMARY KEY)", "PREPARE s0 AS SELECT rowid FROM t WHERE id IS $1"];
    let faults = Postgres::start().run(&script.map(str::to_owned));
    assert_eq!(faults.len(), 1, "{faults:?}");
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The statements of a file, without comments and triggers, each on one line.
fn statements_of(sql: &str) -> Vec<String> {
    let lines: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or(line)).collect();
    let mut found = Vec::new();
    let mut in_trigger = false;
    for statement in lines.join("\n").split(';') {
        let statement = one_line(statement);
        in_trigger |= statement.starts_with("CREATE TRIGGER");
        // An index of texts, which is one of the table's own there.
        let is_left_out = ["DROP TRIGGER", "CREATE VIRTUAL TABLE"].iter().any(|words| statement.starts_with(words));
        if !in_trigger && !statement.is_empty() && !is_left_out {
            found.push(format!("{statement};"));
        }
        in_trigger &= statement != "END";
    }
    found
}

/// This service's tables as PostgreSQL would have them (docs/ARCHITECTURE.md says by which rules), and those of the coordinator's
/// that its PostgreSQL schema does not have.
fn translated_schema() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut schema = vec![
        "CREATE TABLE am_migrations (version BIGINT NOT NULL PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
         execution_time BIGINT NOT NULL);"
            .to_owned(),
    ];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let own = !file.ends_with("coordinator.sql");
        let former = |statement: &str| FORMER_TABLES.iter().any(|table| statement.contains(table));
        let statements = statements_of(&text).into_iter().filter(|statement| own || former(statement));
        schema.extend(statements.map(|statement| translated(&statement)));
    }
    schema
}

fn translated(statement: &str) -> String {
    let Some((head, columns)) = statement.strip_prefix("CREATE TABLE ").and_then(|rest| rest.split_once(" (")) else {
        let typed = statement.replace("ADD COLUMN security_level TEXT", "ADD COLUMN security_level VARCHAR");
        let typed = typed.replace("ADD COLUMN ended_at TEXT", "ADD COLUMN ended_at TIMESTAMP");
        return typed.replace("ADD COLUMN made_at TEXT", "ADD COLUMN made_at TIMESTAMP");
    };
    let columns = columns.replace(" WITHOUT ROWID", "").replace(" AUTOINCREMENT", "");
    // A table may be made before the one that it refers to.
    let columns = columns.trim().trim_end_matches(");").split(", ").filter(|column| !column.contains("FOREIGN KEY"));
    let columns: Vec<String> = columns.map(|column| translated_column(head, column)).collect();
    format!("CREATE TABLE {head} ({});", columns.join(", "))
}

fn translated_column(table: &str, column: &str) -> String {
    let name = column.split(' ').next().unwrap_or_default();
    let is_moment =
        name.ends_with("_at") || name.ends_with("_until") || ["held_since", "deadline", "last_seen"].contains(&name);
    let column = column.replace("DATETIME", "TIMESTAMP").replace(" REAL", " DOUBLE PRECISION");
    if TRUTHS.contains(&format!("{table}.{name}").as_str()) {
        return column.replace(" INTEGER", " BOOLEAN").replace("DEFAULT 0", "DEFAULT FALSE");
    }
    if column.contains("INTEGER") && column.contains("PRIMARY KEY") {
        return format!("{name} BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY");
    }
    let column = column.replace(" INTEGER", " BIGINT");
    if is_moment { column.replace(" TEXT", " TIMESTAMP") } else { column }
}

/// A PostgreSQL of its own, in single-user mode: a backend that reads statements, one a line, and listens on nothing.
struct Postgres {
    place: tempfile::TempDir,
}

impl Postgres {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        if is_root() {
            std::os::unix::fs::chown(place.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = command("initdb")
            .args(["--no-locale", "--encoding=UTF8", "--auth=trust", "--no-sync", "--username=postgres", "-D"])
            .arg(place.path().join("data"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {said}{}", String::from_utf8_lossy(&made.stdout));
        Self { place }
    }

    /// What it has against which of these statements.
    fn run(&self, script: &[String]) -> Vec<(String, String)> {
        let mut child = command("postgres")
            .args(["--single", "-F", "-c", "exit_on_error=false", "-c", "log_min_error_statement=error", "-D"])
            .arg(self.place.path().join("data"))
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.place.path().join("said")).unwrap())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(script.join("\n").as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
        drop(input);
        let status = child.wait().unwrap();
        let said = fs::read_to_string(self.place.path().join("said")).unwrap();
        assert!(status.success(), "postgres: {said}");
        let mut faults: Vec<(String, String)> = Vec::new();
        for line in said.lines() {
            if let Some((_, error)) = line.split_once("ERROR:  ") {
                faults.push((error.to_owned(), String::new()));
            } else if let (Some((_, statement)), Some(fault)) = (line.split_once("STATEMENT:  "), faults.last_mut()) {
                fault.1 = statement.to_owned();
            }
        }
        faults
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program of PostgreSQL's, as a user that it accepts. It keeps root's right to read, since the program may stand where only root
/// may look.
fn command(name: &str) -> Command {
    let program = program(name);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let user = NOBODY.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]).arg(program);
    command
}

fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/lib/postgresql/15/bin")])
        .map(|place| place.join(name))
        .find(|file| file.is_file())
        .expect(
            "PostgreSQL is not there: `apt-get install postgresql-15`, or `make test`, which unpacks it below target/",
        )
}
