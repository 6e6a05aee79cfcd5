//! Copies of the database for backups.

use std::{path::Path, time::Duration};

use sqlx::{ConnectOptions, Connection as _, sqlite::SqliteConnectOptions};

use super::{DatabaseError, Result};

/// How long a copy waits for a lock of another process. Readers wait only while a recovery is under way.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

fn options(path: &Path) -> SqliteConnectOptions {
    // Its own options: the journal mode of the file is left as it is.
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(false)
        .busy_timeout(LOCK_TIMEOUT)
        .disable_statement_logging()
}

/// Copy the database `source`, as it is at one moment, into the new file `target`. Others read and write meanwhile; the WAL
/// grows for as long as it takes.
///
/// # Errors
/// Fails when `target` exists or can't be written, or when `source` can't be read.
pub async fn copy_database(source: &Path, target: &Path) -> Result<()> {
    let name = target
        .to_str()
        .ok_or_else(|| DatabaseError::InvalidValue(format!("the path {} is not Unicode", target.display())))?;
    let mut conn = options(source).read_only(true).connect().await?;
    sqlx::query("VACUUM INTO $1").bind(name).execute(&mut conn).await?;
    conn.close().await?;
    Ok(())
}

/// What is wrong with the pages of a database that no process has open; `None`: nothing.
///
/// # Errors
/// Fails when the file is no database.
pub async fn find_damage(path: &Path) -> Result<Option<String>> {
    let mut conn = options(path).immutable(true).read_only(true).connect().await?;
    let found: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(5)").fetch_all(&mut conn).await?;
    conn.close().await?;
    Ok(if found == ["ok"] { None } else { Some(found.join("; ")) })
}

/// Write everything into the file itself, so that no `-wal` is left; `false` if another process has the database open.
///
/// # Errors
/// Fails when the file can't be opened.
pub async fn close_wal(path: &Path) -> Result<bool> {
    let mut conn = options(path).busy_timeout(Duration::ZERO).connect().await?;
    // Leaving WAL mode needs the file for oneself.
    let mode: sqlx::Result<String> = sqlx::query_scalar("PRAGMA journal_mode = DELETE").fetch_one(&mut conn).await;
    let alone = match mode.map_err(DatabaseError::from) {
        Ok(mode) => mode == "delete",
        Err(DatabaseError::Busy) => false,
        Err(error) => return Err(error),
    };
    conn.close().await?;
    Ok(alone)
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;
    use crate::{Database, DatabaseSettings};

    fn settings() -> DatabaseSettings {
        DatabaseSettings { readers: 2, busy_timeout: Duration::from_secs(5) }
    }

    async fn rows(path: &Path) -> i64 {
        let mut conn = options(path).read_only(true).connect().await.unwrap();
        sqlx::query("SELECT count(*) FROM kept").fetch_one(&mut conn).await.unwrap().get(0)
    }

    async fn database(path: &Path) -> Database {
        let db = Database::open(path, &settings()).await.unwrap();
        let make = async |tx: &mut crate::Tx| {
            sqlx::query("CREATE TABLE kept (id INTEGER PRIMARY KEY, text TEXT)").execute(tx.conn().await?).await?;
            sqlx::query("INSERT INTO kept (text) VALUES ('a'), ('b')").execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        };
        db.write(make).await.unwrap();
        db
    }

    #[tokio::test]
    async fn a_copy_of_a_database_in_use_has_what_was_committed() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("a.db"), dir.path().join("copy.db"));
        let db = database(&source).await;
        copy_database(&source, &target).await.unwrap();
        assert_eq!((rows(&target).await, find_damage(&target).await.unwrap()), (2, None));
        assert!(copy_database(&source, &target).await.is_err(), "an existing file is not overwritten");
        db.close().await;
    }

    #[tokio::test]
    async fn a_damaged_page_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("a.db"), dir.path().join("copy.db"));
        database(&source).await.close().await;
        copy_database(&source, &target).await.unwrap();
        let mut bytes = std::fs::read(&target).unwrap();
        // The second page holds the table.
        bytes[4096..4196].fill(0xff);
        std::fs::write(&target, bytes).unwrap();
        assert!(!matches!(find_damage(&target).await, Ok(None)));
    }

    #[tokio::test]
    async fn a_database_in_use_is_known_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = database(&path).await;
        assert!(!close_wal(&path).await.unwrap());
        db.close().await;
        assert!(close_wal(&path).await.unwrap());
        assert!(!dir.path().join("a.db-wal").exists());
        assert_eq!(rows(&path).await, 2);
    }
}
