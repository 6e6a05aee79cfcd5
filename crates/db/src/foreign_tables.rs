//! The coordinator's tables as they stand in this database: which columns they have beside those that this service names, and
//! what is missing. The coordinator may change them at any time, also while the service runs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    DatabaseError, Result,
    column_fill::{ColumnFill, NOW},
    dialect,
    insert_target::InsertTarget,
    table_shape::TableShape,
};

/// Tables without which the service does its work, and what is lost without them.
const DISPENSABLE: &[(&str, &str)] = &[
    ("rl_configurations", "the coordinator does not see the policies"),
    ("agent_reputation", "agents' reputations come from this service's own records"),
    ("reputation_events", "ratings change no reputation in the coordinator's records"),
    ("miner", "jobs require no model by the name that miners announce"),
    ("agent_marketplace", "environments are not calibrated by its listings"),
];

/// Columns that tell when a row was made, in the clock of their table.
const MOMENTS: [&str; 3] = ["created_at", "requested_at", "updated_at"];

/// A table, and what is to be written into columns that an insert does not name.
pub(super) struct ForeignTable {
    pub shape: TableShape,
    pub fills: BTreeMap<String, ColumnFill>,
}

/// The coordinator's tables as they stand.
#[derive(Default)]
pub(super) struct ForeignTables {
    /// Number of the schema that was read; null: none was.
    version: Option<i64>,
    tables: BTreeMap<String, ForeignTable>,
    report: CoordinatorReport,
}

/// Whether the coordinator's tables fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoordinatorReport {
    /// What makes statements of this service fail.
    pub faults: Vec<String>,
    /// What this service does without.
    pub notices: Vec<String>,
    /// The tables of the notices.
    unusable: BTreeSet<String>,
}

impl ForeignTables {
    /// The tables of the schema of this number.
    pub fn new(version: i64, tables: BTreeMap<String, ForeignTable>, report: CoordinatorReport) -> Self {
        Self { version: Some(version), tables, report }
    }

    /// Whether this is the schema of that number.
    pub fn is_of(&self, version: i64) -> bool {
        self.version == Some(version)
    }

    /// Whether it was ever read.
    pub fn is_read(&self) -> bool {
        self.version.is_some()
    }

    /// Whether the service does without this table.
    pub fn is_unusable(&self, table: &str) -> bool {
        self.report.unusable.contains(table)
    }

    pub fn report(&self) -> &CoordinatorReport {
        &self.report
    }

    /// The SQL of an insert, with the columns that the table has: those that only some versions of the coordinator have, and
    /// those that this service does not know. `None`: it is the insert's own.
    pub fn insert_sql(&self, insert: &InsertTarget) -> Option<String> {
        let table = self.tables.get(insert.table)?;
        let (known, optional) = (insert.columns, insert.optional);
        let mut columns: Vec<(&str, String)> = Vec::new();
        let mut plain = true;
        for (at, name) in known.iter().chain(optional).enumerate() {
            let Some(column) = table.shape.column(name) else {
                // A column that is missing is named all the same, so that the database tells it.
                if at < known.len() {
                    columns.push((name, cell(at)));
                }
                continue;
            };
            let fill = table.fills.get(*name).filter(|_| column.forbids_null);
            plain &= at < known.len() && fill.is_none();
            columns.push((name, fill.map_or_else(|| cell(at), |fill| or_fill(&cell(at), fill, known))));
        }
        for (name, fill) in &table.fills {
            if !known.iter().chain(optional).any(|known| known.eq_ignore_ascii_case(name)) {
                plain = false;
                columns.push((name, fill_sql(fill, known)));
            }
        }
        if plain {
            return None;
        }
        let written: Vec<&str> = columns
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| known.contains(name) || optional.contains(name))
            .collect();
        Some(dialect::insert_cells(insert.table, &columns, &written, &insert.conflict))
    }
}

fn cell(at: usize) -> String {
    dialect::row_cell(at)
}

fn fill_sql(fill: &ColumnFill, columns: &[&str]) -> String {
    match fill {
        ColumnFill::Sql(sql) => sql.clone(),
        // The row's own moment is in the clock that its table keeps.
        ColumnFill::Moment => MOMENTS
            .iter()
            .find_map(|moment| columns.iter().position(|column| column == moment))
            .map_or_else(|| NOW.to_owned(), cell),
    }
}

fn or_fill(cell: &str, fill: &ColumnFill, columns: &[&str]) -> String {
    format!("coalesce({cell}, {})", fill_sql(fill, columns))
}

impl CoordinatorReport {
    /// Enter a fault, or a notice where the service does without the table.
    pub(super) fn blame(&mut self, table: &str, fault: String) {
        match DISPENSABLE.iter().find(|(name, _)| *name == table) {
            Some((_, loss)) => {
                self.notices.push(format!("{fault}: {loss}"));
                self.unusable.insert(table.to_owned());
            }
            None => self.faults.push(fault),
        }
    }

    /// Refuse tables that do not fit.
    ///
    /// # Errors
    /// [`DatabaseError::SchemaMismatch`] with all faults.
    pub fn accept(&self) -> Result<()> {
        if self.faults.is_empty() { Ok(()) } else { Err(DatabaseError::SchemaMismatch(self.faults.join("; "))) }
    }
}
