//! Queries of the tables `am_bulk_operations` and `am_bulk_items`, and of the executions that an operation is about.

use serde_json::json;

use super::model::{BulkAction, BulkFault, BulkFilter, BulkOperation, BulkOutcome, BulkStatus};
use crate::{error::Result, model::ExecutionStatus};
use am_core::ids::{BulkOperationId, ExecutionId, PrincipalId};
use am_db::{
    Connection, FromRow as _, Tx,
    codec::{Json, JsonText, Timestamp},
    insert,
    moment::QueryMoment,
    page::PageRequest,
    row, sql, update,
};

row! {
    /// An operation as it is stored.
    pub struct OperationRow from "o." {
        pub id: BulkOperationId,
        pub owner_id: PrincipalId,
        pub action: BulkAction,
        pub redefines: bool,
        pub filter: BulkFilter => Json::into_inner,
        pub status: BulkStatus,
        pub total: i64,
        pub changed: i64,
        pub skipped: i64,
        pub failed: i64,
        pub has_more: bool,
        pub created_at: Timestamp,
        pub ended_at: Option<Timestamp>,
    }
}

row! {
    BulkFault {
        execution_id,
        outcome,
        reason = "coalesce(reason, '')",
    }
}

impl OperationRow {
    /// The operation as clients see it.
    pub fn shown(self, faults: Option<Vec<BulkFault>>) -> BulkOperation {
        BulkOperation {
            id: self.id,
            owner_id: self.owner_id,
            action: self.action,
            redefines: self.redefines,
            filter: self.filter,
            status: self.status,
            total: self.total,
            changed: self.changed,
            skipped: self.skipped,
            failed: self.failed,
            has_more: self.has_more,
            created_at: self.created_at,
            ended_at: self.ended_at,
            faults,
        }
    }
}

row! {
    /// An execution that may be chosen.
    pub struct CandidateRow {
        pub id: ExecutionId = "e.id",
        pub created_at: Timestamp = "e.created_at",
        pub failed_step: Option<String> = "e.failed_step",
        pub definition_hash: Option<String> = "r.definition_hash",
    }
}

/// Whose executions are chosen, and after which.
pub struct CandidateQuery<'q> {
    /// Client as lists have it.
    pub client: &'q str,
    pub status: ExecutionStatus,
    pub filter: &'q BulkFilter,
    /// The last one that was read.
    pub after: Option<(Timestamp, ExecutionId)>,
    pub limit: i64,
}

const FILTERED: &str = " [AND e.workflow_id = $3] [AND e.failed_step = $4]
    [AND {contains e.error_message $5}] ";

/// Read executions by the list of executions, the oldest first.
pub async fn list_candidates(conn: &mut Connection, wanted: &CandidateQuery<'_>) -> Result<Vec<CandidateRow>> {
    let found = sql!(
        "SELECT ",
        CandidateRow::COLUMNS,
        " FROM am_execution_list l {then} agent_executions e ON e.id = l.id LEFT JOIN am_runs r ON r.execution_id = e.id
         WHERE l.client_id = $1 AND l.status = $2",
        FILTERED,
        "[AND l.workflow_id = $3] [AND l.created_at >= $6] [AND l.created_at < $7] [AND (l.created_at, l.id) > ($8, $9)]
         ORDER BY l.created_at, l.id LIMIT $10",
    );
    bind_candidates(found, wanted).fetch_all(conn).await.map_err(Into::into)
}

/// The same from the table itself, all of which is read, until the list is complete.
pub async fn list_unlisted_candidates(conn: &mut Connection, wanted: &CandidateQuery<'_>) -> Result<Vec<CandidateRow>> {
    let found = sql!(
        "SELECT ",
        CandidateRow::COLUMNS,
        " FROM agent_executions e LEFT JOIN am_runs r ON r.execution_id = e.id WHERE e.client_id = $1 AND e.status = $2",
        FILTERED,
        "[AND e.created_at >= $6] [AND e.created_at < $7] [AND (e.created_at, e.id) > ($8, $9)]
         ORDER BY e.created_at, e.id LIMIT $10",
    );
    bind_candidates(found, wanted).fetch_all(conn).await.map_err(Into::into)
}

