//! Pages of an agent's rows of a table that has a list: by the list, and by the table itself until the list is complete.

use am_core::ids::AgentId;

use super::ListedTable;
use crate::{Connection, Database, Result, foreign_rows::read_page, page::PageRequest, row::FromRow, statement::Query};

/// Statements of such pages, newest first. The parameters are the agent, a state, a figure, and those of the page, of counts of its span
/// of time. Made by [`agent_list!`](crate::agent_list).
pub struct AgentPages {
    /// The table that is listed.
    pub table: ListedTable,
    /// How many rows there are, by the list.
    pub listed_total: fn() -> Query,
    /// Rows of all states, by the list.
    pub listed_rows: fn() -> Query,
    /// Ids of their rows.
    pub listed_ids: fn() -> Query,
    /// Rows of one state, by the list.
    pub state_rows: fn() -> Query,
    /// Ids of their rows.
    pub state_ids: fn() -> Query,
    /// How many rows there are, by the table itself.
    pub table_total: fn() -> Query,
    /// Rows, by the table itself.
    pub table_rows: fn() -> Query,
    /// Ids of their rows.
    pub table_ids: fn() -> Query,
}

/// Which rows a page has.
#[derive(Clone, Copy, Debug)]
pub struct AgentRowFilter<'f> {
    /// Those of this agent.
    pub agent: &'f AgentId,
    /// Of these those in this state; `None`: in any.
    pub state: Option<&'f str>,
    /// Of these those of this figure, which the list does not have; `None`: of any.
    pub figure: Option<&'f str>,
}

impl AgentRowFilter<'_> {
    fn bind(&self, query: Query) -> Query {
        query.bind(self.agent).bind_some(self.state).bind_some(self.figure)
    }
}

/// The [statements](crate::kept_list::AgentPages) of pages of a table (`r`) with columns `agent_id`, `status` and `created_at`, whose list
/// (`l`) has the same and indexes `..._page` and `..._status`: `agent_list! { Kind, Record of "table" with JOINED, listed in "list" }`,
/// and `, figure "r.column"` where pages may be of one figure.
#[macro_export]
macro_rules! agent_list {
    ($kind:ident, $record:ident of $table:literal with $joined:expr, listed in $list:literal $(, figure $figure:literal)? $(,)?) => {
        $crate::kept_list::AgentPages {
            table: $crate::kept_list::ListedTable::$kind,
            listed_total: || $crate::sql!(
                "SELECT count(*) FROM ", $list, " l WHERE l.agent_id = $1 [AND l.status = $2] {span l. $4}",
            ),
            listed_rows: || $crate::sql!(
                "SELECT ", <$record as $crate::FromRow>::COLUMNS, " FROM ", $list, " l {by ", $list, "_page} {then} ", $table,
                " r ON r.id = l.id", $joined, "WHERE l.agent_id = $1 [AND l.status = $2] {page l. $4 ", $list, "}",
            ),
            listed_ids: || $crate::sql!(
                "SELECT r.id FROM ", $list, " l {by ", $list, "_page} {then} ", $table,
                " r ON r.id = l.id WHERE l.agent_id = $1 [AND l.status = $2] {page l. $4 ", $list, "}",
            ),
            state_rows: || $crate::sql!(
                "SELECT ", <$record as $crate::FromRow>::COLUMNS, " FROM ", $list, " l {by ", $list, "_status} {then} ", $table,
                " r ON r.id = l.id AND r.status = $2", $joined, "WHERE l.agent_id = $1 AND l.status = $2 {page l. $4 ", $list, "}",
            ),
            state_ids: || $crate::sql!(
                "SELECT r.id FROM ", $list, " l {by ", $list, "_status} {then} ", $table,
                " r ON r.id = l.id AND r.status = $2 WHERE l.agent_id = $1 AND l.status = $2 {page l. $4 ", $list, "}",
            ),
            table_total: || $crate::sql!(
                "SELECT count(*) FROM ", $table, " r WHERE r.agent_id = $1 [AND r.status = $2] ",
                $("[AND ", $figure, " = $3] ",)? "{span r. $4}",
            ),
            table_rows: || $crate::sql!(
                "SELECT ", <$record as $crate::FromRow>::COLUMNS, " FROM ", $table, " r", $joined,
                "WHERE r.agent_id = $1 [AND r.status = $2] ", $("[AND ", $figure, " = $3] ",)? "{page r. $4 ", $table, "}",
            ),
            table_ids: || $crate::sql!(
                "SELECT r.id FROM ", $table, " r WHERE r.agent_id = $1 [AND r.status = $2] ",
                $("[AND ", $figure, " = $3] ",)? "{page r. $4 ", $table, "}",
            ),
        }
    };
}

impl Database {
    /// A page of an agent's rows, newest first, and how many the filter leaves.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn read_agent_page<R: FromRow>(
        &self,
        conn: &mut Connection,
        pages: &AgentPages,
        filter: AgentRowFilter<'_>,
        page: &PageRequest,
    ) -> Result<(Vec<R>, i64)> {
        let by_list = filter.figure.is_none() && self.follow_list(conn, pages.table, filter.state.is_some()).await?;
        let (total, rows, ids) = match (by_list, filter.state) {
            (true, None) => (pages.listed_total, pages.listed_rows, pages.listed_ids),
            (true, Some(_)) => (pages.listed_total, pages.state_rows, pages.state_ids),
            (false, _) => (pages.table_total, pages.table_rows, pages.table_ids),
        };
        let total = filter.bind(total()).bind_span(page.created).fetch_value(&mut *conn).await?;
        let found = read_page(
            conn,
            page,
            |page| filter.bind(rows()).bind_page(page),
            |page| filter.bind(ids()).bind_page(page),
        );
        Ok((found.await?, total))
    }
}
