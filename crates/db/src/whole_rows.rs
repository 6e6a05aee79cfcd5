//! Whole rows of a table, whatever columns it has: read to be kept elsewhere, deleted, and put back.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sqlx::{Arguments as _, AssertSqlSafe, Column as _, Row as _, sqlite::SqliteArguments};

use super::{Connection, DatabaseError, Db, Result, Row, Tx, sql_value::SqlValue, table_shape};

/// A row's values by column, in the table's order: numbers and texts as JSON has them, what it has no form for as an object of
/// its kind (`real`, `blob`, `text`) and its bytes in hex.
pub type WholeRow = Map<String, Value>;

/// The rows of a table that belong to things with ids.
#[derive(Clone, Copy, Debug)]
pub struct RowSource {
    /// Name of the table.
    pub table: &'static str,
    /// Column with the thing's id, or with the id of the row that it belongs to.
    pub key: &'static str,
    /// What stands before the id in that column; empty: nothing.
    pub prefix: &'static str,
    /// Whether the column holds numbers.
    pub is_number: bool,
    /// The table between, where the rows belong to another's rows: its name, its id, its column with the thing's id.
    pub through: Option<(&'static str, &'static str, &'static str)>,
}

impl RowSource {
    /// Rows with the thing's id in this column.
    pub const fn of(table: &'static str, key: &'static str) -> Self {
        Self { table, key, prefix: "", is_number: false, through: None }
    }

    /// The same, where the column holds numbers.
    pub const fn numbered(table: &'static str, key: &'static str) -> Self {
        Self { is_number: true, ..Self::of(table, key) }
    }

    /// The same, where the column has `prefix` before the id.
    pub const fn prefixed(table: &'static str, key: &'static str, prefix: &'static str) -> Self {
        Self { prefix, ..Self::of(table, key) }
    }

