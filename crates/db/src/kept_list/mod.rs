//! Lists beside the coordinator's tables, which have no index in the order of lists.
//!
//! A list has one row for each row of its table, with what lists filter and order by. Own writes change both in one transaction:
//! triggers of the write connection's temporary schema do it (`list_triggers.sql`), of which the coordinator's connections know
//! nothing. What the coordinator writes is followed: new rows by their rowid before each reading, open ones and those of a page
//! where they are read, and all of them by a slow sweep (`keeper.rs`). Until a list is complete, nobody reads it.

mod keeper;
mod store;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

pub use keeper::ListKeeper;

use super::{Connection, Database, DatabaseError, FromRow, Result, Tx, page::PageRequest, statement::Query};
use crate::{foreign_rows::log_unreadable, has_table};

/// Triggers of the write connection.
const TRIGGERS: &str = include_str!("../list_triggers.sql");
/// Rows that are looked at together.
const FOLLOW_BATCH: i64 = 500;
/// Maximum number of such batches before a reading; the keeper follows the rest.
const MAX_FOLLOW_BATCHES: usize = 4;
/// Maximum number of times that a page is read anew, because rows of it have changed, or filled up.
const MAX_READINGS: usize = 100;
/// Maximum number of times that a list is corrected for one page.
const MAX_CORRECTIONS: usize = 3;
/// Maximum bytes of the rows of a page, as they are stored; its first row may have more.
const MAX_PAGE_BYTES: i64 = 8 << 20;
/// Maximum number of open rows that are compared before a reading.
const MAX_OPEN_ROWS: i64 = 2000;

/// A table of the coordinator's that has a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedTable {
    /// Executions, table `agent_executions`.
    Executions,
    /// Workflows, table `ai_agent_workflows`.
    Workflows,
}

impl ListedTable {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Executions, Self::Workflows];

    /// Its name in counters and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Executions => "executions",
            Self::Workflows => "workflows",
        }
    }
}

/// What this process knows of the lists.
#[derive(Default)]
pub(super) struct ListStates([ListState; ListedTable::ALL.len()]);

#[derive(Default)]
struct ListState {
    /// Whether the list is complete.
    is_built: AtomicBool,
    /// The rowid up to which rows of the table are known to be in the list.
    place: AtomicI64,
}

/// A page of a list.
pub struct ListPage<R> {
    /// Rows of the page.
    pub rows: Vec<R>,
    /// Number of all rows that match.
    pub total: i64,
    /// Whether the page ends early, because its rows are long, and others follow.
    pub is_cut: bool,
}

/// How a page of a list is read.
pub struct PageReader<'r, R> {
    /// Page to read.
    pub page: &'r PageRequest,
    /// Statement for the ids of a page, each with the bytes of its row; null: there is no such row, or at another place.
    pub ids: &'r (dyn Fn(&PageRequest) -> Query + Sync),
    /// Statement for the rows with the ids of a JSON array, in any order.
    pub rows: &'r (dyn Fn(String) -> Query + Sync),
    /// Id of a row.
    pub id: fn(&R) -> &str,
    /// Whether a row, as it is in the table, belongs on the page.
    pub matches: &'r (dyn Fn(&R) -> bool + Sync),
}

/// Make the triggers of the write connection, where there are lists.
pub(super) async fn install_triggers(conn: &mut Connection) -> Result<()> {
    if has_table(conn, "am_workflow_list").await?
        && has_table(conn, "agent_executions").await?
        && has_table(conn, "ai_agent_workflows").await?
    {
        sqlx::raw_sql(TRIGGERS).execute(conn).await?;
    }
    Ok(())
}

impl Database {
    fn list_state(&self, table: ListedTable) -> &ListState {
        &self.0.lists.0[table as usize]
    }

