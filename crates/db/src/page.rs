//! Paging of lists that are read newest first: by keyset, which stays correct while rows are added and deleted, or by
//! offset.

use super::codec::Timestamp;

/// Which rows of a list to read: what the fragment `{page}` of a statement stands for ([`Query::bind_page`](super::statement::Query::bind_page)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Return only rows after this position in the order: creation time and id, newest first. `None` starts at the
    /// newest.
    pub after: Option<(Timestamp, String)>,
    /// Largest number of rows.
    pub limit: u32,
    /// Number of rows to skip.
    pub offset: u32,
}
