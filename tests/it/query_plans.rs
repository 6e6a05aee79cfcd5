//! The query plan of every statement on tables whose statistics say that they are large.

use std::{path::Path, time::Duration};

use am_core::ambient::Clock;
use am_db::{Database, DatabaseSettings, dialect::Dialect, statement_list::statements};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

/// Rows of each table.
const ROWS: i64 = 1_000_000;
/// Rows of each partial index: what is open, due or waiting.
const OPEN_ROWS: i64 = 1000;
/// Tables that grow with every execution and that the engine asks several times a second.
const GROWING: [&str; 3] = ["am_runs", "am_events", "am_definitions"];

/// A database with the service's tables, which are empty and said to be large.
async fn large_database(path: &Path) -> SqliteConnection {
    let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
    let db = Database::open(path, &settings).await.unwrap();
    am_db::migrate(&db, &Clock::system()).await.unwrap();
    drop(db);
    let mut conn = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("ANALYZE; DELETE FROM sqlite_stat1").execute(&mut conn).await.unwrap();
    let indexes = "SELECT t.name, i.name, i.\"unique\", i.partial, (SELECT count(*) FROM pragma_index_info(i.name))
         FROM sqlite_master t, pragma_index_list(t.name) i WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'";
    let indexes: Vec<(String, String, bool, bool, u32)> = sqlx::query_as(indexes).fetch_all(&mut conn).await.unwrap();
    assert!(indexes.len() > 100, "{}", indexes.len());
    for (table, index, unique, partial, columns) in indexes {
        let rows = if partial { OPEN_ROWS } else { ROWS };
        // Rows that agree in the first columns.
        let equal = (1..=columns).map(|at| if at == columns && unique { 1 } else { (rows / 10_i64.pow(at)).max(1) });
        let stat: Vec<String> = std::iter::once(rows).chain(equal).map(|count| count.to_string()).collect();
        let insert = sqlx::query("INSERT INTO sqlite_stat1 VALUES ($1, $2, $3)").bind(table).bind(index);
        insert.bind(stat.join(" ")).execute(&mut conn).await.unwrap();
    }
    // Read anew by whoever connects.
    conn.close().await.unwrap();
    SqliteConnection::connect(path.to_str().unwrap()).await.unwrap()
}

/// Whether a step of a plan reads all rows of a table that grows. An index of what is open does not grow.
fn reads_all(step: &str) -> bool {
    let mut words = step.split(' ');
    words.next() == Some("SCAN")
        && words.next().is_some_and(|table| GROWING.contains(&table))
        && !step.contains("am_runs_open")
        && !step.contains("am_runs_claimable")
}

#[tokio::test]
async fn statements_of_the_engine_read_no_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut conn = large_database(&folder.path().join("t.db")).await;
    let (mut faults, mut explained) = (Vec::new(), 0);
    for listed in statements() {
        for text in listed.texts(Dialect::Sqlite) {
            if !GROWING.iter().any(|table| text.contains(table)) {
                continue;
            }
            let plan =
                sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"))).fetch_all(&mut conn).await.unwrap();
            explained += 1;
            let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            if steps.iter().any(|step| reads_all(step)) {
                faults.push(format!("{}: {steps:?}\n    {text}", listed.place()));
            }
        }
    }
    assert!(explained > 20, "{explained}");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