    /// Rows whose column has the id of a row of another table, which has the thing's.
    pub const fn through(
        table: &'static str,
        key: &'static str,
        between: (&'static str, &'static str, &'static str),
    ) -> Self {
        Self { through: Some(between), ..Self::of(table, key) }
    }

    /// The ids, a JSON list as the only parameter, as values of the column.
    fn ids(&self) -> String {
        match (self.is_number, self.prefix) {
            (true, _) => "(SELECT CAST(value AS INTEGER) FROM json_each(?1))".to_owned(),
            (false, "") => "(SELECT value FROM json_each(?1))".to_owned(),
            (false, prefix) => format!("(SELECT '{prefix}' || value FROM json_each(?1))"),
        }
    }

    /// Statement that reads the rows, each behind the id that it belongs to.
    fn select(&self) -> String {
        let Self { table, key, prefix, .. } = self;
        let ids = self.ids();
        match self.through {
            Some((between, id, of)) => format!(
                "SELECT CAST(b.{of} AS TEXT), t.* FROM {between} b CROSS JOIN {table} t ON t.{key} = b.{id} WHERE b.{of} IN {ids}"
            ),
            None => {
                let start = prefix.len() + 1;
                format!("SELECT substr(CAST(t.{key} AS TEXT), {start}), t.* FROM {table} t WHERE t.{key} IN {ids}")
            }
        }
    }

    /// Statement that deletes them.
    fn delete(&self) -> String {
        let Self { table, key, .. } = self;
        let ids = self.ids();
        match self.through {
            Some((between, id, of)) => {
                format!("DELETE FROM {table} WHERE {key} IN (SELECT {id} FROM {between} WHERE {of} IN {ids})")
            }
            None => format!("DELETE FROM {table} WHERE {key} IN {ids}"),
        }
    }

    /// The plans that SQLite makes for both statements, a line for each step.
    ///
    /// # Errors
    /// Returns a database error when the table does not exist.
    pub async fn plans(&self, conn: &mut Connection) -> Result<Vec<String>> {
        let mut steps = Vec::new();
        for text in [self.select(), self.delete()] {
            let text = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
            let rows = sqlx::query::<Db>(text).bind("[]").fetch_all(&mut *conn).await?;
            for row in rows {
                steps.push(row.try_get::<String, _>("detail")?);
            }
        }
        Ok(steps)
    }
}

fn ids_to_json(ids: &[&str]) -> String {
    json!(ids).to_string()
}

/// Read the rows of the things with these ids, by id; in an order that depends on nothing but their content.
///
/// # Errors
/// As the database.
pub async fn read_rows(
    conn: &mut Connection,
    source: &RowSource,
    ids: &[&str],
) -> Result<BTreeMap<String, Vec<WholeRow>>> {
    let rows = sqlx::query::<Db>(AssertSqlSafe(source.select())).bind(ids_to_json(ids)).fetch_all(conn).await?;
    let mut found: BTreeMap<String, Vec<WholeRow>> = BTreeMap::new();
    for row in &rows {
        let id: String = row.try_get(0)?;
        found.entry(id).or_default().push(whole_row(row, 1)?);
    }
    for rows in found.values_mut() {
        rows.sort_by_cached_key(|row| serde_json::to_string(row).unwrap_or_default());
    }
    Ok(found)
}

fn whole_row(row: &Row, from: usize) -> Result<WholeRow> {
    let columns = row.columns().iter().enumerate().skip(from);
    columns.map(|(at, column)| Ok((column.name().to_owned(), value_to_json(SqlValue::from_row(row, at)?)))).collect()
}

fn value_to_json(value: SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(number) => number.into(),
        SqlValue::Text(text) => text.into(),
        SqlValue::Unsupported { kind, hex } => {
            let bytes = hex::decode(&hex).unwrap_or_default();
            match <[u8; 8]>::try_from(bytes).map(f64::from_be_bytes) {
                Ok(number) if kind == "real" && number.is_finite() => number.into(),
                _ => json!({ kind: hex }),
            }
        }
    }
}

/// Add a value of a [`WholeRow`] to the arguments; false: it has no form that one has.
fn add_value(arguments: &mut SqliteArguments, value: &Value) -> bool {
    let added = match value {
        Value::Null => arguments.add(None::<i64>),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => arguments.add(number),
            (None, Some(number)) => arguments.add(number),
            (None, None) => return false,
        },
        Value::String(text) => arguments.add(text.clone()),
        Value::Object(members) => {
            let Some((kind, Value::String(hex))) = members.iter().next() else { return false };
            let Ok(bytes) = hex::decode(hex) else { return false };
            match (kind.as_str(), <[u8; 8]>::try_from(bytes.as_slice())) {
                ("real", Ok(bytes)) => arguments.add(f64::from_be_bytes(bytes)),
                ("blob" | "text", _) => arguments.add(bytes),
                _ => return false,
            }
        }
        Value::Bool(_) | Value::Array(_) => return false,
    };
    added.is_ok()
}

/// Delete the rows of the things with these ids. Returns their number.
///
/// # Errors
/// As the database.
pub async fn delete_rows(tx: &mut Tx, source: &RowSource, ids: &[&str]) -> Result<u64> {
    let done =
        sqlx::query::<Db>(AssertSqlSafe(source.delete())).bind(ids_to_json(ids)).execute(tx.conn().await?).await?;
    Ok(done.rows_affected())
}

