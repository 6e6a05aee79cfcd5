//! Tables `am_background_tasks` and `am_background_checkpoints`, and the events of tasks.

use serde_json::Value;

use crate::model::{BackgroundWork, NewWork, OpenWork, WorkFilter, WorkStatus, WorkWish};
use am_core::ids::{BackgroundTaskId, PrincipalId};
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    codec::{Json, JsonOr, Timestamp},
    insert,
    page::PageRequest,
    principal::Principal,
    row, sql,
    statement::{Query, some_of},
    update,
};
use am_events::StreamEvent;

row! {
    /// A row of `am_background_tasks`.
    struct BackgroundRow {
        id: BackgroundTaskId,
        kind: String,
        subject: String,
        owner_id: PrincipalId,
        parameters: Value => Json::into_inner,
        seed: u64 => i64::cast_unsigned,
        status: WorkStatus,
        wish: Option<WorkWish>,
        done: u64 => i64::unsigned_abs,
        total: u64 => i64::unsigned_abs,
        note: Option<Value> => JsonOr::into_inner,
        seconds: f64,
        result: Option<Value> => JsonOr::into_inner,
        error: Option<String>,
        created_at: Timestamp,
        started_at: Option<Timestamp>,
        ended_at: Option<Timestamp>,
        updated_at: Timestamp,
    }
}

row! {
    OpenWork {
        id,
        kind,
        owner_id,
        status,
        created_at,
        served_at,
    }
}

impl From<BackgroundRow> for BackgroundWork {
    fn from(row: BackgroundRow) -> Self {
        let share = (row.total > 0).then(|| (row.done as f64 / row.total as f64).min(1.0));
        Self {
            id: row.id,
            kind: row.kind,
            subject: row.subject,
            owner_id: row.owner_id,
            parameters: row.parameters,
            seed: row.seed,
            status: row.status,
            asked: row.wish,
            done: row.done,
            total: row.total,
            progress: if row.status == WorkStatus::Completed { Some(1.0) } else { share },
            note: row.note,
            seconds: row.seconds,
            result: row.result,
            error: row.error,
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            updated_at: row.updated_at,
        }
    }
}

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// Store a queued task.
pub(crate) async fn insert(tx: &mut Tx, new: &NewWork, now: Timestamp) -> Result<()> {
    let task = insert!("am_background_tasks" {
        id: &new.id,
        kind: new.kind,
        subject: &new.subject,
        owner_id: &new.owner_id,
        parameters: json_text(&new.parameters)?,
        seed: new.seed.cast_signed(),
        status: WorkStatus::Queued,
        created_at: now,
        updated_at: now,
    });
    task.execute(tx.conn().await?).await?;
    Ok(())
}

