//! Pages of tables that other programs write, too: a row that can't be read holds up no list.

use super::{Connection, FromRow, Result, page::PageRequest, statement::Query};

/// Maximum number of times that a page is filled up.
const MAX_REFILLS: usize = 100;

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
