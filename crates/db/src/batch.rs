//! Several statements as one: sent together they cost one trip to the connection's thread instead of one each. That a
//! prepared query may hold several statements is SQLite's own, so it stays here.

use sqlx::{Arguments as _, AssertSqlSafe, sqlite::SqliteArguments};

use super::{Result, Tx, rows::Rows, statement::Query};

/// Statements that are executed together, in order.
#[derive(Default)]
pub struct Batch {
    sql: String,
    arguments: SqliteArguments,
    failed: Option<super::Error>,
}

impl Batch {
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

    pub(super) fn take_arguments(&mut self) -> SqliteArguments {
        std::mem::take(&mut self.arguments)
    }

    /// Add the statements that write `rows`.
    pub fn rows(&mut self, rows: Rows) -> &mut Self {
        for (sql, json) in rows.statements() {
            let (before, after) = sql.split_once('?').unwrap_or((sql, ""));
            if let Err(error) = self.arguments.add(json) {
                self.failed = Some(sqlx::Error::Encode(error).into());
            }
            self.sql.push_str(&format!("{before}${}{after};\n", self.arguments.len()));
        }
        self
    }

    /// Execute them all; an error undoes nothing by itself, the piece of work must answer it.
    ///
    /// # Errors
    /// The first statement's that fails.
    pub async fn execute(&mut self, tx: &mut Tx) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (conn, opening) = tx.opening();
        // The text is this program's own, the values are bound.
        let sql = AssertSqlSafe(format!("{opening}{}", self.sql));
        sqlx::query_with(sql, std::mem::take(&mut self.arguments)).execute(conn).await?;
        Ok(())
    }
}
