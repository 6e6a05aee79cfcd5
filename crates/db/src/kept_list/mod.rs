//! Lists beside the coordinator's tables, which have no index in the order of lists.
//!
//! A list has one row for each row of its table, with what lists filter and order by. Own writes change both in one transaction:
//! triggers of the write connection's temporary schema do it (`triggers/`), of which the coordinator's connections know
//! nothing. What the coordinator writes is followed: new rows by their rowid before each reading, open ones and those of a page
//! where they are read, and all of them by a slow sweep (`keeper.rs`). Until a list is complete, nobody reads it.

mod agent_list;
mod keeper;
mod page_rows;
mod store;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

pub use agent_list::{AgentPages, AgentRowFilter};
pub use keeper::ListKeeper;

use page_rows::PageEntry;

use super::{
    Connection, Database, DatabaseError, Result, Tx,
    page::PageRequest,
    row::{ListedRow, PackedRow},
    statement::Query,
};
use crate::{foreign_rows::log_unreadable, owner::PrincipalName};

/// Rows that are looked at together.
const FOLLOW_BATCH: i64 = 500;
/// Maximum number of such batches before a reading; the keeper follows the rest.
const MAX_FOLLOW_BATCHES: usize = 4;
/// Maximum number of times that a page is read anew, because rows of it have changed, or filled up.
const MAX_READINGS: usize = 100;
/// Maximum number of times that a list is corrected for one page.
const MAX_CORRECTIONS: usize = 3;
/// Maximum bytes of the rows of a page; its first row may have more.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// Maximum number of open rows that are compared before a reading.
const MAX_OPEN_ROWS: i64 = 2000;

/// A table of the coordinator's that has a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedTable {
    /// Executions, table `agent_executions`.
    Executions,
    /// Workflows, table `ai_agent_workflows`.
    Workflows,
    /// Jobs, table `job`.
    Jobs,
    /// Trust scores, table `agent_trust_scores`.
    TrustScores,
    /// Limits of sandboxes, table `agent_sandbox_configs`.
    Sandboxes,
    /// Allocations of resources, table `resource_allocations`.
    Allocations,
    /// Optimisations of agents, table `performance_optimizations`.
    Optimisations,
}

impl ListedTable {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Executions,
        Self::Workflows,
        Self::Jobs,
        Self::TrustScores,
        Self::Sandboxes,
        Self::Allocations,
        Self::Optimisations,
    ];

    /// Its name in counters and metrics.
    pub fn name(self) -> &'static str {
        store::name_of(self)
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
    /// The highest rowid of the table while this process makes the list; 0: it does not.
    making: AtomicI64,
}

/// A list that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfinishedList {
    /// Its name, as in metrics.
    pub name: &'static str,
    /// How much of it is made, in percent, 0 to 99.
    pub percent: u8,
}

/// A page of a list.
pub struct ListPage<R> {
    /// Rows of the page.
    pub rows: Vec<ListedRow<R>>,
    /// Number of all rows that match.
    pub total: i64,
    /// Whether the page ends early, because its rows are long, and others follow.
    pub is_cut: bool,
}

/// How a page of a list is read.
pub struct PageReader<'r, R> {
    /// Page to read.
    pub page: &'r PageRequest,
    /// Whether rows that were open are compared before, because the page depends on their states.
    pub by_state: bool,
    /// The statement of a page, given the place up to which the table is followed. It answers one row: the table's news (the
    /// fragment `{news ...}`), how many rows match, and the page's rows packed ([`PackedRow`]) in one value, each behind its id and
    /// its time in the list and whether the table's row has this time; null: there is no such row.
    pub statement: &'r (dyn Fn(&PageRequest, i64) -> Query + Sync),
    /// Whether a row, as it is in the table, belongs on the page.
    pub matches: &'r (dyn Fn(&R) -> bool + Sync),
}

/// Offset from which a page is better read of the only part of a list that has rows: where several are merged, each row that is left
/// out costs the merge.
const DEEP_OFFSET: u32 = 500;

/// The owners and kinds of which a list has rows, among those of `owners`; `None`: the page is not deep enough to ask.
///
/// # Errors
/// Returns a database error when the query fails.
pub async fn filled_parts<'a>(
    conn: &mut Connection,
    table: ListedTable,
    page: &PageRequest,
    owners: impl Iterator<Item = &'a str>,
) -> Result<Option<Vec<(String, String)>>> {
    if page.offset < DEEP_OFFSET { Ok(None) } else { store::filled_kinds(conn, table, owners).await.map(Some) }
}

/// Note the owner of a job that was inserted in this transaction under an id by which the coordinator knows its client: the list has
/// the principal that this id is read as.
///
/// # Errors
/// Returns a database error when the update fails.
pub async fn list_job_of(tx: &mut Tx, id: &str, stored_client: &str) -> Result<()> {
    let owner = PrincipalName::from_stored(stored_client);
    if owner.as_str() == stored_client { Ok(()) } else { store::set_job_owner(tx, id, &owner).await }
}

