//! Migration of the database: missing tables of the coordinator are created, the service's own tables come from
//! numbered files. Existing tables of the coordinator are checked and never altered.

use sha2::{Digest, Sha256};
use sqlx::{
    AssertSqlSafe, SqlSafeStr as _,
    migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator},
};

use super::{
    Connection, Database, DatabaseError, Result, Tx,
    codec::Timestamp,
    coordinator_model,
    foreign_reading::read_tables,
    kept_list::install_triggers,
    table_shape::{MIGRATION_RECORD, has_table, read_shapes},
};
use am_core::ambient::Clock;

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
    (23, "growth", include_str!("../../../migrations/0023_growth.sql")),
    (25, "late_jobs", include_str!("../../../migrations/0025_late_jobs.sql")),
    (26, "agent_profiles", include_str!("../../../migrations/0026_agent_profiles.sql")),
    (27, "lists", include_str!("../../../migrations/0027_lists.sql")),
    (28, "list_times", include_str!("../../../migrations/0028_list_times.sql")),
    (29, "channel_history", include_str!("../../../migrations/0029_channel_history.sql")),
    (33, "retention", include_str!("../../../migrations/0033_retention.sql")),
    (39, "bulk_operations", include_str!("../../../migrations/0039_bulk_operations.sql")),
    (40, "own_webhooks", include_str!("../../../migrations/0040_own_webhooks.sql")),
    (41, "key_use", include_str!("../../../migrations/0041_key_use.sql")),
    (42, "ledger", include_str!("../../../migrations/0042_ledger.sql")),
    (43, "budgets", include_str!("../../../migrations/0043_budgets.sql")),
    (44, "market", include_str!("../../../migrations/0044_market.sql")),
    (45, "market_trust", include_str!("../../../migrations/0045_market_trust.sql")),
    (46, "prices", include_str!("../../../migrations/0046_prices.sql")),
    (47, "portfolios", include_str!("../../../migrations/0047_portfolios.sql")),
    (48, "more_lists", include_str!("../../../migrations/0048_more_lists.sql")),
    (49, "list_orders", include_str!("../../../migrations/0049_list_orders.sql")),
    (50, "profiles", include_str!("../../../migrations/0050_profiles.sql")),
    (51, "profile_feed", include_str!("../../../migrations/0051_profile_feed.sql")),
    (52, "resources", include_str!("../../../migrations/0052_resources.sql")),
    (53, "background", include_str!("../../../migrations/0053_background.sql")),
    (54, "meta_learning", include_str!("../../../migrations/0054_meta_learning.sql")),
    (55, "suites", include_str!("../../../migrations/0055_suites.sql")),
    (56, "creativity", include_str!("../../../migrations/0056_creativity.sql")),
    (57, "market_ends", include_str!("../../../migrations/0057_market_ends.sql")),
    (58, "training_labels", include_str!("../../../migrations/0058_training_labels.sql")),
    (59, "profile_allocations", include_str!("../../../migrations/0059_profile_allocations.sql")),
    (60, "sweeps", include_str!("../../../migrations/0060_sweeps.sql")),
    (61, "own_environments", include_str!("../../../migrations/0061_own_environments.sql")),
    (62, "run_environments", include_str!("../../../migrations/0062_run_environments.sql")),
    (63, "settlements", include_str!("../../../migrations/0063_settlements.sql")),
    (64, "deployments", include_str!("../../../migrations/0064_deployments.sql")),
    (65, "proofs", include_str!("../../../migrations/0065_proofs.sql")),
    (66, "proof_orders", include_str!("../../../migrations/0066_proof_orders.sql")),
    (67, "evaluation_tasks", include_str!("../../../migrations/0067_evaluation_tasks.sql")),
    (68, "measured_work", include_str!("../../../migrations/0068_measured_work.sql")),
    (69, "portfolio_signals", include_str!("../../../migrations/0069_portfolio_signals.sql")),
    (70, "settlement_fees", include_str!("../../../migrations/0070_settlement_fees.sql")),
    (71, "profile_points", include_str!("../../../migrations/0071_profile_points.sql")),
];

/// Result of a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// Tables of the coordinator that were created.
    pub created: Vec<String>,
    /// Tables of the coordinator that existed.
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
        read_tables(tx.conn().await?).await?.report().accept()?;
        install_triggers(tx.conn().await?).await?;
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

/// Create those of the coordinator's tables that are missing.
async fn adopt_coordinator_tables(conn: &mut Connection, report: &mut MigrationReport) -> Result<()> {
    for table in coordinator_model::definitions() {
        if has_table(conn, &table.name).await? {
            report.adopted.push(table.name);
            continue;
        }
        for statement in &table.statements {
            sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *conn).await?;
        }
        report.created.push(table.name);
    }
    Ok(())
}

async fn is_recorded_by_sqlx(conn: &mut Connection) -> Result<bool> {
    let shapes = read_shapes(conn, &[MIGRATION_RECORD]).await?;
    Ok(shapes.get(MIGRATION_RECORD).is_some_and(|record| record.column("checksum").is_some()))
}

/// The versions that were applied.
async fn applied_migrations(conn: &mut Connection) -> Result<Vec<i64>> {
    let applied = conn.list_applied_migrations(MIGRATION_RECORD).await.map_err(refused)?;
    Ok(applied.into_iter().map(|migration| migration.version).collect())
}

