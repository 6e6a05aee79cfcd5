//! Rows of a kind that many requests write. Those of requests that wait at the same moment go in with one statement for
//! all of them, whose only parameter is a JSON array: each statement costs two changes of thread, which is more than
//! what it does.

use std::{fmt::Write as _, sync::OnceLock};

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::AssertSqlSafe;

use super::{
    Result, Tx,
    codec::{Doc, Timestamp},
};

/// An INSERT of rows that come as JSON. A static; its address tells the kind.
pub struct Insert {
    table: &'static str,
    columns: &'static str,
    conflict: &'static str,
    sql: OnceLock<String>,
}

impl Insert {
    /// Into these columns (commas between them), which each row's cells follow in order.
    pub const fn into(table: &'static str, columns: &'static str) -> Self {
        Self { table, columns, conflict: "", sql: OnceLock::new() }
    }

    /// What is done with a row that is there already, from `ON CONFLICT` on; else it is a duplicate.
    #[must_use]
    pub const fn on_conflict(mut self, conflict: &'static str) -> Self {
        self.conflict = conflict;
        self
    }

    fn sql(&'static self) -> &'static str {
        self.sql.get_or_init(|| {
            let cells: Vec<String> = (0..self.columns.split(',').count()).map(|at| format!("value ->> {at}")).collect();
            // Without a WHERE, ON CONFLICT would be read as a join's ON. From json_each a row would come as text, which each
            // of its cells' paths had to be found in anew.
            let (table, columns, cells) = (self.table, self.columns, cells.join(", "));
            format!("INSERT INTO {table} ({columns}) SELECT {cells} FROM jsonb_each(?) WHERE true {}", self.conflict)
        })
    }
}

/// SQL for a float as text that reads as the same float: SQLite's JSON functions write 15 digits, which are too few.
#[macro_export]
macro_rules! exact {
    ($column:literal) => {
        concat!("format('%!.17g', ", $column, ")")
    };
}

/// The rows of one piece of work, to be written in this order.
#[derive(Default)]
pub struct Rows(Vec<(&'static Insert, String)>);

impl Rows {
    /// Add a row; `fill` adds its cells.
    pub fn push(&mut self, insert: &'static Insert, fill: impl FnOnce(&mut Cells)) -> &mut Self {
        let continues = self.0.last().is_some_and(|(last, _)| std::ptr::eq(*last, insert));
        if !continues {
            self.0.push((insert, String::new()));
        }
        if let Some((_, text)) = self.0.last_mut() {
            text.push_str(if text.is_empty() { "[" } else { ",[" });
            let mut cells = Cells(std::mem::take(text));
            fill(&mut cells);
            *text = cells.0;
            text.push(']');
        }
        self
    }

    /// Add `more` after these.
    pub fn append(&mut self, more: Self) -> &mut Self {
        self.0.extend(more.0);
        self
    }

    /// As statements: the SQL with a `?` for the JSON array that follows.
    pub(super) fn statements(self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.into_iter().map(|(insert, rows)| (insert.sql(), format!("[{rows}]")))
    }

    /// Tells kinds apart: two pieces of the same kind can go together.
    pub(super) fn kind(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|(insert, _)| std::ptr::from_ref(*insert).addr())
    }

    /// Write them.
    ///
    /// # Errors
    /// [`super::Error::Duplicate`] and what else SQLite says; the rows before are written then, the piece must answer it.
    pub async fn execute(&self, tx: &mut Tx) -> Result<()> {
        Self::execute_together(&[self], tx).await
    }

    /// Write those of several pieces of one kind.
    pub(super) async fn execute_together(pieces: &[&Self], tx: &mut Tx) -> Result<()> {
        let Some(first) = pieces.first() else { return Ok(()) };
        let (conn, opening) = tx.opening();
        let mut sql = opening.to_owned();
        let mut parameters = Vec::with_capacity(first.0.len());
        for (at, (insert, _)) in first.0.iter().enumerate() {
            sql.push_str(insert.sql());
            sql.push_str(";\n");
            let texts: Vec<&str> = pieces.iter().map(|piece| piece.0[at].1.as_str()).collect();
            parameters.push(format!("[{}]", texts.join(",")));
        }
        // The texts are this program's own, the values are bound.
        let query = parameters.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, json| query.bind(json));
        query.execute(conn).await?;
        Ok(())
    }
}

/// The cells of a row, as JSON.
pub struct Cells(String);

impl Cells {
    /// Add a number, text, truth value, or one that may be missing.
    pub fn put(&mut self, value: impl Cell) -> &mut Self {
        if !self.0.ends_with('[') {
            self.0.push(',');
        }
        value.write(&mut self.0);
        self
    }
}

/// What a cell can hold.
pub trait Cell {
    /// Append it as JSON.
    fn write(&self, out: &mut String);
}

fn json(value: &(impl Serialize + ?Sized), out: &mut String) {
    // Numbers, texts and truth values always have a JSON form.
    out.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
}

impl Cell for &str {
    fn write(&self, out: &mut String) {
        json(*self, out);
    }
}

impl Cell for &String {
    fn write(&self, out: &mut String) {
        json(self.as_str(), out);
    }
}

impl Cell for i64 {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

impl Cell for bool {
    fn write(&self, out: &mut String) {
        out.push(if *self { '1' } else { '0' });
    }
}

/// SQLite reads it back to the same bits where its size is of those that prices, scores and seconds have (1e-9 to 1e15);
/// far outside them its reader of decimals can be off in the last bit.
impl Cell for f64 {
    fn write(&self, out: &mut String) {
        json(self, out);
    }
}

impl Cell for Timestamp {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "\"{}\"", self.stored());
    }
}

