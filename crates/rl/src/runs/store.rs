//! Table `am_training_runs`, and the events of runs.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    curve_export::remaining_seconds,
    labels::RunLabels,
    model::{CheckpointRef, ControlRequest, NewTrainingRun, OpenRun, RunFilter, RunStatus, TrainingRun, TrainingTask},
    promotion::PromotionDecision,
    record::TrainingRecord,
    training_event::TrainingEventKind,
};
use crate::{
    environments::BRIDGE_ENVIRONMENT,
    error::{Result, corrupt_json_error},
};
use am_core::ids::{PrincipalId, TrainingRunId};
use am_db::{
    Connection, FromRow as _, Tx,
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
    /// A row of `am_training_runs`.
    struct TrainingRunRow {
        id: TrainingRunId,
        owner_id: PrincipalId,
        policy: String,
        name: Option<String>,
        tags: Vec<String> => JsonOr::into_inner,
        task: TrainingTask = "work" => Json::into_inner,
        status: RunStatus,
        wish: Option<ControlRequest>,
        steps: u64 => i64::unsigned_abs,
        steps_done: u64 => i64::unsigned_abs,
        seconds: f64,
        record: TrainingRecord => JsonOr::into_inner,
        checkpoint: Option<CheckpointRef> => JsonOr::into_inner,
        promotion: Option<Vec<PromotionDecision>> => JsonOr::into_inner,
        restarts: u64 => i64::unsigned_abs,
        restart_reason: Option<String>,
        version: Option<u32> => |version: Option<i64>| version.and_then(|version| u32::try_from(version).ok()),
        scores: Option<Value> => JsonOr::into_inner,
        ended_by: Option<String>,
        error: Option<String>,
        created_at: Timestamp,
        started_at: Option<Timestamp>,
        ended_at: Option<Timestamp>,
        updated_at: Timestamp,
    }
}

row! {
    OpenRun {
        id,
        owner_id,
        status,
        created_at,
        served_at,
        needs_bridge => |environment: Option<String>| environment.as_deref() == Some(BRIDGE_ENVIRONMENT),
    }
}

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt_json_error("a training run", error))
}

fn run_from_row(row: TrainingRunRow, with_curve: bool) -> TrainingRun {
    let record = row.record;
    let eta = remaining_seconds(row.status, (row.steps_done, row.steps), row.seconds);
    TrainingRun {
        run_id: row.id.clone(),
        id: row.id,
        owner_id: row.owner_id,
        reference: row.version.map(|version| format!("{}@{version}", row.policy)),
        policy: row.policy,
        name: row.name,
        tags: row.tags,
        task: row.task,
        status: row.status,
        wish: row.wish,
        steps_done: row.steps_done,
        // A rollout may go beyond the last step.
        progress: (row.steps_done as f64 / row.steps.max(1) as f64).min(1.0),
        seconds: row.seconds,
        steps_per_second: (row.seconds > 0.0).then(|| row.steps_done as f64 / row.seconds),
        eta_seconds: eta.ok(),
        eta_reason: eta.err().map(str::to_owned),
        episodes: record.episodes,
        gradient_steps: record.gradient_steps,
        mean_return: record.mean_return(),
        warnings: record.warnings(),
        measures: record.points.last().map(|point| point.measures.clone()).unwrap_or_default(),
        curve: with_curve.then_some(record.points),
        evaluated: record.evaluations,
        promotion: row.promotion,
        checkpoint: row.checkpoint,
        restarts: row.restarts,
        restart_reason: row.restart_reason,
        version: row.version,
        scores: row.scores,
        ended_by: row.ended_by,
        error: row.error,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        updated_at: row.updated_at,
    }
}

/// Store a queued run.
pub async fn insert(tx: &mut Tx, new: &NewTrainingRun, now: Timestamp) -> Result<()> {
    insert!("am_training_runs" {
        id: &new.id,
        owner_id: &new.owner_id,
        policy: &new.policy,
        name: &new.labels.name,
        tags: json_text(&new.labels.tags)?,
        work: json_text(&new.task)?,
        status: RunStatus::Queued,
        steps: new.task.steps().cast_signed(),
        own_environment: new.task.own_environment(),
        created_at: now,
        updated_at: now,
    })
    .execute(tx.conn().await?)
    .await?;
    if let Some(feedback) = &new.feedback {
        insert!("am_training_feedback" { run_id: &new.id, feedback: feedback }).execute(tx.conn().await?).await?;
    }
    insert_labels(tx, &new.id, &new.owner_id, &new.labels, now).await?;
    let data = serde_json::json!({"policy": new.policy, "name": new.labels.name, "steps": new.task.steps()});
    append_event(tx, &new.id, TrainingEventKind::Queued, data, now).await
}

