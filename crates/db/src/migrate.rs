//! Bring a database to what this service needs: the coordinator's tables where they are missing, this service's own
//! by numbered files. A table of the coordinator that stands is checked and never altered.

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::{Connection, Database, Error, Result, Tx, codec::Timestamp};
use am_core::ambient::Clock;

/// The coordinator's tables as the coordinator makes them.
const COORDINATOR: &str = include_str!("../../../migrations/coordinator.sql");
/// This service's own, in order. An applied one is never edited: its hash is recorded.
const OWN: &[(i64, &str, &str)] = &[
    (1, "durable_executions", include_str!("../../../migrations/0001_durable_executions.sql")),
    (2, "policies", include_str!("../../../migrations/0002_policies.sql")),
    (3, "audit", include_str!("../../../migrations/0003_audit.sql")),
    (4, "webhooks", include_str!("../../../migrations/0004_webhooks.sql")),
    (5, "keys", include_str!("../../../migrations/0005_keys.sql")),
    (6, "sandboxes", include_str!("../../../migrations/0006_sandboxes.sql")),
    (7, "jobs", include_str!("../../../migrations/0007_jobs.sql")),
    (8, "messages", include_str!("../../../migrations/0008_messages.sql")),
    (9, "relations", include_str!("../../../migrations/0009_relations.sql")),
    (10, "registry_and_plans", include_str!("../../../migrations/0010_registry_and_plans.sql")),
];

/// What a migration did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tables of the coordinator that were made.
    pub created: Vec<String>,
    /// Tables of the coordinator that stood and fit.
    pub adopted: Vec<String>,
    /// Own migrations applied now.
    pub applied: Vec<String>,
}

/// Migrate, in one transaction: all of it or nothing. Running it again changes nothing.
///
/// # Errors
/// [`Error::Schema`] names each table and column that does not fit.
pub async fn migrate(db: &Database, clock: &Clock) -> Result<Report> {
    let now = Timestamp(clock.now());
    db.write(async move |tx: &mut Tx| {
        let mut report = Report::default();
        adopt(tx.conn().await?, &mut report).await?;
        apply(tx.conn().await?, now, &mut report).await?;
        Ok(report)
    })
    .await
}

/// Is everything there that this version needs? For readiness and for a start without migration.
///
/// # Errors
/// [`Error::Schema`] names what is missing.
pub async fn check(conn: &mut Connection) -> Result<()> {
    let missing: Vec<&str> = {
        let applied = if has_table(conn, "am_migrations").await? { applied(conn).await? } else { Vec::new() };
        OWN.iter()
            .filter(|(version, ..)| !applied.iter().any(|(done, _)| done == version))
            .map(|(_, name, _)| *name)
            .collect()
    };
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::Schema(format!("not migrated, missing {}; run `agent-management migrate`", missing.join(", "))))
    }
}

struct Table {
    name: String,
    statements: Vec<String>,
}

/// The coordinator's file, split: each table with its indexes. Statements end at a line's end.
fn coordinator_tables() -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for statement in COORDINATOR.split(";\n") {
        let text: String = statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("CREATE TABLE ") {
            let name = rest.split_whitespace().next().unwrap_or_default().to_owned();
            tables.push(Table { name, statements: vec![text.to_owned()] });
        } else if let (false, Some(table)) = (text.is_empty(), tables.last_mut()) {
            table.statements.push(text.to_owned());
        }
    }
    tables
}

async fn adopt(conn: &mut Connection, report: &mut Report) -> Result<()> {
    // The expected columns are asked of SQLite itself, from the same statements.
    let mut model = <Connection as sqlx::Connection>::connect("sqlite::memory:").await?;
    let mut faults = Vec::new();
    for table in coordinator_tables() {
        for statement in &table.statements {
            sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut model).await?;
        }
        if has_table(conn, &table.name).await? {
            faults.extend(misfits(
                &table.name,
                &columns(&mut model, &table.name).await?,
                &columns(conn, &table.name).await?,
            ));
            report.adopted.push(table.name);
        } else {
            for statement in &table.statements {
                sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *conn).await?;
            }
            report.created.push(table.name);
        }
    }
    model.close().await?;
    if faults.is_empty() { Ok(()) } else { Err(Error::Schema(faults.join("; "))) }
}

#[derive(Debug, PartialEq, Eq)]
struct Column {
    name: String,
    required: bool,
}

