//! The write transaction that each write is given.

use std::sync::Arc;

use super::{
    Connection, DatabaseError, Result, foreign_tables::ForeignTables, round_trips,
    statement_deadline::StatementDeadline,
};

/// A write transaction, as seen by one write.
pub struct Tx {
    pub(super) conn: Connection,
    /// What runs once the transaction is durable.
    pub(super) after: Vec<Box<dyn FnOnce() + Send>>,
    /// SQL that must precede the write's first statement, sent together with it where possible: each round trip to the
    /// connection's thread costs more than most statements.
    pub(super) opening: Option<&'static str>,
    /// The coordinator's tables, as they stand in this transaction.
    pub(super) foreign: Arc<ForeignTables>,
    /// When the write is ended.
    pub(super) deadline: StatementDeadline,
}

impl Tx {
    /// The connection; statements on it belong to the transaction.
    ///
    /// # Errors
    /// [`DatabaseError::TimedOut`] once the write has taken too long; fails when its savepoint can't be created.
    pub async fn conn(&mut self) -> Result<&mut Connection> {
        if self.deadline.has_passed() {
            return Err(DatabaseError::TimedOut);
        }
        if let Some(opening) = self.opening.take() {
            round_trips::count();
            sqlx::query(opening).execute(&mut self.conn).await?;
        }
        Ok(&mut self.conn)
    }

    /// The connection, and the SQL that its next statements must begin with.
    pub(super) fn opening(&mut self) -> (&mut Connection, &'static str) {
        (&mut self.conn, self.opening.take().unwrap_or_default())
    }

    /// Whether one of the coordinator's tables, which this service can do without, is missing or does not fit.
    pub fn does_without(&self, table: &str) -> bool {
        self.foreign.is_unusable(table)
    }

    /// Run `hook` once the transaction is durable, and not at all if it is rolled back.
    pub fn after_commit(&mut self, hook: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(hook));
    }
}
