//! Rows that many requests write, and changes that they make to rows. Those of requests that wait at the same time are
//! written by one statement whose only parameter is a JSON array: each statement costs two thread switches, more than its
//! execution.

use std::{borrow::Cow, sync::OnceLock};

use sqlx::AssertSqlSafe;

use super::{
    Result, Tx, conflict_rule::ConflictRule, dialect, foreign_tables::ForeignTables, insert_target::InsertTarget,
    json_cell::JsonCell, round_trips, statement::Statement,
};

/// An INSERT of rows that come as JSON. A static, made by [`push_row!`](crate::push_row); its address tells the kind.
pub struct InsertStatement {
    place: &'static str,
    target: InsertTarget,
    sql: OnceLock<String>,
}

impl InsertStatement {
    /// Into these columns, which each row's cells follow in order, and into those of the `optional` ones that the table has.
    /// `place` says where it stands in the source.
    pub const fn new(
        place: &'static str,
        table: &'static str,
        columns: &'static [&'static str],
        optional: &'static [&'static str],
        conflict: ConflictRule,
    ) -> Self {
        Self { place, target: InsertTarget { table, columns, optional, conflict }, sql: OnceLock::new() }
    }

    pub(super) fn target(&self) -> &InsertTarget {
        &self.target
    }

    pub(super) fn place(&self) -> &'static str {
        self.place
    }

    pub(super) fn sql(&'static self) -> &'static str {
        self.sql.get_or_init(|| {
            let InsertTarget { table, columns, conflict, .. } = self.target;
            dialect::insert_rows(table, columns, &conflict)
        })
    }

    /// The SQL for the coordinator's tables as they stand.
    pub(super) fn sql_for(&'static self, tables: &ForeignTables) -> Cow<'static, str> {
        tables.insert_sql(&self.target).map_or(Cow::Borrowed(self.sql()), Cow::Owned)
    }

    /// The same for one row.
    pub(super) fn as_statement(&self) -> Statement {
        let InsertTarget { table, columns, conflict, .. } = self.target;
        Statement::insert(self.place, table, columns, conflict)
    }
}

/// What is done with the rows of a JSON array, which is the statement's only parameter.
#[derive(Clone, Copy)]
pub(super) enum RowStatement {
    /// They are inserted.
    Insert(&'static InsertStatement),
    /// What the statement says, which reads them as `{records $1 ...}`.
    Change(&'static Statement),
}

impl RowStatement {
    /// What tells it from others.
    fn address(self) -> usize {
        match self {
            Self::Insert(insert) => std::ptr::from_ref(insert).addr(),
            Self::Change(statement) => std::ptr::from_ref(statement).addr(),
        }
    }

    /// Its SQL for the coordinator's tables as they stand, with this number for the parameter.
    pub(super) fn sql_for(self, tables: &ForeignTables, parameter: usize) -> String {
        match self {
            Self::Insert(insert) => {
                let sql = insert.sql_for(tables);
                let (before, after) = sql.split_once('?').unwrap_or((&sql, ""));
                format!("{before}${parameter}{after}")
            }
            Self::Change(statement) => statement.text_with(parameter),
        }
    }
}

/// Rows to insert and changes to make, in this order.
#[derive(Default)]
pub struct RowBatch(Vec<(RowStatement, String)>);

impl RowBatch {
    /// Add a row; `fill` adds its values.
    pub fn push(&mut self, insert: &'static InsertStatement, fill: impl FnOnce(&mut RowValues)) -> &mut Self {
        let mut values = RowValues::default();
        fill(&mut values);
        self.push_values(insert, values)
    }

    /// Add a row with these values.
    pub fn push_values(&mut self, insert: &'static InsertStatement, values: RowValues) -> &mut Self {
        self.push_row_of(RowStatement::Insert(insert), values)
    }

    /// Add a row that `statement` makes a change by. Added by [`push_change!`](crate::push_change).
    pub fn push_change(&mut self, statement: &'static Statement, values: RowValues) -> &mut Self {
        self.push_row_of(RowStatement::Change(statement), values)
    }

    fn push_row_of(&mut self, statement: RowStatement, values: RowValues) -> &mut Self {
        match self.0.last_mut() {
            Some((last, text)) if last.address() == statement.address() => {
                text.push(',');
                text.push_str(&values.0);
                text.push(']');
            }
            _ => {
                let mut text = values.0;
                text.push(']');
                self.0.push((statement, text));
            }
        }
        self
    }

    /// The table of the first row that is inserted; empty without one.
    pub(super) fn first_table(&self) -> &'static str {
        let table = self.0.iter().find_map(|(statement, _)| match statement {
            RowStatement::Insert(insert) => Some(insert.target.table),
            RowStatement::Change(_) => None,
        });
        table.unwrap_or_default()
    }

    /// Append the rows of `more`.
    pub fn append(&mut self, more: Self) -> &mut Self {
        self.0.extend(more.0);
        self
    }

    /// Number of statements, all of which are sent as one.
    pub fn statement_count(&self) -> usize {
        self.0.len()
    }

    /// The statements, each with the JSON array that is its only parameter.
    pub(super) fn statements(self) -> impl Iterator<Item = (RowStatement, String)> {
        self.0.into_iter().map(|(statement, rows)| (statement, format!("[{rows}]")))
    }

    /// Addresses of the statements; rows with equal addresses can be written together.
    pub(super) fn kind(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|(statement, _)| statement.address())
    }

    /// Write the rows.
    ///
    /// # Errors
    /// Returns [`super::DatabaseError::Duplicate`] or another error of the database. Earlier rows are written by then, so the
    /// caller must return the error to roll them back.
    pub async fn execute(&self, tx: &mut Tx) -> Result<()> {
        Self::execute_merged(&[self], tx).await
    }

    /// Write the rows of several writes that use the same statements.
    pub(super) async fn execute_merged(pieces: &[&Self], tx: &mut Tx) -> Result<()> {
        let Some(first) = pieces.first() else { return Ok(()) };
        let tables = tx.foreign.clone();
        let (conn, opening) = tx.opening();
        let mut sql = opening.to_owned();
        let mut parameters = Vec::with_capacity(first.0.len());
        for (at, (statement, _)) in first.0.iter().enumerate() {
            sql.push_str(&statement.sql_for(&tables, at + 1));
            sql.push_str(";\n");
            let texts: Vec<&str> = pieces.iter().map(|piece| piece.0[at].1.as_str()).collect();
            parameters.push(format!("[{}]", texts.join(",")));
        }
        round_trips::count();
        // The SQL texts are constants of this program; values are bound as parameters.
        let query = parameters.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, json| query.bind(json));
        query.execute(conn).await?;
        Ok(())
    }
}

