//! Paging of lists that are read newest first: by keyset, which stays correct while rows are added and deleted, or by
//! offset.

use chrono::DateTime;

use super::{Connection, FromRow, Result, codec::Timestamp, statement::Query};

/// Maximum number of times that a page is filled up.
const MAX_REFILLS: usize = 100;

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

impl PageRequest {
    /// The rest of this page, after `found` of its rows and the row `last`. For tables whose fragment `{page}` names them: the
    /// creation time is that of the row.
    pub fn rest(&self, found: usize, last: &str) -> Self {
        let limit = self.limit.saturating_sub(u32::try_from(found).unwrap_or(u32::MAX));
        Self { after: Some((Timestamp(DateTime::UNIX_EPOCH), last.to_owned())), limit, offset: 0 }
    }
}

/// Read a page of a table that others write, too, row by row. A row that can't be read is left out and logged, and the page
/// is filled up with rows behind it. `rows` and `ids` make the statements of the rows and of their ids.
///
/// # Errors
/// As the database.
pub async fn read_page<R: FromRow>(
    conn: &mut Connection,
    page: &PageRequest,
    rows: impl Fn(&PageRequest) -> Query,
    ids: impl Fn(&PageRequest) -> Query,
) -> Result<Vec<R>> {
    let (mut found, mut rest) = (Vec::new(), page.clone());
    for _ in 0..MAX_REFILLS {
        let read: Vec<Result<R>> = rows(&rest).fetch_readable(conn).await?;
        if read.iter().all(Result::is_ok) {
            found.extend(read.into_iter().flatten());
            break;
        }
        let ids: Vec<String> = ids(&rest).fetch_values(conn).await?;
        let full = read.len() == rest.limit as usize;
        for (row, id) in read.into_iter().zip(&ids) {
            match row {
                Ok(row) => found.push(row),
                Err(error) => log_unreadable(id, &error),
            }
        }
        match ids.last() {
            Some(last) if full && found.len() < page.limit as usize => rest = page.rest(found.len(), last),
            _ => break,
        }
    }
    Ok(found)
}

/// Log a row that is left out of a list.
pub fn log_unreadable(id: &str, error: &dyn std::fmt::Display) {
    tracing::warn!(id, %error, "a stored row can't be read and is left out of a list");
}