fn bind_candidates(query: am_db::statement::Query, wanted: &CandidateQuery<'_>) -> am_db::statement::Query {
    let CandidateQuery { client, status, filter, after, limit } = wanted;
    let bound = |moment: Option<QueryMoment>| match moment {
        Some(QueryMoment::At(at)) => Some(at),
        Some(QueryMoment::SecondsAgo(_)) | None => None,
    };
    let (at, id) = after.as_ref().map(|(at, id)| (*at, id)).unzip();
    query
        .bind(*client)
        .bind(*status)
        .bind_some(filter.workflow_id.as_ref())
        .bind_some(filter.failed_step.as_ref())
        .bind_some(filter.error_contains.as_ref())
        .bind_some(bound(filter.created_after))
        .bind_some(bound(filter.created_before))
        .bind_some(at)
        .bind_some(id)
        .bind(*limit)
}

/// Read the body of a definition.
pub async fn get_definition(conn: &mut Connection, hash: &str) -> Result<Option<String>> {
    Ok(sql!("SELECT body FROM am_definitions WHERE hash = $1").bind(hash).fetch_optional_value(conn).await?)
}

/// Count the operations of an owner that go on.
pub async fn count_open(conn: &mut Connection, owner: &PrincipalId) -> Result<i64> {
    let open = sql!("SELECT count(*) FROM am_bulk_operations WHERE owner_id = $1 AND status = 'RUNNING'");
    Ok(open.bind(owner).fetch_value(conn).await?)
}