fn migrator() -> Migrator {
    // None begins a transaction of its own: all of them are part of the one that adopts the coordinator's tables.
    const NO_TRANSACTION: bool = true;
    let migrations = OWN_MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), NO_TRANSACTION)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(MIGRATION_RECORD);
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
    let before = if has_table(conn, MIGRATION_RECORD).await? { applied_migrations(conn).await? } else { Vec::new() };
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
    if !has_table(conn, MIGRATION_RECORD).await? || is_recorded_by_sqlx(conn).await? {
        return Ok(());
    }
    let recorded: Vec<(i64, String, Timestamp)> =
        sqlx::query_as("SELECT version, sha256, applied_at FROM am_migrations ORDER BY version")
            .fetch_all(&mut *conn)
            .await?;
    sqlx::query("DROP TABLE am_migrations").execute(&mut *conn).await?;
    conn.ensure_migrations_table(MIGRATION_RECORD).await.map_err(refused)?;
    for (version, sha256, at) in recorded {
        let known = migrator.iter().find(|migration| migration.version == version);
        let migration = known.ok_or_else(|| from_later_version(version))?;
        if sha256 != hex::encode(Sha256::digest(migration.sql.as_str())) {
            return Err(changed(version));
        }
        conn.skip(MIGRATION_RECORD, migration).await.map_err(refused)?;
        record_time(conn, version, at).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{DatabaseSettings, bulk_insert::RowBatch};

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

    /// What of a table that exists stops a migration; null: nothing does.
    async fn refusal(table: &'static str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        run(&db, table).await;
        match migrate(&db, &Clock::system()).await {
            Ok(_) => None,
            Err(DatabaseError::SchemaMismatch(fault)) => {
                let made = has_table(&mut db.read().await.unwrap(), "am_runs").await.unwrap();
                assert!(!made, "all or nothing");
                Some(fault)
            }
            Err(other) => panic!("{other}"),
        }
    }

    const STEPS: &str = "CREATE TABLE agent_steps (id VARCHAR NOT NULL PRIMARY KEY, workflow_id VARCHAR NOT NULL, step_order INTEGER \
         NOT NULL, name VARCHAR(100) NOT NULL, step_type VARCHAR(15) NOT NULL, model_requirements JSON, input_mappings JSON, \
         output_mappings JSON, timeout_seconds INTEGER NOT NULL, retry_policy JSON, max_retries INTEGER NOT NULL, requires_proof \
         BOOLEAN NOT NULL, verification_level VARCHAR(14) NOT NULL, depends_on VARCHAR NOT NULL, created_at DATETIME NOT NULL, \
         updated_at DATETIME NOT NULL)";

    /// The statement by which this crate's tests know the table; those of the service stand in other crates.
    fn step() -> RowBatch {
        let mut rows = RowBatch::default();
        crate::push_row!(rows, "agent_steps" { id: "s", max_retries: 1i64, updated_at: "2026-01-02 03:04:05.678901" });
        rows
    }

    #[tokio::test]
    async fn what_does_not_fit_is_named_and_nothing_is_changed() {
        let without = |column: &str| {
            let text = STEPS.replace(column, "");
            assert_ne!(text, STEPS);
            &*text.leak()
        };
        let with = |column: &str| &*STEPS.replace("updated_at", &format!("{column}, updated_at")).leak();
        assert_eq!(refusal(STEPS).await, None);
        let fault = refusal(without("max_retries INTEGER NOT NULL, ")).await.unwrap();
        assert!(fault.contains("table agent_steps lacks column max_retries"), "{fault}");
        for column in ["parent INTEGER NOT NULL UNIQUE", "parent VARCHAR NOT NULL REFERENCES job (id)"] {
            let fault = refusal(with(column)).await.unwrap();
            assert!(fault.contains("table agent_steps requires column parent ("), "{fault}");
        }
        for column in ["mood VARCHAR NOT NULL", "rank INTEGER NOT NULL CHECK (rank >= 2)", "mood DATETIME NOT NULL"] {
            assert_eq!(refusal(with(column)).await, None, "{column}");
        }
        // Nothing is read of or written to it.
        assert_eq!(
            refusal("CREATE TABLE miner (id VARCHAR NOT NULL PRIMARY KEY, mood BLOB NOT NULL UNIQUE)").await,
            None
        );
    }

    #[tokio::test]
    async fn what_an_insert_does_not_name_is_filled_in_the_transaction_that_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir).await;
        migrate(&db, &Clock::system()).await.unwrap();
        run(&db, "DROP TABLE agent_steps; CREATE TABLE agent_steps (id TEXT PRIMARY KEY, max_retries INTEGER, updated_at DATETIME, begun_at DATETIME NOT NULL, verification_level VARCHAR(14) NOT NULL)").await;
        db.insert(step(), || {}).await.unwrap();
        let row: (String, String) = sqlx::query_as("SELECT begun_at, verification_level FROM agent_steps")
            .fetch_one(&mut *db.read().await.unwrap())
            .await
            .unwrap();
        assert_eq!(row, ("2026-01-02 03:04:05.678901".to_owned(), "BASIC".to_owned()));
        run(&db, "ALTER TABLE agent_steps RENAME COLUMN max_retries TO retries").await;
        let report = db.coordinator_report().await.unwrap();
        assert_eq!(report.faults, ["table agent_steps lacks column max_retries"]);
        assert!(db.insert(step(), || {}).await.is_err());
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