/// Store what a run of this time is found by.
async fn insert_labels(
    tx: &mut Tx,
    id: &TrainingRunId,
    owner: &PrincipalId,
    labels: &RunLabels,
    created_at: Timestamp,
) -> Result<()> {
    for label in labels.labels() {
        let row = insert!("am_training_labels" { id: id, label: label, owner_id: owner, created_at: created_at });
        row.execute(tx.conn().await?).await?;
    }
    Ok(())
}

/// Give a run another name and other tags.
pub async fn save_labels(tx: &mut Tx, run: &TrainingRun, labels: &RunLabels, now: Timestamp) -> Result<()> {
    let row = update!("am_training_runs" {
        name: &labels.name,
        tags: json_text(&labels.tags)?,
        updated_at: now,
    } where "id = $1" (&run.id));
    row.execute(tx.conn().await?).await?;
    sql!("DELETE FROM am_training_labels WHERE id = $1").bind(&run.id).execute(tx.conn().await?).await?;
    insert_labels(tx, &run.id, &run.owner_id, labels, run.created_at).await
}

/// Append an event to a run's stream.
pub async fn append_event(
    tx: &mut Tx,
    id: &TrainingRunId,
    kind: TrainingEventKind,
    data: Value,
    now: Timestamp,
) -> Result<()> {
    let seq = sql!(
        "UPDATE am_training_runs SET last_event = last_event + 1, updated_at = $2 WHERE id = $1 RETURNING last_event",
    );
    let seq = seq.bind(id).bind(now).fetch_value(tx.conn().await?).await?;
    Ok(am_events::append_events(tx, id, &[StreamEvent { seq, kind: kind.word().to_owned(), at: now, data }]).await?)
}

/// Read one run.
pub async fn get(conn: &mut Connection, id: &TrainingRunId) -> Result<Option<TrainingRun>> {
    let found = sql!("SELECT ", TrainingRunRow::COLUMNS, " FROM am_training_runs WHERE id = $1").bind(id);
    Ok(found.fetch_optional(conn).await?.map(|row| run_from_row(row, true)))
}

/// Read the status of a run.
pub async fn get_status(conn: &mut Connection, id: &TrainingRunId) -> am_db::Result<Option<RunStatus>> {
    sql!("SELECT status FROM am_training_runs WHERE id = $1").bind(id).fetch_optional_value(conn).await
}

const MATCHING: &str = " FROM am_training_runs WHERE 1 = 1 [AND owner_id = $1] [AND policy = $2] [AND status IN ($3)] [AND ended_at > $4] [AND ended_at < $5] ";

fn bind_filter(query: Query, owner: &Principal, filter: &RunFilter) -> Query {
    let query = query.bind_some((!filter.all).then(|| owner.id())).bind_some(filter.policy.as_ref());
    query.bind_all_some(some_of(&filter.status)).bind_span(filter.ended)
}

/// Read a page of an owner's runs, or everybody's, newest first, and their total number.
pub async fn list(
    conn: &mut Connection,
    owner: &Principal,
    filter: &RunFilter,
    page: &PageRequest,
) -> Result<(Vec<TrainingRun>, i64)> {
    if !filter.labels.is_empty() {
        return list_labelled(conn, owner, filter, page).await;
    }
    let runs = bind_filter(sql!("SELECT ", TrainingRunRow::COLUMNS, MATCHING, "{page $6}"), owner, filter);
    let runs: Vec<TrainingRunRow> = runs.bind_page(page).fetch_all(&mut *conn).await?;
    let total = bind_filter(sql!("SELECT count(*)", MATCHING, "{span $6}"), owner, filter);
    let total = total.bind_span(page.created).fetch_value(conn).await?;
    Ok((runs.into_iter().map(|row| run_from_row(row, false)).collect(), total))
}

