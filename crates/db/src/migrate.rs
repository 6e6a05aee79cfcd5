//! Migration of the database: missing tables of the coordinator are created, the service's own tables come from
//! numbered files. Existing tables of the coordinator are checked and never altered.

use sha2::{Digest, Sha256};
use sqlx::{
    AssertSqlSafe, Connection as _, Row as _, SqlSafeStr as _,
    migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator},
};

use super::{Connection, Database, DatabaseError, Result, Tx, codec::Timestamp};
use am_core::ambient::Clock;

/// SQL of the coordinator's tables, as the coordinator creates them.
const COORDINATOR_SCHEMA: &str = include_str!("../../../migrations/coordinator.sql");
/// The service's own migrations in order: version, name, SQL. An applied migration must not be edited, because its hash
/// is recorded.
const OWN_MIGRATIONS: &[(i64, &str, &str)] = &[
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
    (11, "claims", include_str!("../../../migrations/0011_claims.sql")),
    (12, "message_identity", include_str!("../../../migrations/0012_message_identity.sql")),
    (14, "audit_epochs", include_str!("../../../migrations/0014_audit_epochs.sql")),
    (15, "fair_claims", include_str!("../../../migrations/0015_fair_claims.sql")),
    (16, "fair_work", include_str!("../../../migrations/0016_fair_work.sql")),
    (17, "policy_bounds", include_str!("../../../migrations/0017_policy_bounds.sql")),
    (19, "shared_contents", include_str!("../../../migrations/0019_shared_contents.sql")),
    (21, "audit_cosignatures", include_str!("../../../migrations/0021_audit_cosignatures.sql")),
    (22, "agent_keys", include_str!("../../../migrations/0022_agent_keys.sql")),
    (26, "agent_profiles", include_str!("../../../migrations/0026_agent_profiles.sql")),
];

/// The table in which sqlx records what was applied.
const RECORD: &str = "am_migrations";

/// Result of a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// Tables of the coordinator that were created.
    pub created: Vec<String>,
    /// Tables of the coordinator that existed and have the expected columns.
    pub adopted: Vec<String>,
    /// The service's own migrations that were applied.
    pub applied: Vec<String>,
}

/// Migrate in one transaction. Repeating it changes nothing.
///
/// # Errors
/// Returns [`DatabaseError::SchemaMismatch`], which names each table and column that does not match.
pub async fn migrate(db: &Database, clock: &Clock) -> Result<MigrationReport> {
    let now = Timestamp(clock.now());
    db.write(async move |tx: &mut Tx| {
        let mut report = MigrationReport::default();
        adopt_coordinator_tables(tx.conn().await?, &mut report).await?;
        apply_migrations(tx.conn().await?, now, &mut report).await?;
        Ok(report)
    })
    .await
}

/// Check that all migrations and tables of this version exist, for readiness and for a start without migration.
///
/// # Errors
/// Returns [`DatabaseError::SchemaMismatch`], which names what is missing.
pub async fn check_schema(conn: &mut Connection) -> Result<()> {
    let applied = if is_recorded_by_sqlx(conn).await? { applied_migrations(conn).await? } else { Vec::new() };
    let missing: Vec<&str> =
        OWN_MIGRATIONS.iter().filter(|(version, ..)| !applied.contains(version)).map(|(_, name, _)| *name).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(DatabaseError::SchemaMismatch(format!(
            "not migrated, missing {}; run `agent-management migrate`",
            missing.join(", ")
        )))
    }
}

struct TableDefinition {
    name: String,
    statements: Vec<String>,
}

/// Split the coordinator's file into tables, each with its indexes. Statements end at a line's end.
fn coordinator_tables() -> Vec<TableDefinition> {
    let mut tables: Vec<TableDefinition> = Vec::new();
    for statement in COORDINATOR_SCHEMA.split(";\n") {
        let text: String = statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("CREATE TABLE ") {
            let name = rest.split_whitespace().next().unwrap_or_default().to_owned();
            tables.push(TableDefinition { name, statements: vec![text.to_owned()] });
        } else if let (false, Some(table)) = (text.is_empty(), tables.last_mut()) {
            table.statements.push(text.to_owned());
        }
    }
    tables
}