    /// Bring the list of `table` up to date with what others wrote; with `open` rows that were open, too. False: it is not
    /// complete yet, and may not be read.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn follow_list(&self, conn: &mut Connection, table: ListedTable, open: bool) -> Result<bool> {
        let state = self.list_state(table);
        if !state.is_built.load(Ordering::Acquire) {
            let (place, is_built) = store::read_progress(conn, table).await?;
            if !is_built {
                return Ok(false);
            }
            state.place.fetch_max(place, Ordering::AcqRel);
            state.is_built.store(true, Ordering::Release);
        }
        let top = store::highest_place(conn, table).await?;
        if top < state.place.load(Ordering::Acquire) {
            // The last rows were deleted, or the file was compacted: what is missing is found by the sweep.
            state.place.store(top, Ordering::Release);
        }
        for _ in 0..MAX_FOLLOW_BATCHES {
            let place = state.place.load(Ordering::Acquire);
            if place >= top {
                break;
            }
            let (ids, last) = store::ids_after(conn, table, place, FOLLOW_BATCH).await?;
            let Some(last) = last else { break };
            self.refresh_list(table, store::differing(conn, table, &ids).await?).await?;
            state.place.fetch_max(last, Ordering::AcqRel);
        }
        if open && table == ListedTable::Executions {
            self.refresh_list(table, store::changed_open_executions(conn, MAX_OPEN_ROWS).await?).await?;
        }
        Ok(true)
    }

    /// Write the list's rows with these ids as the table has them. Returns the number of rows that changed.
    async fn refresh_list(&self, table: ListedTable, ids: Vec<String>) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        self.write(async move |tx: &mut Tx| store::refresh(tx, table, &ids).await).await
    }

    /// Read a page of `table` by its list. Rows that are not as the list has them are corrected there, and the page is read
    /// anew; a row that can't be read is left out and logged. Returns the rows, and whether the page ends early.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn read_list_page<R: FromRow>(
        &self,
        conn: &mut Connection,
        table: ListedTable,
        reader: &PageReader<'_, R>,
    ) -> Result<(Vec<R>, bool)> {
        let (mut found, mut rest, mut bytes) = (Vec::new(), reader.page.clone(), 0);
        let mut corrected = 0;
        for _ in 0..MAX_READINGS {
            let ids: Vec<(String, Option<i64>)> = (reader.ids)(&rest).fetch_all(conn).await?;
            let is_full = ids.len() == rest.limit as usize;
            let mut fitting = 0;
            for (_, size) in &ids {
                bytes += size.unwrap_or(0);
                if bytes > MAX_PAGE_BYTES && found.len() + fitting > 0 {
                    break;
                }
                fitting += 1;
            }
            let is_cut = fitting < ids.len();
            let moved: Vec<&str> = ids.iter().filter(|(_, size)| size.is_none()).map(|(id, _)| id.as_str()).collect();
            let ids: Vec<&str> = ids[..fitting].iter().map(|(id, _)| id.as_str()).collect();
            let read: Vec<Result<R>> = (reader.rows)(serde_json::json!(ids).to_string()).fetch_readable(conn).await?;
            let (mut rows, mut errors) = (Vec::new(), Vec::new());
            for row in read {
                match row {
                    Ok(row) => rows.push(row),
                    Err(error) => errors.push(error),
                }
            }
            let place = |id: &str| ids.iter().position(|known| *known == id);
            rows.sort_by_key(|row| place((reader.id)(row)));
            let fits = |id: &&&str| rows.iter().any(|row| (reader.id)(row) == **id && (reader.matches)(row));
            let unread: Vec<&str> = ids.iter().filter(|id| !fits(id)).copied().collect();
            let doubtful: Vec<String> = unread.iter().chain(&moved).map(|id| (*id).to_owned()).collect();
            if corrected < MAX_CORRECTIONS && self.refresh_list(table, doubtful).await? > 0 {
                corrected += 1;
                (found, rest, bytes) = (Vec::new(), reader.page.clone(), 0);
                continue;
            }
            if let Some(error) = errors.first() {
                unread.iter().for_each(|id| log_unreadable(id, error));
            }
            found.extend(rows.into_iter().filter(|row| (reader.matches)(row)));
            // A page that is cut has a row, after which the next begins.
            let goes_on = if is_cut { found.is_empty() } else { is_full };
            match ids.last() {
                Some(last) if goes_on && found.len() < reader.page.limit as usize => {
                    rest = reader.page.rest(found.len(), last);
                    bytes = if is_cut { 0 } else { bytes };
                }
                _ => return Ok((found, is_cut)),
            }
        }
        Ok((found, true))
    }
}

impl ListState {
    fn complete(&self, place: i64) {
        self.place.fetch_max(place, Ordering::AcqRel);
        self.is_built.store(true, Ordering::Release);
    }
}

/// A list's table that can't be followed, for the log.
fn log_failure(table: ListedTable, error: &DatabaseError) {
    tracing::warn!(list = table.name(), %error, "a list could not be kept");
}