const LABELLED: &str = " FROM am_training_labels g {then} am_training_runs r ON r.id = g.id
     WHERE g.label = $1 [AND g.owner_id = $2] [AND r.policy = $3] [AND r.status IN ($4)] [AND r.ended_at > $5] [AND r.ended_at < $6]
         AND NOT EXISTS (SELECT 1 FROM {texts $7} AS w
             WHERE NOT EXISTS (SELECT 1 FROM am_training_labels o WHERE o.id = g.id AND o.label = w.value)) ";

/// Bind the parameters of [`LABELLED`]: the rows of the first label are gone through, and must have the others.
fn bind_labelled(query: Query, owner: &Principal, filter: &RunFilter) -> Result<Query> {
    let mut labels = filter.labels.iter();
    let query = query.bind(labels.next()).bind_some((!filter.all).then(|| owner.id()));
    let query = query.bind_some(filter.policy.as_ref()).bind_all_some(some_of(&filter.status)).bind_span(filter.ended);
    Ok(query.bind(json_text(&labels.collect::<Vec<_>>())?))
}

/// The same as [`list`], of the runs that have all labels of the filter.
async fn list_labelled(
    conn: &mut Connection,
    owner: &Principal,
    filter: &RunFilter,
    page: &PageRequest,
) -> Result<(Vec<TrainingRun>, i64)> {
    let ids = bind_labelled(sql!("SELECT g.id", LABELLED, "{page g. $8}"), owner, filter)?;
    let ids: Vec<TrainingRunId> = ids.bind_page(page).fetch_values(&mut *conn).await?;
    let total = bind_labelled(sql!("SELECT count(*)", LABELLED, "{span g. $8}"), owner, filter)?;
    let total = total.bind_span(page.created).fetch_value(&mut *conn).await?;
    if ids.is_empty() {
        return Ok((Vec::new(), total));
    }
    let rows = sql!("SELECT ", TrainingRunRow::COLUMNS, " FROM am_training_runs WHERE id IN ($1)").bind_all(ids.iter());
    let rows: Vec<TrainingRunRow> = rows.fetch_all(conn).await?;
    let mut runs: HashMap<TrainingRunId, TrainingRun> =
        rows.into_iter().map(|row| (row.id.clone(), run_from_row(row, false))).collect();
    Ok((ids.iter().filter_map(|id| runs.remove(id)).collect(), total))
}

/// Read the runs that a process may have to drive: queued ones, and running ones whose process may have died. Each with the
/// time when a run of its owner was last served.
pub async fn list_open(conn: &mut Connection) -> Result<Vec<OpenRun>> {
    let open = sql!(
        "SELECT id, owner_id, status, created_at,
             (SELECT max(other.served_at) FROM am_training_runs other
              WHERE other.owner_id = am_training_runs.owner_id) AS served_at,
             own_environment
         FROM am_training_runs WHERE status IN ('queued', 'running')",
    );
    Ok(open.fetch_all(conn).await?)
}

/// Count the runs of an owner that have not ended.
pub async fn count_unended(conn: &mut Connection, owner: &[String]) -> Result<i64> {
    let open = sql!(
        "SELECT count(*) FROM am_training_runs WHERE owner_id IN ($1) AND status IN ('queued', 'running', 'paused')",
    );
    Ok(open.bind_all(owner.iter()).fetch_value(conn).await?)
}

/// Count a claim of a run. Returns the claims since it last came further than ever, this one included; `None` if it is no
/// longer open.
pub async fn claim(tx: &mut Tx, id: &TrainingRunId, now: Timestamp) -> Result<Option<i64>> {
    let claimed = sql!(
        "UPDATE am_training_runs SET claims = claims + 1, served_at = $2
         WHERE id = $1 AND status IN ('queued', 'running') RETURNING claims",
    );
    Ok(claimed.bind(id).bind(now).fetch_optional_value(tx.conn().await?).await?)
}

/// Mark a run as driven by this process. Returns false if it is no longer open.
pub async fn mark_running(tx: &mut Tx, id: &TrainingRunId, steps: u64, seconds: f64, now: Timestamp) -> Result<bool> {
    let begun = sql!(
        "UPDATE am_training_runs SET status = $2, steps_done = $3, seconds = $4, started_at = coalesce(started_at, $5),
             error = NULL
         WHERE id = $1 AND status IN ('queued', 'running')",
    );
    let begun = begun.bind(id).bind(RunStatus::Running).bind(steps.cast_signed()).bind(seconds).bind(now);
    Ok(begun.execute(tx.conn().await?).await? == 1)
}