/// Store an operation with its executions.
pub async fn insert(tx: &mut Tx, new: &BulkOperation, executions: &[ExecutionId]) -> Result<()> {
    insert!("am_bulk_operations" {
        id: &new.id,
        owner_id: &new.owner_id,
        action: new.action,
        redefines: new.redefines,
        filter: JsonText::from_value(&new.filter)?,
        status: new.status,
        total: new.total,
        changed: new.changed,
        skipped: new.skipped,
        failed: new.failed,
        has_more: new.has_more,
        created_at: new.created_at,
        ended_at: new.ended_at,
    })
    .execute(tx.conn().await?)
    .await?;
    if executions.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = executions.iter().enumerate().map(|(place, id)| json!([place, id])).collect();
    sql!(
        "INSERT INTO am_bulk_items (operation_id, place, execution_id)
         SELECT $1, n.place, n.execution_id FROM {records $2 place:bigint execution_id:text} AS n",
    )
    .bind(&new.id)
    .bind(json!(rows).to_string())
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read one operation.
pub async fn get(conn: &mut Connection, id: &BulkOperationId) -> Result<Option<OperationRow>> {
    let found = sql!("SELECT ", OperationRow::COLUMNS, " FROM am_bulk_operations o WHERE o.id = $1").bind(id);
    Ok(found.fetch_optional(conn).await?)
}

/// Read the first executions that an operation did not change.
pub async fn list_faults(conn: &mut Connection, id: &BulkOperationId, most: i64) -> Result<Vec<BulkFault>> {
    let found = sql!(
        "SELECT ",
        BulkFault::COLUMNS,
        " FROM am_bulk_items WHERE operation_id = $1 AND outcome IN ('SKIPPED', 'FAILED') ORDER BY place LIMIT $2",
    );
    Ok(found.bind(id).bind(most).fetch_all(conn).await?)
}

/// Read a page of an owner's operations, newest first, and their number.
pub async fn list(conn: &mut Connection, owner: &PrincipalId, page: &PageRequest) -> Result<(Vec<OperationRow>, i64)> {
    let rows = sql!("SELECT ", OperationRow::COLUMNS, " FROM am_bulk_operations o WHERE o.owner_id = $1 {page o. $2}");
    let rows = rows.bind(owner).bind_page(page).fetch_all(&mut *conn).await?;
    let total = sql!("SELECT count(*) FROM am_bulk_operations WHERE owner_id = $1").bind(owner);
    Ok((rows, total.fetch_value(conn).await?))
}

/// Read the operations that go on, the oldest of each owner first.
pub async fn list_open(conn: &mut Connection, most: i64) -> Result<Vec<OperationRow>> {
    let open = sql!(
        "SELECT ",
        OperationRow::COLUMNS,
        " FROM am_bulk_operations o WHERE o.status = 'RUNNING' ORDER BY o.owner_id, o.created_at LIMIT $1",
    );
    Ok(open.bind(most).fetch_all(conn).await?)
}

/// Read the next executions of an operation that have no outcome, each with its place.
pub async fn list_pending(conn: &mut Connection, id: &BulkOperationId, most: i64) -> Result<Vec<(i64, ExecutionId)>> {
    let pending = sql!(
        "SELECT place, execution_id FROM am_bulk_items WHERE operation_id = $1 AND outcome IS NULL ORDER BY place LIMIT $2",
    );
    Ok(pending.bind(id).bind(most).fetch_all(conn).await?)
}

/// Set the outcome of one execution and count it. Returns false if it has one already, or the operation has ended: nothing may be
/// done then.
pub async fn settle(
    tx: &mut Tx,
    id: &BulkOperationId,
    place: i64,
    outcome: BulkOutcome,
    reason: Option<&str>,
) -> Result<bool> {
    let set = sql!(
        "UPDATE am_bulk_items SET outcome = $3, reason = $4 WHERE operation_id = $1 AND place = $2 AND outcome IS NULL
             AND EXISTS (SELECT 1 FROM am_bulk_operations o WHERE o.id = $1 AND o.status = 'RUNNING')",
    );
    let set = set.bind(id).bind(place).bind(outcome).bind(reason).execute(tx.conn().await?).await?;
    if set == 0 {
        return Ok(false);
    }
    let one = |of: BulkOutcome| i64::from(of == outcome);
    sql!("UPDATE am_bulk_operations SET changed = changed + $2, skipped = skipped + $3, failed = failed + $4 WHERE id = $1")
        .bind(id)
        .bind(one(BulkOutcome::Changed))
        .bind(one(BulkOutcome::Skipped))
        .bind(one(BulkOutcome::Failed))
        .execute(tx.conn().await?)
        .await?;
    Ok(true)
}

/// End an operation. Returns false if it has ended already.
pub async fn end(tx: &mut Tx, id: &BulkOperationId, status: BulkStatus, now: Timestamp) -> Result<bool> {
    let ended =
        update!("am_bulk_operations" { status: status, ended_at: now } where "id = $1 AND status = 'RUNNING'" (id));
    Ok(ended.execute(tx.conn().await?).await? == 1)
}

/// Return whether an operation ended before `limit`.
pub async fn has_ended_before(conn: &mut Connection, limit: Timestamp) -> Result<bool> {
    Ok(sql!("SELECT 1 FROM am_bulk_operations WHERE ended_at <= $1 LIMIT 1").bind(limit).exists(conn).await?)
}

/// Delete executions of operations that ended before `limit`, at most `most` of them, and the operations that have none left.
/// Returns the number of rows.
pub async fn delete_ended(tx: &mut Tx, limit: Timestamp, most: i64) -> Result<u64> {
    let oldest = sql!("SELECT id FROM am_bulk_operations WHERE ended_at <= $1 ORDER BY ended_at LIMIT 1").bind(limit);
    let Some(id) = oldest.fetch_optional_value::<BulkOperationId>(tx.conn().await?).await? else { return Ok(0) };
    let items = sql!(
        "DELETE FROM am_bulk_items WHERE operation_id = $1
             AND place IN (SELECT place FROM am_bulk_items WHERE operation_id = $1 ORDER BY place LIMIT $2)",
    );
    let items = items.bind(&id).bind(most).execute(tx.conn().await?).await?;
    if items > 0 {
        return Ok(items);
    }
    Ok(sql!("DELETE FROM am_bulk_operations WHERE id = $1").bind(&id).execute(tx.conn().await?).await?)
}
