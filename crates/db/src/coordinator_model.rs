//! The coordinator's tables as the version that this service was made for has them.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;
use tokio::sync::OnceCell;

use super::{
    Connection, Result,
    table_shape::{TableShape, read_shapes},
};

/// SQL of the coordinator's tables, as the coordinator creates them.
const COORDINATOR_SCHEMA: &str = include_str!("../../../migrations/coordinator.sql");

/// A table of the coordinator, as SQL.
pub(super) struct TableDefinition {
    pub name: String,
    /// The table, and its indexes.
    pub statements: Vec<String>,
}

/// Split the coordinator's file into tables, each with its indexes. Statements end at a line's end.
pub(super) fn definitions() -> Vec<TableDefinition> {
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

/// The tables with their columns. SQLite itself derives them, from the same statements in a database in memory.
pub(super) async fn shapes() -> Result<&'static BTreeMap<String, TableShape>> {
    static SHAPES: OnceCell<BTreeMap<String, TableShape>> = OnceCell::const_new();
    SHAPES
        .get_or_try_init(async || {
            let mut memory = <Connection as sqlx::Connection>::connect("sqlite::memory:").await?;
            let definitions = definitions();
            for table in definitions.iter().flat_map(|table| table.statements.first()) {
                sqlx::raw_sql(AssertSqlSafe(table.clone())).execute(&mut memory).await?;
            }
            let names: Vec<&str> = definitions.iter().map(|table| table.name.as_str()).collect();
            let shapes = read_shapes(&mut memory, &names).await?;
            sqlx::Connection::close(memory).await?;
            Ok(shapes)
        })
        .await
}
