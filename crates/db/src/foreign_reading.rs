//! What the coordinator's tables are compared with: the columns that this service's statements name. They are read when the service
//! starts, and again whenever the schema has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use sqlx::AssertSqlSafe;

use super::{
    Connection, Result,
    column_fill::{ColumnFill, FillRule, find_rule, words},
    coordinator_model,
    dialect::Dialect,
    foreign_tables::{CoordinatorReport, ForeignTable, ForeignTables},
    insert_target::InsertTarget,
    statement_list::{Listed, statements},
    table_shape::{MIGRATION_RECORD, TableShape, has_table, read_shapes, schema_version},
};

/// The table whose rows are hashed as they are written.
const SEALED_TABLE: &str = "agent_audit_logs";

/// Read the tables, and compare them with what this service reads and writes.
pub(super) async fn read_tables(conn: &mut Connection) -> Result<ForeignTables> {
    if !has_table(conn, MIGRATION_RECORD).await? {
        // Not migrated: the missing tables are about to be made.
        return Ok(ForeignTables::default());
    }
    let version = schema_version(conn).await?;
    let model = coordinator_model::shapes().await?;
    let names: Vec<&str> = model.keys().map(String::as_str).collect();
    let shapes = read_shapes(conn, &names).await?;
    let mut report = CoordinatorReport::default();
    compare(conn, model, &shapes, &mut report).await?;
    let mut tables = BTreeMap::new();
    for (name, shape) in shapes {
        let fills = find_fills(conn, &name, &shape, &mut report).await?;
        tables.insert(name, ForeignTable { shape, fills });
    }
    Ok(ForeignTables::new(version, tables, report))
}

/// The inserts into one table.
fn inserts_into(table: &str) -> Vec<&'static InsertTarget> {
    let targets = statements().filter_map(|listed| match listed {
        Listed::Insert(insert) => Some(insert.target()),
        Listed::Statement(_) => None,
    });
    targets.filter(|target| target.table == table).collect()
}

/// What is to be written into the columns of a table that an insert leaves out, or may leave empty.
async fn find_fills(
    conn: &mut Connection,
    table: &str,
    shape: &TableShape,
    report: &mut CoordinatorReport,
) -> Result<BTreeMap<String, ColumnFill>> {
    let mut fills = BTreeMap::new();
    let inserts = inserts_into(table);
    if inserts.is_empty() {
        return Ok(fills);
    }
    let model = coordinator_model::shapes().await?;
    for column in &shape.columns {
        let known = model.get(table).and_then(|model| model.column(&column.name));
        let named = inserts.iter().all(|insert| insert.columns.contains(&column.name.as_str()));
        // A column that is as this service expects it is written by all inserts, or takes null.
        let expected = known.is_some_and(|known| known.forbids_null || !column.forbids_null);
        if expected && (named || !column.is_demanded()) {
            continue;
        }
        if named && table == SEALED_TABLE {
            let fault =
                format!("table {table} does not take null in column {}, where audit entries have it", column.name);
            report.blame(table, fault);
            continue;
        }
        match find_rule(conn, table, shape, column).await? {
            FillRule::Write(fill) => drop(fills.insert(column.name.clone(), fill)),
            // A default does not stand for a null that is written.
            FillRule::Leave if known.is_some() => {
                fills.extend(column.default.clone().map(|default| (column.name.clone(), ColumnFill::Sql(default))));
            }
            FillRule::Leave => {}
            FillRule::Unknown => {
                let fault = format!(
                    "table {table} requires column {} ({}), for which this service knows no value; give the column a default \
                     value, or let it take null",
                    column.name, column.declared
                );
                report.blame(table, fault);
            }
        }
    }
    Ok(fills)
}

/// Compare the tables with those that the statements were written for.
async fn compare(
    conn: &mut Connection,
    model: &BTreeMap<String, TableShape>,
    found: &BTreeMap<String, TableShape>,
    report: &mut CoordinatorReport,
) -> Result<()> {
    let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (table, expected) in model {
        let lacks = match found.get(table) {
            Some(shape) => {
                let missing = expected.columns.iter().filter(|column| shape.column(&column.name).is_none());
                missing.map(|column| column.name.as_str()).collect()
            }
            None => Vec::new(),
        };
        if !lacks.is_empty() || !found.contains_key(table) {
            lacking.insert(table, lacks);
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let mut told: BTreeSet<(&str, String)> = BTreeSet::new();
    let texts: Vec<String> =
        statements().filter_map(|listed| listed.texts(Dialect::Sqlite).into_iter().next()).collect();
    for text in texts {
        let named: Vec<&str> =
            lacking.keys().copied().filter(|table| words(&text).any(|word| word == *table)).collect();
        if named.is_empty() || explains(conn, &text).await {
            continue;
        }
        for table in named {
            let columns = &lacking[table];
            if !found.contains_key(table) {
                told.insert((table, format!("table {table} is missing")));
            }
            for column in columns.iter().filter(|column| words(&text).any(|word| word == **column)) {
                told.insert((table, format!("table {table} lacks column {column}")));
            }
        }
    }
    for (table, fault) in told {
        report.blame(table, fault);
    }
    Ok(())
}

/// Whether the database understands a statement.
async fn explains(conn: &mut Connection, text: &str) -> bool {
    sqlx::query(AssertSqlSafe(format!("EXPLAIN {text}"))).persistent(false).fetch_all(conn).await.is_ok()
}

/// What was last found out of the coordinator's tables, for the writer and for readiness.
#[derive(Default)]
pub(super) struct ForeignTablesCell(Mutex<Arc<ForeignTables>>);

impl ForeignTablesCell {
    /// What is known now.
    pub fn get(&self) -> Arc<ForeignTables> {
        self.0.lock().clone()
    }

    /// Read the tables again if the schema is not the one of this number, and tell the log what changed.
    pub async fn refresh(&self, conn: &mut Connection, version: i64) -> Result<Arc<ForeignTables>> {
        let known = self.get();
        if known.is_of(version) {
            return Ok(known);
        }
        let read = Arc::new(read_tables(conn).await?);
        *self.0.lock() = read.clone();
        if known.is_read() && known.report() != read.report() {
            tell(read.report());
        }
        Ok(read)
    }

    /// The same, where the number is not known yet.
    pub async fn look(&self, conn: &mut Connection) -> Result<Arc<ForeignTables>> {
        let version = schema_version(conn).await?;
        self.refresh(conn, version).await
    }
}

/// Tell the log how the coordinator's tables fit.
pub(super) fn tell(report: &CoordinatorReport) {
    for fault in &report.faults {
        tracing::error!(fault, "the coordinator's tables do not fit this service");
    }
    for notice in &report.notices {
        tracing::warn!(notice, "this service does without a part of the coordinator's tables");
    }
    if report.faults.is_empty() && report.notices.is_empty() {
        tracing::info!("the coordinator's tables fit again");
    }
}
