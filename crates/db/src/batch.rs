//! Several statements as one: sent together they cost one trip to the connection's thread instead of one each. That a
//! prepared query may hold several statements is SQLite's own, so it stays here.

use sqlx::{AssertSqlSafe, Execute as _, QueryBuilder};

use super::{Db, Result, Tx, rows::Rows};

/// Statements that are executed together, in order.
pub struct Batch(QueryBuilder<Db>);

impl Default for Batch {
    fn default() -> Self {
        Self(QueryBuilder::new(""))
    }
}

impl Batch {
    /// Add one statement, written by `write`, without a semicolon at its end.
    pub fn statement(&mut self, write: impl FnOnce(&mut QueryBuilder<Db>)) -> &mut Self {
        write(&mut self.0);
        self.0.push(";\n");
        self
    }

    /// Add the statements that write `rows`.
    pub fn rows(&mut self, rows: Rows) -> &mut Self {
        for (sql, json) in rows.statements() {
            let (before, after) = sql.split_once('?').unwrap_or((sql, ""));
            self.0.push(before).push_bind(json).push(after).push(";\n");
        }
        self
    }

    /// Execute them all; an error undoes nothing by itself, the piece of work must answer it.
    ///
    /// # Errors
    /// The first statement's that fails.
    pub async fn execute(&mut self, tx: &mut Tx) -> Result<()> {
        let (conn, opening) = tx.opening();
        let mut query = self.0.build();
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        // The text is this program's own, the values are bound.
        let sql = AssertSqlSafe(format!("{opening}{}", query.sql().as_str()));
        sqlx::query_with(sql, arguments).execute(conn).await?;
        Ok(())
    }
}