/// Make the triggers of the write connection, where there are lists.
pub(super) async fn install_triggers(conn: &mut Connection) -> Result<()> {
    for table in ListedTable::ALL {
        if store::has_tables(conn, table).await? {
            sqlx::raw_sql(store::triggers_of(table)).execute(&mut *conn).await?;
        }
    }
    Ok(())
}

impl Database {
    /// The lists that this process makes at present, because the database had none.
    pub fn unfinished_lists(&self) -> Vec<UnfinishedList> {
        let unfinished = |table: ListedTable| {
            let state = self.list_state(table);
            let top = state.making.load(Ordering::Acquire);
            let is_made = top == 0 || state.is_built.load(Ordering::Acquire);
            let share = state.place.load(Ordering::Acquire).saturating_mul(100) / top.max(1);
            (!is_made).then(|| UnfinishedList { name: table.name(), percent: share.clamp(0, 99) as u8 })
        };
        ListedTable::ALL.into_iter().filter_map(unfinished).collect()
    }

    /// The rowid up to which the list of `table` has all rows, as far as this process knows; `None`: it is not complete.
    pub fn list_place(&self, table: ListedTable) -> Option<i64> {
        let state = self.list_state(table);
        state.is_built.load(Ordering::Acquire).then(|| state.place.load(Ordering::Acquire))
    }

    fn list_state(&self, table: ListedTable) -> &ListState {
        &self.0.lists.0[table as usize]
    }

    /// Bring the list of `table` up to date with what others wrote; with `open` rows that were open, too. False: it is not
    /// complete yet, and may not be read.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn follow_list(&self, conn: &mut Connection, table: ListedTable, open: bool) -> Result<bool> {
        if !self.is_list_built(conn, table).await? {
            return Ok(false);
        }
        let state = self.list_state(table);
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
            let compared = store::compare_table(conn, table, place, FOLLOW_BATCH).await?;
            let Some(last) = compared.last else { break };
            self.refresh_list(table, compared.differing).await?;
            state.place.fetch_max(last, Ordering::AcqRel);
        }
        if open {
            self.refresh_list(table, store::changed_open(conn, table, MAX_OPEN_ROWS).await?).await?;
        }
        Ok(true)
    }

    /// Whether the list of `table` is complete, so that it may be read.
    async fn is_list_built(&self, conn: &mut Connection, table: ListedTable) -> Result<bool> {
        let state = self.list_state(table);
        if !state.is_built.load(Ordering::Acquire) {
            let (place, is_built) = store::read_progress(conn, table).await?;
            if is_built {
                state.complete(place);
            }
        }
        Ok(state.is_built.load(Ordering::Acquire))
    }

    /// Take the news that came with a page. Returns whether the list lacked some when the page was read, so that it is to be
    /// read anew.
    async fn take_news(&self, conn: &mut Connection, table: ListedTable, news: &str) -> Result<bool> {
        let (top, seen, missing): (i64, Option<i64>, Vec<String>) = serde_json::from_str(news)
            .map_err(|error| DatabaseError::InvalidValue(format!("news of {}: {error}", table.name())))?;
        let state = self.list_state(table);
        if top < state.place.load(Ordering::Acquire) {
            // The last rows were deleted, or the file was compacted: what is missing is found by the sweep.
            state.place.store(top, Ordering::Release);
        }
        // Another reader may have added them in the meantime: the page that misses them is stale all the same.
        let is_stale = !missing.is_empty();
        self.refresh_list(table, missing).await?;
        let Some(seen) = seen else { return Ok(is_stale) };
        state.place.fetch_max(seen, Ordering::AcqRel);
        if seen < top {
            self.follow_list(conn, table, false).await?;
        }
        Ok(is_stale || seen < top)
    }

    /// Write the list's rows with these ids as the table has them. Returns the number of rows that changed.
    async fn refresh_list(&self, table: ListedTable, ids: Vec<String>) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        self.write(async move |tx: &mut Tx| store::refresh(tx, table, &ids).await).await
    }

    /// Read a page of `table` by its list; none: it is not complete yet. Rows that are not as the list has them are corrected
    /// there, and the page is read anew; a row that can't be read is left out and logged.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn read_list_page<R: PackedRow>(
        &self,
        conn: &mut Connection,
        table: ListedTable,
        reader: &PageReader<'_, R>,
    ) -> Result<Option<ListPage<R>>> {
        if !self.is_list_built(conn, table).await? {
            return Ok(None);
        }
        if reader.by_state {
            self.refresh_list(table, store::changed_open(conn, table, MAX_OPEN_ROWS).await?).await?;
        }
        let (mut found, mut rest) = (Vec::new(), reader.page.clone());
        let (mut bytes, mut corrected, mut total) = (0, 0, 0);
        for _ in 0..MAX_READINGS {
            let place = self.list_state(table).place.load(Ordering::Acquire);
            let (news, packed): (String, String);
            (news, total, packed) = (reader.statement)(&rest, place).fetch_one(conn).await?;
            let may_correct = corrected < MAX_CORRECTIONS;
            if self.take_news(conn, table, &news).await? && may_correct {
                corrected += 1;
                (found, rest, bytes) = (Vec::new(), reader.page.clone(), 0);
                continue;
            }
            let left = MAX_PAGE_BYTES.saturating_sub(bytes);
            let read = page_rows::unpack::<R>(&packed, rest.oldest_first, left)?;
            let is_full = read.len() == rest.limit as usize;
            let fitting = page_rows::fitting(&read, left, found.is_empty());
            let is_cut = fitting < read.len();
            let fits = |row: &PageEntry<R>| {
                row.is_placed && row.row.as_ref().is_ok_and(|listed| (reader.matches)(&listed.row))
            };
            let doubtful: Vec<&PageEntry<R>> = read.iter().filter(|row| !fits(row)).collect();
            // The list had these elsewhere, whoever has corrected it since.
            let is_stale = doubtful.iter().any(|row| row.row.is_ok());
            let doubtful = doubtful.iter().map(|row| row.id.clone()).collect();
            if may_correct && (self.refresh_list(table, doubtful).await? > 0 || is_stale) {
                corrected += 1;
                (found, rest, bytes) = (Vec::new(), reader.page.clone(), 0);
                continue;
            }
            let mut last = None;
            for listed in read.into_iter().take(fitting) {
                bytes += listed.bytes;
                match listed.row {
                    Ok(row) if (reader.matches)(&row.row) => found.push(row),
                    Ok(_) => {}
                    Err(error) => log_unreadable(&listed.id, &error),
                }
                last = Some(listed.id);
            }
            // A page that is cut has a row, after which the next begins.
            let goes_on = if is_cut { found.is_empty() } else { is_full };
            match last {
                Some(last) if goes_on && found.len() < reader.page.limit as usize => {
                    rest = reader.page.rest(found.len(), &last);
                }
                _ => return Ok(Some(ListPage { rows: found, total, is_cut })),
            }
        }
        Ok(Some(ListPage { rows: found, total, is_cut: true }))
    }
}