/// Append events to a task's stream.
pub(crate) async fn append_events(
    tx: &mut Tx,
    id: &BackgroundTaskId,
    events: Vec<(&'static str, Value)>,
    now: Timestamp,
) -> Result<()> {
    let count = events.len() as i64;
    let last = sql!(
        "UPDATE am_background_tasks SET last_event = last_event + $2, updated_at = $3 WHERE id = $1 RETURNING last_event",
    );
    let last: i64 = last.bind(id).bind(count).bind(now).fetch_value(tx.conn().await?).await?;
    let numbered = events.into_iter().zip(last - count + 1..);
    let events = numbered.map(|((kind, data), seq)| StreamEvent { seq, kind: kind.to_owned(), at: now, data });
    am_events::append_events(tx, id, &events.collect::<Vec<_>>()).await
}

/// Read one task.
pub(crate) async fn get(conn: &mut Connection, id: &BackgroundTaskId) -> Result<Option<BackgroundWork>> {
    let found = sql!("SELECT ", BackgroundRow::COLUMNS, " FROM am_background_tasks WHERE id = $1").bind(id);
    let found: Option<BackgroundRow> = found.fetch_optional(conn).await?;
    Ok(found.map(Into::into))
}

/// Read the status of a task.
pub(crate) async fn get_status(conn: &mut Connection, id: &BackgroundTaskId) -> Result<Option<WorkStatus>> {
    sql!("SELECT status FROM am_background_tasks WHERE id = $1").bind(id).fetch_optional_value(conn).await
}

const MATCHING: &str = " FROM am_background_tasks WHERE 1 = 1 [AND owner_id = $1] [AND kind = $2] [AND subject = $3] [AND status IN ($4)] ";

fn bind_filter(query: Query, owner: &Principal, filter: &WorkFilter) -> Query {
    let query = query.bind_some((!filter.all).then(|| owner.id())).bind_some(filter.kind.as_ref());
    query.bind_some(filter.subject.as_ref()).bind_all_some(some_of(&filter.status))
}

/// Read a page of an owner's tasks, or everybody's, newest first, and their total number.
pub(crate) async fn list(
    conn: &mut Connection,
    owner: &Principal,
    filter: &WorkFilter,
    page: &PageRequest,
) -> Result<(Vec<BackgroundWork>, i64)> {
    let tasks = bind_filter(sql!("SELECT ", BackgroundRow::COLUMNS, MATCHING, "{page $5}"), owner, filter);
    let tasks: Vec<BackgroundRow> = tasks.bind_page(page).fetch_all(&mut *conn).await?;
    let total = bind_filter(sql!("SELECT count(*)", MATCHING, "{span $5}"), owner, filter);
    let total = total.bind_span(page.created).fetch_value(conn).await?;
    Ok((tasks.into_iter().map(Into::into).collect(), total))
}

/// Read the tasks that a process may have to drive: queued ones, and running ones whose process may have died. Each with the time
/// when a task of its owner was last served.
pub(crate) async fn list_open(conn: &mut Connection) -> Result<Vec<OpenWork>> {
    let open = sql!(
        "SELECT id, kind, owner_id, status, created_at,
             (SELECT max(other.served_at) FROM am_background_tasks other
              WHERE other.owner_id = am_background_tasks.owner_id) AS served_at
         FROM am_background_tasks WHERE status IN ('queued', 'running')",
    );
    open.fetch_all(conn).await
}

/// Count the tasks of an owner that have not ended.
pub(crate) async fn count_unended(conn: &mut Connection, owner: &PrincipalId) -> Result<i64> {
    let open = sql!(
        "SELECT count(*) FROM am_background_tasks WHERE owner_id = $1 AND status IN ('queued', 'running', 'paused')",
    );
    open.bind(owner).fetch_value(conn).await
}

/// Count a claim of a task. Returns the claims since its last new checkpoint, this one included; `None` if it is no longer open.
pub(crate) async fn claim(tx: &mut Tx, id: &BackgroundTaskId, now: Timestamp) -> Result<Option<i64>> {
    let claimed = sql!(
        "UPDATE am_background_tasks SET claims = claims + 1, served_at = $2
         WHERE id = $1 AND status IN ('queued', 'running') RETURNING claims",
    );
    claimed.bind(id).bind(now).fetch_optional_value(tx.conn().await?).await
}

/// Mark a task as driven by this process. Returns false if it is no longer open.
pub(crate) async fn mark_running(tx: &mut Tx, id: &BackgroundTaskId, now: Timestamp) -> Result<bool> {
    let begun = sql!(
        "UPDATE am_background_tasks SET status = 'running', started_at = coalesce(started_at, $2)
         WHERE id = $1 AND status IN ('queued', 'running')",
    );
    Ok(begun.bind(id).bind(now).execute(tx.conn().await?).await? == 1)
}

/// Progress of a task.
pub(crate) struct WorkReport {
    pub done: u64,
    pub total: u64,
    pub note: Option<Value>,
    pub seconds: f64,
    /// New checkpoint, if one was made.
    pub checkpoint: Option<String>,
}

/// Save the progress of a task and return what was asked of it. A new checkpoint is progress, after which claims are counted anew.
pub(crate) async fn save_report(tx: &mut Tx, id: &BackgroundTaskId, report: WorkReport) -> Result<Option<WorkWish>> {
    let kept = report.checkpoint.is_some();
    if let Some(content) = report.checkpoint {
        let checkpoint = insert!("am_background_checkpoints" { task_id: id, content: content } update on (task_id));
        checkpoint.execute(tx.conn().await?).await?;
    }
    let reported = sql!(
        "UPDATE am_background_tasks SET done = $2, total = $3, note = $4, seconds = $5,
             claims = CASE WHEN $6 THEN 0 ELSE claims END WHERE id = $1 RETURNING wish",
    )
    .bind(id)
    .bind(report.done.cast_signed())
    .bind(report.total.cast_signed())
    .bind(json_text(&report.note)?)
    .bind(report.seconds)
    .bind(kept);
    let wish: Option<Option<WorkWish>> = reported.fetch_optional_value(tx.conn().await?).await?;
    Ok(wish.flatten())
}

/// Read the checkpoint of a task.
pub(crate) async fn get_checkpoint(conn: &mut Connection, id: &BackgroundTaskId) -> Result<Option<String>> {
    let found = sql!("SELECT content FROM am_background_checkpoints WHERE task_id = $1").bind(id);
    found.fetch_optional_value(conn).await
}

/// Mark a task as no longer driven, in an orderly way: its claims are counted anew.
pub(crate) async fn save_release(
    tx: &mut Tx,
    id: &BackgroundTaskId,
    status: WorkStatus,
    seconds: f64,
    (result, error): (Option<&Value>, Option<&str>),
    now: Timestamp,
) -> Result<()> {
    let released = sql!(
        "UPDATE am_background_tasks SET status = $2, wish = NULL, claims = 0, seconds = $3, result = $4, error = $5,
             ended_at = $6, updated_at = $7 WHERE id = $1",
    )
    .bind(id)
    .bind(status)
    .bind(seconds)
    .bind(json_text(&result)?)
    .bind(error)
    .bind(status.is_final().then_some(now))
    .bind(now);
    released.execute(tx.conn().await?).await?;
    if status.is_final() {
        let checkpoint = sql!("DELETE FROM am_background_checkpoints WHERE task_id = $1").bind(id);
        checkpoint.execute(tx.conn().await?).await?;
    }
    Ok(())
}

/// Read what is asked of a running task.
pub(crate) async fn get_wish(conn: &mut Connection, id: &BackgroundTaskId) -> Result<Option<WorkWish>> {
    let wish = sql!("SELECT wish FROM am_background_tasks WHERE id = $1").bind(id);
    Ok(wish.fetch_optional_value::<Option<WorkWish>>(conn).await?.flatten())
}

/// Set or clear what is asked of a running task.
pub(crate) async fn set_wish(tx: &mut Tx, id: &BackgroundTaskId, wish: Option<WorkWish>) -> Result<()> {
    update!("am_background_tasks" { wish: wish } where "id = $1" (id)).execute(tx.conn().await?).await?;
    Ok(())
}
