//! Paging of lists: by keyset, which stays correct while rows are added and deleted, or by offset.

use chrono::DateTime;

use super::codec::Timestamp;

/// Times between two moments, neither of which is one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSpan {
    /// Only later than this; none: from the first.
    pub after: Option<Timestamp>,
    /// Only earlier than this; none: to the last.
    pub before: Option<Timestamp>,
}

impl TimeSpan {
    /// Whether it has all times.
    pub fn is_unbounded(&self) -> bool {
        self.after.is_none() && self.before.is_none()
    }
}

/// Which rows of a list to read: what the fragment `{page}` of a statement stands for (`Query::bind_page`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Return only rows after this position in the order: creation time and id. `None` starts at the first row.
    pub after: Option<(Timestamp, String)>,
    /// Largest number of rows.
    pub limit: u32,
    /// Number of rows to skip.
    pub offset: u32,
    /// Whether the oldest row is the first; otherwise it is the newest.
    pub oldest_first: bool,
    /// Restricts the list to rows made in this time: what the fragment `{span}` stands for (`Query::bind_span`).
    pub created: TimeSpan,
}

impl PageRequest {
    /// The rest of this page, after `found` of its rows and the row `last`. For tables whose fragment `{page}` names them: the
    /// creation time is that of the row.
    pub fn rest(&self, found: usize, last: &str) -> Self {
        let limit = self.limit.saturating_sub(u32::try_from(found).unwrap_or(u32::MAX));
        Self { after: Some((Timestamp(DateTime::UNIX_EPOCH), last.to_owned())), limit, offset: 0, ..self.clone() }
    }

    /// The position as the end of newer rows, and as the begin of older ones: only that of the page's order is there.
    pub fn positions(&self) -> [Option<(Timestamp, &str)>; 2] {
        let after = self.after.as_ref().map(|(at, id)| (*at, id.as_str()));
        if self.oldest_first { [None, after] } else { [after, None] }
    }
}
