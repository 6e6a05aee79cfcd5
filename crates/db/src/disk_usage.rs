//! How many bytes of the file each table takes.

use std::collections::BTreeMap;

use sqlx::Row as _;

use super::{Connection, Db, Result};

/// What the pages of a database file are used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageUsage {
    /// Size of the file in bytes, without its write-ahead log.
    pub bytes: i64,
    /// Bytes of pages that nothing uses, which new rows get first.
    pub free_bytes: i64,
    /// Bytes by table, with its indexes; none: this SQLite can't tell.
    pub tables: Option<BTreeMap<String, i64>>,
}

/// Read what the pages are used for. Every page of the file is read once, which takes about a second for each gigabyte.
///
/// # Errors
/// As the database.
pub async fn page_usage(conn: &mut Connection) -> Result<PageUsage> {
    let page_size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut *conn).await?;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *conn).await?;
    let free: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut *conn).await?;
    let usage = PageUsage { bytes: pages * page_size, free_bytes: free * page_size, tables: None };
    let module = "SELECT 1 FROM pragma_module_list WHERE name = 'dbstat'";
    let has_module: Option<i64> = sqlx::query_scalar(module).fetch_optional(&mut *conn).await?;
    if has_module.is_none() {
        return Ok(usage);
    }
    let rows = sqlx::query::<Db>(
        "SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FROM dbstat s LEFT JOIN sqlite_schema m ON m.name = s.name
         WHERE s.aggregate = TRUE GROUP BY 1",
    )
    .fetch_all(conn)
    .await?;
    let table = |row: &super::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    Ok(PageUsage { tables: Some(rows.iter().map(table).collect::<Result<_>>()?), ..usage })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Database, DatabaseError, DatabaseSettings, Tx};

    #[tokio::test]
    async fn bytes_of_tables_and_free_pages_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(1) };
        let db = Database::open(&folder.path().join("t.db"), &settings).await.unwrap();
        let run = async |text: &'static str| {
            db.write(async move |tx: &mut Tx| {
                sqlx::raw_sql(text).execute(tx.conn().await?).await?;
                Ok::<_, DatabaseError>(())
            })
            .await
            .unwrap();
        };
        run("CREATE TABLE small (a); CREATE TABLE large (a); CREATE INDEX large_a ON large (a);
            INSERT INTO large SELECT randomblob(500) FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]')")
        .await;
        let usage = page_usage(&mut db.read().await.unwrap()).await.unwrap();
        let tables = usage.tables.clone().expect("the bundled SQLite has dbstat");
        assert!(tables["large"] > 20 * 500 * 2, "with its index: {usage:?}");
        assert!(tables["small"] < tables["large"] && usage.bytes >= tables.values().sum(), "{usage:?}");
        run("DELETE FROM large").await;
        let after = page_usage(&mut db.read().await.unwrap()).await.unwrap();
        assert!(after.free_bytes > usage.free_bytes, "{after:?}");
        assert_eq!(after.bytes, after.free_bytes + after.tables.unwrap().values().sum::<i64>());
    }
}