fn misfits(table: &str, expected: &[Column], found: &[Column]) -> Vec<String> {
    let lacks = expected
        .iter()
        .filter(|column| !found.iter().any(|other| other.name == column.name))
        .map(|column| format!("table {table} lacks column {}", column.name));
    let demands = found
        .iter()
        .filter(|column| column.required && !expected.iter().any(|other| other.name == column.name))
        .map(|column| format!("table {table} demands column {}, which this service does not know", column.name));
    lacks.chain(demands).collect()
}

async fn columns(conn: &mut Connection, table: &str) -> Result<Vec<Column>> {
    let rows = sqlx::query("SELECT name, \"notnull\", dflt_value IS NULL FROM pragma_table_info(?1)")
        .bind(table)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let (forbids_null, no_default): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
            Ok(Column { name: row.try_get(0)?, required: forbids_null && no_default })
        })
        .collect()
}

/// Is there a table of this name? The coordinator makes some of its own late.
///
/// # Errors
/// As the database.
pub async fn has_table(conn: &mut Connection, table: &str) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1")
        .bind(table)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

async fn applied(conn: &mut Connection) -> Result<Vec<(i64, String)>> {
    Ok(sqlx::query_as("SELECT version, sha256 FROM am_migrations ORDER BY version").fetch_all(conn).await?)
}

async fn apply(conn: &mut Connection, now: Timestamp, report: &mut Report) -> Result<()> {
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS am_migrations (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL)",
    )
    .execute(&mut *conn)
    .await?;
    let done = applied(conn).await?;
    if let Some((version, _)) = done.iter().find(|(version, _)| !OWN.iter().any(|(known, ..)| known == version)) {
        return Err(Error::Schema(format!("migration {version} was applied by a later version of this service")));
    }
    for (version, name, sql) in OWN {
        let hash = hex::encode(Sha256::digest(sql.as_bytes()));
        match done.iter().find(|(known, _)| known == version) {
            Some((_, recorded)) if *recorded == hash => {}
            Some(_) => {
                return Err(Error::Schema(format!("migration {version} ({name}) is not the one that was applied")));
            }
            None => {
                sqlx::raw_sql(AssertSqlSafe((*sql).to_owned())).execute(&mut *conn).await?;
                sqlx::query("INSERT INTO am_migrations (version, name, sha256, applied_at) VALUES (?1, ?2, ?3, ?4)")
                    .bind(version)
                    .bind(name)
                    .bind(hash)
                    .bind(now)
                    .execute(&mut *conn)
                    .await?;
                report.applied.push(format!("{version:04}_{name}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Settings;

    async fn open(dir: &tempfile::TempDir) -> Database {
        let settings = Settings { readers: 1, busy_timeout: Duration::from_secs(5) };
        Database::open(&dir.path().join("t.db"), &settings).await.unwrap()
    }

    async fn run(db: &Database, sql: &'static str) {
        db.write(async move |tx: &mut Tx| {
            Ok::<_, Error>(sqlx::raw_sql(sql).execute(tx.conn().await?).await.map(drop)?)
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn an_empty_file_gets_every_table_and_a_second_run_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        assert!(check(&mut db.read().await.unwrap()).await.is_err());
        let first = migrate(&db, &Clock::system()).await.unwrap();
        assert_eq!((first.created.len(), first.adopted.len(), first.applied.len()), (36, 0, OWN.len()));
        let again = migrate(&db, &Clock::system()).await.unwrap();
        assert_eq!((again.created.len(), again.adopted.len(), again.applied.len()), (0, 36, 0));
        check(&mut db.read().await.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_fit_is_named_and_nothing_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        run(&db, "CREATE TABLE miner (id VARCHAR NOT NULL, mood VARCHAR NOT NULL, PRIMARY KEY (id))").await;
        let Err(Error::Schema(fault)) = migrate(&db, &Clock::system()).await else { panic!("must not fit") };
        assert!(fault.contains("table miner lacks column region"), "{fault}");
        assert!(fault.contains("table miner demands column mood"), "{fault}");
        assert!(!has_table(&mut db.read().await.unwrap(), "job").await.unwrap(), "all or nothing");
    }

    #[tokio::test]
    async fn a_later_or_another_migration_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        migrate(&db, &Clock::system()).await.unwrap();
        run(&db, "INSERT INTO am_migrations VALUES (999, 'later', '', '')").await;
        assert!(
            matches!(migrate(&db, &Clock::system()).await, Err(Error::Schema(text)) if text.contains("later version"))
        );
        run(&db, "DELETE FROM am_migrations WHERE version = 999; UPDATE am_migrations SET sha256 = 'x'").await;
        assert!(
            matches!(migrate(&db, &Clock::system()).await, Err(Error::Schema(text)) if text.contains("not the one"))
        );
    }
}