async fn adopt_coordinator_tables(conn: &mut Connection, report: &mut MigrationReport) -> Result<()> {
    // SQLite itself derives the expected columns, from the same statements in a database in memory.
    let mut model = <Connection as sqlx::Connection>::connect("sqlite::memory:").await?;
    let mut faults = Vec::new();
    for table in coordinator_tables() {
        for statement in &table.statements {
            sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut model).await?;
        }
        if has_table(conn, &table.name).await? {
            faults.extend(column_mismatches(
                &table.name,
                &table_columns(&mut model, &table.name).await?,
                &table_columns(conn, &table.name).await?,
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
    if faults.is_empty() { Ok(()) } else { Err(DatabaseError::SchemaMismatch(faults.join("; "))) }
}

#[derive(Debug, PartialEq, Eq)]
struct ColumnDefinition {
    name: String,
    required: bool,
}

fn column_mismatches(table: &str, expected: &[ColumnDefinition], found: &[ColumnDefinition]) -> Vec<String> {
    let lacks = expected
        .iter()
        .filter(|column| !found.iter().any(|other| other.name == column.name))
        .map(|column| format!("table {table} lacks column {}", column.name));
    let demands = found
        .iter()
        .filter(|column| column.required && !expected.iter().any(|other| other.name == column.name))
        .map(|column| format!("table {table} requires column {}, which this service does not know", column.name));
    lacks.chain(demands).collect()
}

async fn table_columns(conn: &mut Connection, table: &str) -> Result<Vec<ColumnDefinition>> {
    let rows = sqlx::query("SELECT name, \"notnull\", dflt_value IS NULL FROM pragma_table_info(?1)")
        .bind(table)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let (forbids_null, no_default): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
            Ok(ColumnDefinition { name: row.try_get(0)?, required: forbids_null && no_default })
        })
        .collect()
}

/// Whether a table of this name exists. The coordinator creates some of its tables only when it first uses them.
///
/// # Errors
/// Returns a database error when a query fails.
pub async fn has_table(conn: &mut Connection, table: &str) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1")
        .bind(table)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

async fn is_recorded_by_sqlx(conn: &mut Connection) -> Result<bool> {
    Ok(table_columns(conn, RECORD).await?.iter().any(|column| column.name == "checksum"))
}

/// The versions that were applied.
async fn applied_migrations(conn: &mut Connection) -> Result<Vec<i64>> {
    let applied = conn.list_applied_migrations(RECORD).await.map_err(refused)?;
    Ok(applied.into_iter().map(|migration| migration.version).collect())
}

fn migrator() -> Migrator {
    // None begins a transaction of its own: all of them are part of the one that adopts the coordinator's tables.
    const NO_TRANSACTION: bool = true;
    let migrations = OWN_MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), NO_TRANSACTION)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(RECORD);
    migrator
}

fn refused(error: MigrateError) -> DatabaseError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(version) => from_later_version(version),
        MigrateError::VersionMismatch(version) => changed(version),
        other => DatabaseError::SchemaMismatch(other.to_string()),
    }
}

fn from_later_version(version: i64) -> DatabaseError {
    DatabaseError::SchemaMismatch(format!("migration {version} was applied by a later version of this service"))
}

fn changed(version: i64) -> DatabaseError {
    let name = OWN_MIGRATIONS.iter().find(|(known, ..)| *known == version).map_or("", |(_, name, _)| *name);
    DatabaseError::SchemaMismatch(format!("migration {version} ({name}) is not the one that was applied"))
}