impl ListState {
    /// Note how far this process has made the list.
    fn advance(&self, place: i64, top: i64) {
        self.place.fetch_max(place, Ordering::AcqRel);
        self.making.store(top, Ordering::Release);
    }

    fn complete(&self, place: i64) {
        self.place.fetch_max(place, Ordering::AcqRel);
        self.is_built.store(true, Ordering::Release);
    }
}

/// A list's table that can't be followed, for the log.
fn log_failure(table: ListedTable, error: &DatabaseError) {
    tracing::warn!(list = table.name(), %error, "a list could not be kept");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::DatabaseSettings;

    #[tokio::test]
    async fn a_list_is_unfinished_while_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&folder.path().join("t.db"), &settings).await.unwrap();
        assert_eq!(db.unfinished_lists(), [], "nobody makes one");
        let state = db.list_state(ListedTable::Jobs);
        state.advance(0, 0);
        assert_eq!(db.unfinished_lists(), [], "there is nothing to be made of an empty table");
        for (place, percent) in [(0, 0), (70, 35), (200, 99)] {
            state.advance(place, 200);
            assert_eq!(db.unfinished_lists(), [UnfinishedList { name: "jobs", percent }]);
        }
        state.complete(200);
        assert_eq!(db.unfinished_lists(), []);
    }
    #[tokio::test]
    async fn a_page_that_misses_rows_is_stale_even_if_another_reader_has_added_them() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&folder.path().join("t.db"), &settings).await.unwrap();
        crate::migrate::migrate(&db, &am_core::ambient::Clock::system()).await.unwrap();
        let added =
            "INSERT INTO job (id, client_id, state, payload, constraints, ttl_seconds, requested_at, expires_at)
             VALUES ('a', 'c', 'QUEUED', '{}', '{}', 60, '2026-01-01 10:00:00', '2026-01-02 10:00:00')";
        let add = async move |tx: &mut Tx| {
            Ok::<_, DatabaseError>(sqlx::raw_sql(added).execute(tx.conn().await?).await.map(drop)?)
        };
        db.write(add).await.unwrap();
        let conn = &mut *db.read_list().await.unwrap();
        assert!(db.take_news(conn, ListedTable::Jobs, r#"[1, 1, ["a"]]"#).await.unwrap());
        assert!(!db.take_news(conn, ListedTable::Jobs, "[1, null, []]").await.unwrap());
    }
}
