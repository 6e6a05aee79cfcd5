//! A page of a list that is read newest first: by keyset, which stays right while rows come and go, or by offset.

use sqlx::QueryBuilder;

use super::{Db, codec::Timestamp};

/// Which rows of a list to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Only those after this place in the order: creation time and id, the latest first.
    pub after: Option<(Timestamp, String)>,
    /// At most so many.
    pub limit: u32,
    /// Without the first so many.
    pub offset: u32,
}

impl Page {
    /// End `query`, which has a WHERE clause, so that it reads this page of a table with columns `created_at` and `id`;
    /// `table` is empty, or the table's name in the query and a dot.
    pub fn push(&self, query: &mut QueryBuilder<Db>, table: &'static str) {
        if let Some((created_at, id)) = &self.after {
            query.push(format_args!(" AND ({table}created_at, {table}id) < ("));
            query.push_bind(*created_at).push(", ").push_bind(id.clone()).push(")");
        }
        query.push(format_args!(" ORDER BY {table}created_at DESC, {table}id DESC LIMIT "));
        query.push_bind(i64::from(self.limit)).push(" OFFSET ").push_bind(i64::from(self.offset));
    }
}
