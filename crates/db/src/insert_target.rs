//! Where an insert of rows goes.

use super::conflict_rule::ConflictRule;

/// The table and the columns of an insert, and what is done about a row that is there already.
#[derive(Clone, Copy, Debug)]
pub(super) struct InsertTarget {
    pub table: &'static str,
    /// Columns that each row has a cell for, in order.
    pub columns: &'static [&'static str],
    /// Columns whose cells follow, and that only some versions of the coordinator have.
    pub optional: &'static [&'static str],
    pub conflict: ConflictRule,
}
