//! Several statements sent as one: they cost one round trip to the connection's thread instead of one each. Only SQLite
//! allows several statements in a prepared query, so this stays in the database module.

use sqlx::{Arguments as _, AssertSqlSafe, sqlite::SqliteArguments};

use super::{
    Result, Tx,
    bulk_insert::{RowBatch, RowStatement},
    round_trips,
    statement::{Query, Statement},
};

/// Statements that are executed together, in order.
#[derive(Default)]
pub struct StatementBatch {
    /// SQL of the last statements.
    sql: String,
    /// What stands before them: SQL, and what is done with rows, with the number of its parameter.
    before: Vec<(String, RowStatement, usize)>,
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

    /// Add the statements that write `rows`.
    pub fn rows(&mut self, rows: RowBatch) -> &mut Self {
        for (statement, json) in rows.statements() {
            if let Err(error) = self.arguments.add(json) {
                self.failed = Some(sqlx::Error::Encode(error).into());
            }
            self.before.push((std::mem::take(&mut self.sql), statement, self.arguments.len()));
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
        for (text, statement, parameter) in &self.before {
            sql.push_str(text);
            sql.push_str(&statement.sql_for(&tables, *parameter));
            sql.push_str(";\n");
        }
        sql.push_str(&self.sql);
        round_trips::count();
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