async fn apply_migrations(conn: &mut Connection, now: Timestamp, report: &mut MigrationReport) -> Result<()> {
    let migrator = migrator();
    take_over_record(conn, &migrator).await?;
    let before = if has_table(conn, RECORD).await? { applied_migrations(conn).await? } else { Vec::new() };
    migrator.run_direct(None, conn, false).await.map_err(refused)?;
    for migration in migrator.iter().filter(|migration| !before.contains(&migration.version)) {
        record_time(conn, migration.version, now).await?;
        report.applied.push(format!("{:04}_{}", migration.version, migration.description));
    }
    Ok(())
}

/// By the service's clock and to the microsecond: the audit log's beginning is compared with other timestamps.
async fn record_time(conn: &mut Connection, version: i64, at: Timestamp) -> Result<()> {
    sqlx::query("UPDATE am_migrations SET installed_on = ?1 WHERE version = ?2")
        .bind(at)
        .bind(version)
        .execute(conn)
        .await?;
    Ok(())
}

/// Databases of earlier builds have a record of our own, with SHA-256 hashes. It becomes sqlx's; nothing is run again.
async fn take_over_record(conn: &mut Connection, migrator: &Migrator) -> Result<()> {
    if !has_table(conn, RECORD).await? || is_recorded_by_sqlx(conn).await? {
        return Ok(());
    }
    let recorded: Vec<(i64, String, Timestamp)> =
        sqlx::query_as("SELECT version, sha256, applied_at FROM am_migrations ORDER BY version")
            .fetch_all(&mut *conn)
            .await?;
    sqlx::query("DROP TABLE am_migrations").execute(&mut *conn).await?;
    conn.ensure_migrations_table(RECORD).await.map_err(refused)?;
    for (version, sha256, at) in recorded {
        let known = migrator.iter().find(|migration| migration.version == version);
        let migration = known.ok_or_else(|| from_later_version(version))?;
        if sha256 != hex::encode(Sha256::digest(migration.sql.as_str())) {
            return Err(changed(version));
        }
        conn.skip(RECORD, migration).await.map_err(refused)?;
        record_time(conn, version, at).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::DatabaseSettings;

    async fn open(dir: &tempfile::TempDir) -> Database {
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
        Database::open(&dir.path().join("t.db"), &settings).await.unwrap()
    }

    async fn run(db: &Database, sql: &'static str) {
        db.write(async move |tx: &mut Tx| {
            Ok::<_, DatabaseError>(sqlx::raw_sql(sql).execute(tx.conn().await?).await.map(drop)?)
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn an_empty_file_gets_every_table_and_a_second_run_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        assert!(check_schema(&mut db.read().await.unwrap()).await.is_err());
        let first = migrate(&db, &Clock::system()).await.unwrap();
        assert_eq!((first.created.len(), first.adopted.len(), first.applied.len()), (36, 0, OWN_MIGRATIONS.len()));
        let again = migrate(&db, &Clock::system()).await.unwrap();
        assert_eq!((again.created.len(), again.adopted.len(), again.applied.len()), (0, 36, 0));
        check_schema(&mut db.read().await.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_fit_is_named_and_nothing_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        run(&db, "CREATE TABLE miner (id VARCHAR NOT NULL, mood VARCHAR NOT NULL, PRIMARY KEY (id))").await;
        let Err(DatabaseError::SchemaMismatch(fault)) = migrate(&db, &Clock::system()).await else {
            panic!("must not fit")
        };
        assert!(fault.contains("table miner lacks column region"), "{fault}");
        assert!(fault.contains("table miner requires column mood"), "{fault}");
        assert!(!has_table(&mut db.read().await.unwrap(), "job").await.unwrap(), "all or nothing");
    }

    #[tokio::test]
    async fn a_later_or_another_migration_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        migrate(&db, &Clock::system()).await.unwrap();
        run(&db, "INSERT INTO am_migrations VALUES (999, 'later', '', TRUE, x'00', 0)").await;
        assert!(
            matches!(migrate(&db, &Clock::system()).await, Err(DatabaseError::SchemaMismatch(text)) if text.contains("later version"))
        );
        run(&db, "DELETE FROM am_migrations WHERE version = 999; UPDATE am_migrations SET checksum = x'00'").await;
        assert!(
            matches!(migrate(&db, &Clock::system()).await, Err(DatabaseError::SchemaMismatch(text)) if text.contains("not the one"))
        );
    }

    /// A database as builds before sqlx's migrator made it: its record table, and the time of every migration.
    async fn made_by_an_earlier_build(db: &Database) {
        db.write(async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            adopt_coordinator_tables(conn, &mut MigrationReport::default()).await?;
            sqlx::query(
                "CREATE TABLE IF NOT EXISTS am_migrations (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL)",
            )
            .execute(&mut *conn)
            .await?;
            for (version, name, sql) in OWN_MIGRATIONS {
                sqlx::raw_sql(AssertSqlSafe((*sql).to_owned())).execute(&mut *conn).await?;
                sqlx::query("INSERT INTO am_migrations (version, name, sha256, applied_at) VALUES (?1, ?2, ?3, ?4)")
                    .bind(version)
                    .bind(name)
                    .bind(hex::encode(Sha256::digest(sql.as_bytes())))
                    .bind("2026-01-02 03:04:05.678901")
                    .execute(&mut *conn)
                    .await?;
            }
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        run(db, "INSERT INTO am_definitions VALUES ('kept', '{}', '2026-01-02 03:04:05.678901')").await;
    }

    #[tokio::test]
    async fn an_earlier_builds_record_is_taken_over_and_nothing_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        made_by_an_earlier_build(&db).await;
        assert!(check_schema(&mut db.read().await.unwrap()).await.is_err(), "it is for `migrate` to take it over");
        for _ in 0..2 {
            let report = migrate(&db, &Clock::system()).await.unwrap();
            assert_eq!((report.created.len(), report.applied.len()), (0, 0));
            check_schema(&mut db.read().await.unwrap()).await.unwrap();
        }
        let mut conn = db.read().await.unwrap();
        let recorded: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT version, description, installed_on FROM am_migrations ORDER BY version")
                .fetch_all(&mut *conn)
                .await
                .unwrap();
        let expected = OWN_MIGRATIONS.iter().map(|(version, name, _)| (*version, (*name).to_owned()));
        let expected: Vec<_> =
            expected.map(|(version, name)| (version, name, "2026-01-02 03:04:05.678901".to_owned())).collect();
        assert_eq!(recorded, expected);
        let kept: String = sqlx::query_scalar("SELECT hash FROM am_definitions").fetch_one(&mut *conn).await.unwrap();
        assert_eq!(kept, "kept");
    }

    #[tokio::test]
    async fn an_earlier_record_that_does_not_fit_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        made_by_an_earlier_build(&db).await;
        for (change, undo, expected) in [
            (
                "INSERT INTO am_migrations VALUES (999, 'later', '', '2026-01-02 03:04:05.678901')",
                "DELETE FROM am_migrations WHERE version = 999",
                "later version",
            ),
            (
                "UPDATE am_migrations SET sha256 = 'x' WHERE version = 3",
                "SELECT 1",
                "migration 3 (audit) is not the one",
            ),
        ] {
            run(&db, change).await;
            let refused = migrate(&db, &Clock::system()).await;
            assert!(
                matches!(&refused, Err(DatabaseError::SchemaMismatch(text)) if text.contains(expected)),
                "{refused:?}"
            );
            let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM am_migrations WHERE sha256 IS NOT NULL")
                .fetch_one(&mut *db.read().await.unwrap())
                .await
                .unwrap();
            assert!(rows >= OWN_MIGRATIONS.len() as i64, "all or nothing");
            run(&db, undo).await;
        }
    }
}