/// Put a row back, unless one with its key is there. A column that the table has no longer must be null in the row. Returns
/// whether it was written.
///
/// # Errors
/// [`DatabaseError::InvalidValue`] when the row does not fit the table.
pub async fn restore_row(tx: &mut Tx, table: &'static str, row: &WholeRow) -> Result<bool> {
    let conn = tx.conn().await?;
    let shape = table_shape::read_shapes(&mut *conn, &[table]).await?.remove(table);
    let shape = shape.ok_or_else(|| DatabaseError::InvalidValue(format!("there is no table {table}")))?;
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    let mut arguments = SqliteArguments::default();
    for (name, value) in row {
        match shape.column(name) {
            Some(column) if column.generated => continue,
            Some(column) => {
                columns.push(format!("\"{}\"", column.name));
                // Bytes of a text that is none in UTF-8.
                let is_text = value.as_object().is_some_and(|members| members.contains_key("text"));
                values.push(if is_text {
                    format!("CAST(?{} AS TEXT)", columns.len())
                } else {
                    format!("?{}", columns.len())
                });
                if !add_value(&mut arguments, value) {
                    return Err(DatabaseError::InvalidValue(format!("{table}.{name} has a value of no known form")));
                }
            }
            None if value.is_null() => {}
            None => return Err(DatabaseError::InvalidValue(format!("{table} has no column {name} any more"))),
        }
    }
    if columns.is_empty() {
        return Err(DatabaseError::InvalidValue(format!("a row of {table} has no columns")));
    }
    let text =
        format!("INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT DO NOTHING", columns.join(", "), values.join(", "));
    let done = sqlx::query_with::<Db, _>(AssertSqlSafe(text), arguments).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Database, DatabaseSettings};

    const PARENTS: RowSource = RowSource::of("parents", "id");
    const CHILDREN: RowSource = RowSource::through("children", "parent_id", ("parents", "id", "id"));

    async fn database(folder: &std::path::Path) -> Database {
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(1) };
        let db = Database::open(&folder.join("t.db"), &settings).await.unwrap();
        db.write(async |tx: &mut Tx| {
            let text = "CREATE TABLE parents (id TEXT PRIMARY KEY, a, b, c, d);
                CREATE TABLE children (id INTEGER PRIMARY KEY, parent_id TEXT, note TEXT)";
            sqlx::raw_sql(text).execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        db
    }

    fn stored_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
            Just(json!({"real": hex::encode(f64::INFINITY.to_be_bytes())})),
            any::<String>().prop_map(Value::from),
            any::<Vec<u8>>().prop_map(|bytes| json!({"blob": hex::encode(bytes)})),
            Just(json!({"text": "ff00c3"})),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_row_comes_back_as_it_was(values in proptest::array::uniform4(stored_value())) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let db = database(folder.path()).await;
                let names = ["a", "b", "c", "d"].into_iter().map(str::to_owned);
                let mut row: WholeRow = [("id".to_owned(), Value::from("one"))].into_iter().collect();
                row.extend(names.zip(values));
                let (first, again) = (row.clone(), row.clone());
                db.write(async move |tx: &mut Tx| restore_row(tx, "parents", &first).await).await.unwrap();
                let read = read_rows(&mut db.read().await.unwrap(), &PARENTS, &["one", "two"]).await.unwrap();
                assert_eq!(read, BTreeMap::from([("one".to_owned(), vec![row])]));
                // JSON lines keep it too.
                let text = serde_json::to_string(&again).unwrap();
                assert_eq!(serde_json::from_str::<WholeRow>(&text).unwrap(), again);
            });
        }
    }

    #[tokio::test]
    async fn rows_of_rows_are_found_and_deleted_with_their_thing_and_nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let db = database(folder.path()).await;
        db.write(async |tx: &mut Tx| {
            let text = "INSERT INTO parents (id) VALUES ('p'), ('q');
                INSERT INTO children (parent_id, note) VALUES ('p', 'x'), ('q', 'y'), ('p', 'z')";
            sqlx::raw_sql(text).execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        let read = read_rows(&mut db.read().await.unwrap(), &CHILDREN, &["p"]).await.unwrap();
        let rows = read["p"].clone();
        assert_eq!(rows.iter().map(|row| row["note"].as_str().unwrap()).collect::<Vec<_>>(), ["x", "z"]);
        let deleted = db.write(async |tx: &mut Tx| delete_rows(tx, &CHILDREN, &["p"]).await).await.unwrap();
        assert_eq!(deleted, 2);
        let mut changed = rows[0].clone();
        changed.insert("note".into(), "other".into());
        let unknown: WholeRow = [("id".to_owned(), json!(9)), ("gone".to_owned(), json!("x"))].into_iter().collect();
        let refused = db
            .write(async move |tx: &mut Tx| {
                assert!(restore_row(tx, "children", &rows[0]).await?);
                assert!(!restore_row(tx, "children", &changed).await?, "it is there");
                restore_row(tx, "children", &unknown).await
            })
            .await;
        assert!(refused.unwrap_err().to_string().contains("children has no column gone any more"));
    }
}
