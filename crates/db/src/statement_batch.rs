//! Several statements sent as one: they cost one round trip to the connection's thread instead of one each. Only SQLite
//! allows several statements in a prepared query, so this stays in the database module.

use sqlx::{Arguments as _, AssertSqlSafe, sqlite::SqliteArguments};

use super::{
    Result, Tx,
    bulk_insert::{InsertStatement, RowBatch},
    statement::{Query, Statement},
};

/// Statements that are executed together, in order.
#[derive(Default)]
pub struct StatementBatch {
    /// SQL of the last statements.
    sql: String,
    /// What stands before them: SQL, and an insert with the number of its parameter.
    before: Vec<(String, &'static InsertStatement, usize)>,
    arguments: SqliteArguments,
    failed: Option<super::DatabaseError>,
}

impl StatementBatch {
    /// Add a query that was begun in this batch.
    pub fn add(&mut self, query: Query) -> &mut Self {
        match query.append_to(&mut self.sql) {
            Ok(arguments) => {
                self.arguments = arguments;
                self.sql.push_str(";\n");
            }
            Err(error) => self.failed = Some(error),
        }
        self
    }

    /// Add the statements that insert `rows`.
    pub fn rows(&mut self, rows: RowBatch) -> &mut Self {
        for (insert, json) in rows.statements() {
            if let Err(error) = self.arguments.add(json) {
                self.failed = Some(sqlx::Error::Encode(error).into());
            }
            self.before.push((std::mem::take(&mut self.sql), insert, self.arguments.len()));
        }
        self
    }

    /// Execute all statements. An error does not undo the earlier ones; the calling write must return it so that it is
    /// rolled back.
    ///
    /// # Errors
    /// Returns the error of the first statement that fails.
    pub async fn execute(&mut self, tx: &mut Tx) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let tables = tx.foreign.clone();
        let (conn, opening) = tx.opening();
        let mut sql = opening.to_owned();
        for (text, insert, parameter) in &self.before {
            let insert = insert.sql_for(&tables);
            let (before, after) = insert.split_once('?').unwrap_or((&insert, ""));
            sql.push_str(&format!("{text}{before}${parameter}{after};\n"));
        }
        sql.push_str(&self.sql);
        // The SQL text is made of this program's constants and of names of columns; values are bound as parameters.
        let query = sqlx::query_with(AssertSqlSafe(sql), std::mem::take(&mut self.arguments));
        query.execute(conn).await?;
        Ok(())
    }
}

impl Statement {
    /// Begin a query that is to be [added](StatementBatch::add) to `batch` before any other is begun in it.
    pub fn query_in(&'static self, batch: &mut StatementBatch) -> Query {
        self.query_after(std::mem::take(&mut batch.arguments))
    }
}
