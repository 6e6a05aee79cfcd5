//! Paging of lists that are read newest first: by keyset, which stays correct while rows are added and deleted, or by
//! offset.

use chrono::DateTime;

use super::codec::Timestamp;

/// Which rows of a list to read: what the fragment `{page}` of a statement stands for (`Query::bind_page`).
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

impl PageRequest {
    /// The rest of this page, after `found` of its rows and the row `last`. For tables whose fragment `{page}` names them: the
    /// creation time is that of the row.
    pub fn rest(&self, found: usize, last: &str) -> Self {
        let limit = self.limit.saturating_sub(u32::try_from(found).unwrap_or(u32::MAX));
        Self { after: Some((Timestamp(DateTime::UNIX_EPOCH), last.to_owned())), limit, offset: 0 }
    }
}
