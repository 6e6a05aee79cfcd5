//! The columns that a table has, as SQLite tells them.

use std::collections::BTreeMap;

use sqlx::Row as _;

use super::{Connection, Result};

/// The table in which sqlx records what was applied.
pub(super) const MIGRATION_RECORD: &str = "am_migrations";

/// A column as it was declared.
#[derive(Clone, Debug)]
pub(super) struct ColumnShape {
    pub name: String,
    /// Declared type, in capitals; empty where there is none.
    pub declared: String,
    pub forbids_null: bool,
    /// SQL of the default value; null: there is none.
    pub default: Option<String>,
    /// Whether it is part of the primary key.
    pub in_key: bool,
    /// Whether the database computes it.
    pub generated: bool,
}

impl ColumnShape {
    /// Whether a row must name a value for it.
    pub fn is_demanded(&self) -> bool {
        self.forbids_null && self.default.is_none() && !self.generated
    }
}

/// A table's columns, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct TableShape {
    pub columns: Vec<ColumnShape>,
}

impl TableShape {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&ColumnShape> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// Read the shapes of those of these tables that exist.
pub(super) async fn read_shapes(conn: &mut Connection, tables: &[&str]) -> Result<BTreeMap<String, TableShape>> {
    let names = serde_json::to_string(tables).unwrap_or_default();
    let rows = sqlx::query(
        "SELECT m.name, x.name, upper(x.type), x.\"notnull\", x.dflt_value, x.pk, x.hidden
         FROM json_each(?1) AS t JOIN sqlite_schema AS m ON m.name = t.value AND m.type = 'table'
         JOIN pragma_table_xinfo(m.name) AS x ORDER BY m.name, x.cid",
    )
    .bind(names)
    .fetch_all(conn)
    .await?;
    let mut shapes: BTreeMap<String, TableShape> = BTreeMap::new();
    for row in rows {
        let (key, hidden): (i64, i64) = (row.try_get(5)?, row.try_get(6)?);
        let column = ColumnShape {
            name: row.try_get(1)?,
            declared: row.try_get(2)?,
            forbids_null: row.try_get::<i64, _>(3)? != 0,
            default: row.try_get(4)?,
            in_key: key > 0,
            generated: hidden > 1,
        };
        shapes.entry(row.try_get(0)?).or_default().columns.push(column);
    }
    Ok(shapes)
}

/// The schema's number, which every change of the schema raises.
pub(super) async fn schema_version(conn: &mut Connection) -> Result<i64> {
    Ok(sqlx::query_scalar("PRAGMA schema_version").fetch_one(conn).await?)
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
