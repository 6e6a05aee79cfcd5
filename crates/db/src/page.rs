//! A page of a list that is read newest first: by keyset, which stays right while rows come and go, or by offset.

use super::codec::Timestamp;

/// Which rows of a list to read: what the fragment `{page}` of a statement stands for ([`Query::bind_page`](super::statement::Query::bind_page)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Only those after this place in the order: creation time and id, the latest first.
    pub after: Option<(Timestamp, String)>,
    /// At most so many.
    pub limit: u32,
    /// Without the first so many.
    pub offset: u32,
}