/// A JSON column is text.
impl Cell for &Doc {
    fn write(&self, out: &mut String) {
        json(self.get().map_or("null", RawValue::get), out);
    }
}

impl<T: Cell> Cell for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Database, Error, Settings};

    static THINGS: Insert = Insert::into("t", "id, name, price, flag, at");
    static NOTES: Insert = Insert::into("n", "id, of").on_conflict("ON CONFLICT (id) DO NOTHING");

    async fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { readers: 1, busy_timeout: Duration::from_millis(200) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        db.write(async |tx: &mut Tx| {
            let tables =
                "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR, price FLOAT, flag BOOLEAN, at DATETIME);
                          CREATE TABLE n (id INTEGER PRIMARY KEY, of INTEGER)";
            sqlx::query(tables).execute(tx.conn().await?).await?;
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
        (dir, db)
    }

    fn thing(id: i64, name: &str, price: f64) -> Rows {
        let mut rows = Rows::default();
        rows.push(&THINGS, |row| {
            row.put(id).put(name).put(price).put(true).put(None::<i64>);
        });
        rows.push(&NOTES, |row| {
            row.put(1i64).put(id);
        });
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
            assert_eq!(matches!(done, Err(Error::Duplicate(_))), id == 7, "{id}: {done:?}");
            assert_eq!(done.is_ok(), id != 7, "{id}: {done:?}");
        }
        assert_eq!((count(&db, "t").await, count(&db, "n").await), (50, 1));
        assert_eq!(hooks.load(std::sync::atomic::Ordering::Relaxed), 49, "a hook runs for what is durable only");
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
                    sqlx::query_as(AssertSqlSafe(format!("SELECT name, price, flag, at, {} FROM t ORDER BY id", exact!("price"))))
                        .fetch_all(&mut *db.read().await.unwrap()).await.unwrap();
                for ((name, price), stored) in names.iter().zip(&prices).zip(&stored) {
                    assert_eq!((name, price.to_bits(), true, &None), (&stored.0, stored.1.to_bits(), stored.2, &stored.3));
                    assert_eq!(price.to_bits(), stored.4.parse::<f64>().unwrap().to_bits(), "{price:?} as {}", stored.4);
                }
            });
        }
    }
}
