//! Several statements as one: sent together they cost one trip to the connection's thread instead of one each. That a
//! prepared query may hold several statements is SQLite's own, so it stays here.

use sqlx::QueryBuilder;

use super::{Db, Result, Tx};

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

    /// Execute them all; an error undoes nothing by itself, the piece of work must answer it.
    ///
    /// # Errors
    /// The first statement's that fails.
    pub async fn execute(mut self, tx: &mut Tx) -> Result<()> {
        self.0.build().execute(tx.conn()).await?;
        Ok(())
    }
}