/// Note that a run began anew, and why.
pub async fn save_restart(tx: &mut Tx, id: &TrainingRunId, reason: &str) -> Result<()> {
    sql!("UPDATE am_training_runs SET restarts = restarts + 1, restart_reason = $2, checkpoint = 'null' WHERE id = $1")
        .bind(id)
        .bind(reason)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Progress of a run.
pub struct RunProgress {
    pub steps: u64,
    pub seconds: f64,
    /// Training record as JSON; `None` when it has no new point.
    pub record: Option<String>,
    /// New checkpoint, if one was written.
    pub kept: Option<CheckpointRef>,
}

/// Save the progress of a run and return the pending control request. A checkpoint that is further than any before is
/// progress, after which claims are counted anew.
pub async fn save_progress(tx: &mut Tx, id: &TrainingRunId, report: &RunProgress) -> Result<Option<ControlRequest>> {
    let kept = report.kept.as_ref().map(json_text).transpose()?;
    let reported = sql!(
        "UPDATE am_training_runs SET steps_done = CAST($2 AS BIGINT), seconds = $3, record = coalesce($4, record),
             checkpoint = coalesce($5, checkpoint),
             claims = CASE WHEN $5 IS NOT NULL AND CAST($2 AS BIGINT) > reached THEN 0 ELSE claims END,
             reached = CASE WHEN $5 IS NOT NULL AND CAST($2 AS BIGINT) > reached THEN CAST($2 AS BIGINT) ELSE reached END
         WHERE id = $1 RETURNING wish",
    )
    .bind(id)
    .bind(report.steps.cast_signed())
    .bind(report.seconds)
    .bind(&report.record)
    .bind(kept);
    let wish: Option<Option<ControlRequest>> = reported.fetch_optional_value(tx.conn().await?).await?;
    Ok(wish.flatten())
}

/// Result with which a run ends or is released.
#[derive(Default)]
pub struct RunEnding {
    pub version: Option<u32>,
    pub scores: Option<Value>,
    pub ended_by: Option<&'static str>,
    pub error: Option<String>,
    /// Decisions on the aliases; `None`: there is no condition.
    pub promotion: Option<Vec<PromotionDecision>>,
}

/// Mark a run as no longer driven, in an orderly way: its claims are counted anew. A run that has ended no longer needs its
/// checkpoint.
pub async fn save_release(
    tx: &mut Tx,
    id: &TrainingRunId,
    status: RunStatus,
    ending: &RunEnding,
    now: Timestamp,
) -> Result<()> {
    sql!(
        "UPDATE am_training_runs SET status = $2, wish = NULL, claims = 0, version = $3, scores = $4, ended_by = $5, error = $6,
             ended_at = $7, checkpoint = CASE WHEN $8 THEN 'null' ELSE checkpoint END, promotion = $9 WHERE id = $1",
    )
    .bind(id)
    .bind(status)
    .bind(ending.version.map(i64::from))
    .bind(json_text(&ending.scores)?)
    .bind(ending.ended_by)
    .bind(&ending.error)
    .bind(status.is_final().then_some(now))
    .bind(status.is_final())
    .bind(json_text(&ending.promotion)?)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Set or clear the control request of a running run.
pub async fn set_control_request(tx: &mut Tx, id: &TrainingRunId, wish: Option<ControlRequest>) -> Result<()> {
    update!("am_training_runs" { wish: wish } where "id = $1" (id)).execute(tx.conn().await?).await?;
    Ok(())
}

/// Read the control request of a run.
pub async fn get_control_request(tx: &mut Tx, id: &TrainingRunId) -> Result<Option<ControlRequest>> {
    let wish = sql!("SELECT wish FROM am_training_runs WHERE id = $1").bind(id);
    let wish: Option<Option<ControlRequest>> = wish.fetch_optional_value(tx.conn().await?).await?;
    Ok(wish.flatten())
}

/// Read the feedback of a run, as JSON.
pub async fn get_feedback(conn: &mut Connection, id: &TrainingRunId) -> Result<Option<String>> {
    let found = sql!("SELECT feedback FROM am_training_feedback WHERE run_id = $1").bind(id);
    Ok(found.fetch_optional_value(conn).await?)
}
