//! Opening of connections with their pragmas. Each of these pragmas is per connection, so each connection sets them
//! all.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{Connection, DatabaseError, Result};

/// First SQLite release without the WAL-reset corruption that can occur with two writing connections; 3.50.7 and 3.44.6
/// have the fix as well.
const MIN_SQLITE_VERSION: (u32, u32, u32) = (3, 51, 3);

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL would lose acknowledged rows at a power failure.
        .synchronous(SqliteSynchronous::Full)
        // The coordinator's tables reference tables that may be missing, and the coordinator does not enforce foreign
        // keys either.
        .foreign_keys(false)
        .statement_cache_capacity(256)
        .disable_statement_logging()
}

/// Open the writer's connection. The writer waits for locks itself (see `writer`), so SQLite's own busy handler, which
/// is unfair, is off.
pub async fn open_write_connection(path: &Path) -> Result<Connection> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|error| {
            DatabaseError::SchemaMismatch(format!("can't make the directory {}: {error}", parent.display()))
        })?;
    }
    // Switching a new file to WAL takes a lock briefly, so the first connection may wait.
    let mut conn =
        connect_options(path).create_if_missing(true).busy_timeout(Duration::from_secs(10)).connect().await?;
    for pragma in [
        "PRAGMA busy_timeout = 0",
        "PRAGMA journal_size_limit = 67108864",
        // The temporary schema has triggers alone.
        "PRAGMA temp_store = MEMORY",
        // 16 MiB; the default is 2. Not more, because a commit that split a page scans the whole cache.
        "PRAGMA cache_size = -16384",
        // Checkpoint every 32 MiB instead of every 4, so that a page changed by many commits is written back once.
        "PRAGMA wal_autocheckpoint = 8192",
    ] {
        sqlx::query(pragma).execute(&mut conn).await?;
    }
    Ok(conn)
}

fn read_options(path: &Path) -> SqliteConnectOptions {
    connect_options(path).busy_timeout(Duration::from_secs(5)).pragma("query_only", "1").pragma("cache_size", "-8192")
}

/// Open a read-only connection.
pub async fn open_read_connection(path: &Path) -> Result<Connection> {
    Ok(read_options(path).connect().await?)
}

/// Refuse an SQLite library that can corrupt a WAL database with two writers.
pub async fn check_version(conn: &Connection) -> Result<()> {
    let _ = conn;
    let mut memory = SqliteConnectOptions::new().in_memory(true).connect().await?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut memory).await?;
    if is_safe_version(&version) { Ok(()) } else { Err(DatabaseError::UnsupportedSqlite(version)) }
}

fn is_safe_version(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 44, patch) => patch >= 6,
        (3, 50, patch) => patch >= 7,
        version => version >= MIN_SQLITE_VERSION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_without_the_wal_reset_bug_pass() {
        for good in ["3.51.3", "3.52.0", "3.50.7", "3.44.6", "4.0.0"] {
            assert!(is_safe_version(good), "{good}");
        }
        for bad in ["3.51.2", "3.40.1", "3.50.6", "3.44.5", "3.7.0", "3.45.9"] {
            assert!(!is_safe_version(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn every_connection_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/test.db");
        let mut conn = open_write_connection(&path).await.unwrap();
        check_version(&conn).await.unwrap();
        let mut reader = open_read_connection(&path).await.unwrap();
        for conn in [&mut conn, &mut reader] {
            let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *conn).await.unwrap();
            let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *conn).await.unwrap();
            assert_eq!((synchronous, journal.as_str()), (2, "wal"));
        }
        let refused = sqlx::query("CREATE TABLE t (x)").execute(&mut reader).await;
        assert!(refused.is_err(), "a reader must not write");
    }
}