/// Values of one row, encoded as JSON.
pub struct RowValues(String);

impl Default for RowValues {
    fn default() -> Self {
        Self("[".to_owned())
    }
}

impl RowValues {
    /// Add a value: a number, text, boolean, timestamp, JSON column, or an `Option` of them.
    pub fn put(&mut self, value: impl JsonCell) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        value.write(&mut self.0);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Database, DatabaseError, DatabaseSettings};

    async fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_millis(200) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        db.write(async |tx: &mut Tx| {
            let tables =
                "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR, price FLOAT, flag BOOLEAN, at DATETIME);
                          CREATE TABLE n (id INTEGER PRIMARY KEY, of INTEGER)";
            sqlx::query(tables).execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        (dir, db)
    }

    fn thing(id: i64, name: &str, price: f64) -> RowBatch {
        let mut rows = RowBatch::default();
        crate::push_row!(rows, "t" { id: id, name: name, price: price, flag: true, at: None::<i64> });
        crate::push_row!(rows, "n" { id: 1i64, of: id } "ON CONFLICT (id) DO NOTHING");
        rows
    }

    async fn count(db: &Database, table: &'static str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(&mut *db.read().await.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_duplicate_undoes_its_own_piece_and_no_other() {
        let (_dir, db) = open().await;
        db.insert(thing(7, "first", 0.5), || {}).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        let hooks = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for id in 0..50 {
            let (db, hooks) = (db.clone(), hooks.clone());
            let hook = move || {
                hooks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            };
            tasks.spawn(async move { (id, db.insert(thing(id, "x", 1.0), hook).await) });
        }
        for (id, done) in tasks.join_all().await {
            assert_eq!(matches!(done, Err(DatabaseError::Duplicate(_))), id == 7, "{id}: {done:?}");
            assert_eq!(done.is_ok(), id != 7, "{id}: {done:?}");
        }
        assert_eq!((count(&db, "t").await, count(&db, "n").await), (50, 1));
        assert_eq!(hooks.load(std::sync::atomic::Ordering::Relaxed), 49, "a hook runs for what is durable only");
    }

    #[tokio::test]
    async fn what_is_added_is_summed_with_what_is_there_and_with_each_other() {
        let (_dir, db) = open().await;
        let add = |rows: &mut RowBatch, name: &str, price: f64, at: &str| {
            crate::push_row!(rows, "sums" { name: name, entries: 1i64, price: price, at: at } add on (name) latest (at));
        };
        db.write(async |tx: &mut Tx| {
            let table = "CREATE TABLE sums (name TEXT PRIMARY KEY, entries INTEGER NOT NULL, price REAL, at TEXT)";
            sqlx::query(table).execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        for _ in 0..2 {
            let mut rows = RowBatch::default();
            for (name, price, at) in [("a", 0.5, "3"), ("b", 1.0, "1"), ("a", 2.25, "2")] {
                add(&mut rows, name, price, at);
            }
            db.insert(rows, || {}).await.unwrap();
        }
        let sums: Vec<(String, i64, f64, String)> =
            crate::sql!("SELECT name, entries, price, at FROM sums ORDER BY name")
                .fetch_all(&mut db.read().await.unwrap())
                .await
                .unwrap();
        assert_eq!(sums, [("a".to_owned(), 4, 5.5, "3".to_owned()), ("b".to_owned(), 2, 2.0, "1".to_owned())]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_row_is_stored_as_a_bound_one_would_be(
            names in proptest::collection::vec("[^\0]{0,40}", 1..30),
            bits in proptest::collection::vec(any::<u64>(), 30),
            small in proptest::collection::vec(0u32..1_000_000_000, 30),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (_dir, db) = open().await;
                let prices: Vec<f64> = bits.iter().zip(&small).map(|(bits, small)| {
                    // Any fraction, with a power of two from -30 to 50.
                    let (sign, fraction, power) = (bits >> 63, bits & ((1 << 52) - 1), 1023 - 30 + (bits >> 52) % 80);
                    let any = f64::from_bits(sign << 63 | power << 52 | fraction);
                    if small % 2 == 0 { any } else { f64::from(*small) / 1000.0 }
                }).collect();
                for (id, (name, price)) in names.iter().zip(&prices).enumerate() {
                    db.insert(thing(id as i64, name, *price), || {}).await.unwrap();
                }
                let stored: Vec<(String, f64, bool, Option<String>, String)> =
                    crate::sql!("SELECT name, price, flag, at, {exact price} FROM t ORDER BY id")
                        .fetch_all(&mut db.read().await.unwrap()).await.unwrap();
                for ((name, price), stored) in names.iter().zip(&prices).zip(&stored) {
                    assert_eq!((name, price.to_bits(), true, &None), (&stored.0, stored.1.to_bits(), stored.2, &stored.3));
                    assert_eq!(price.to_bits(), stored.4.parse::<f64>().unwrap().to_bits(), "{price:?} as {}", stored.4);
                }
            });
        }
    }
}
