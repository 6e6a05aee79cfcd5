//! Table `am_training_runs`, and the events of runs.

use serde_json::Value;
use sqlx::{QueryBuilder, Row as _};

use super::model::{Kept, NewRun, Record, RunFilter, RunStatus, Task, TrainingRun, Wish};
use crate::error::{Result, unreadable};
use am_db::{
    Connection, Db, Row, Tx,
    codec::{Doc, Timestamp},
    page::Page,
    principal::Principal,
};
use am_events::Event;

const COLUMNS: &str = "id, owner_id, policy, work, status, wish, steps, steps_done, seconds, record, checkpoint, version, scores, \
     ended_by, error, created_at, started_at, ended_at, updated_at";

fn document<T: for<'de> serde::Deserialize<'de>>(row: &Row, column: &str) -> Result<Option<T>> {
    let doc: Doc = row.try_get(column)?;
    doc.parse().map_err(|error| unreadable(column, error))
}

fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| unreadable("a training run", error))
}

fn run(row: &Row, with_curve: bool) -> Result<TrainingRun> {
    let (id, policy): (String, String) = (row.try_get("id")?, row.try_get("policy")?);
    let count = |column: &str| -> Result<u64> { Ok(row.try_get::<i64, _>(column)?.unsigned_abs()) };
    let (steps, steps_done, seconds) = (count("steps")?, count("steps_done")?, row.try_get("seconds")?);
    let task: Option<Task> = document(row, "work")?;
    let record: Record = document(row, "record")?.unwrap_or_default();
    let version = row.try_get::<Option<i64>, _>("version")?.and_then(|version| u32::try_from(version).ok());
    Ok(TrainingRun {
        run_id: id.clone(),
        id,
        owner_id: row.try_get("owner_id")?,
        reference: version.map(|version| format!("{policy}@{version}")),
        policy,
        task: task.ok_or_else(|| unreadable("work", "it is null"))?,
        status: row.try_get("status")?,
        wish: row.try_get("wish")?,
        steps_done,
        // A rollout may go beyond the last step.
        progress: (steps_done as f64 / steps.max(1) as f64).min(1.0),
        seconds,
        steps_per_second: (seconds > 0.0).then(|| steps_done as f64 / seconds),
        episodes: record.episodes,
        mean_return: record.mean_return(),
        measures: record.points.last().map(|point| point.measures.clone()).unwrap_or_default(),
        curve: with_curve.then_some(record.points),
        checkpoint: document(row, "checkpoint")?,
        version,
        scores: document(row, "scores")?,
        ended_by: row.try_get("ended_by")?,
        error: row.try_get("error")?,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// Store a run, queued.
pub async fn insert(tx: &mut Tx, new: &NewRun, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_training_runs (id, owner_id, policy, work, status, steps, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
    )
    .bind(&new.id)
    .bind(&new.owner_id)
    .bind(&new.policy)
    .bind(text(&new.task)?)
    .bind(RunStatus::Queued)
    .bind(new.task.steps().cast_signed())
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    if let Some(feedback) = &new.feedback {
        sqlx::query("INSERT INTO am_training_feedback (run_id, feedback) VALUES (?1, ?2)")
            .bind(&new.id)
            .bind(feedback)
            .execute(tx.conn().await?)
            .await?;
    }
    tell(tx, &new.id, "queued", serde_json::json!({"policy": new.policy, "steps": new.task.steps()}), now).await
}

/// Append an event to a run's stream.
pub async fn tell(tx: &mut Tx, id: &str, kind: &str, data: Value, now: Timestamp) -> Result<()> {
    let seq: i64 = sqlx::query_scalar(
        "UPDATE am_training_runs SET last_event = last_event + 1, updated_at = ?2 WHERE id = ?1 RETURNING last_event",
    )
    .bind(id)
    .bind(now)
    .fetch_one(tx.conn().await?)
    .await?;
    Ok(am_events::append(tx, id, &[Event { seq, kind: kind.to_owned(), at: now, data }]).await?)
}

/// One run.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<TrainingRun>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(" FROM am_training_runs WHERE id = ").push_bind(id);
    query.build().fetch_optional(conn).await?.map(|row| run(&row, true)).transpose()
}

/// How a run stands.
pub async fn status(conn: &mut Connection, id: &str) -> am_db::Result<Option<RunStatus>> {
    Ok(sqlx::query_scalar("SELECT status FROM am_training_runs WHERE id = ?1").bind(id).fetch_optional(conn).await?)
}

/// A page of an owner's runs, newest first, and how many there are in all.
pub async fn list(
    conn: &mut Connection,
    owner: &Principal,
    filter: &RunFilter,
    page: &Page,
) -> Result<(Vec<TrainingRun>, i64)> {
    let matching = |query: &mut QueryBuilder<Db>| {
        query.push(" FROM am_training_runs WHERE owner_id IN (");
        let mut list = query.separated(", ");
        for alias in owner.aliases.iter() {
            list.push_bind(alias.clone());
        }
        query.push(")");
        if let Some(policy) = &filter.policy {
            query.push(" AND policy = ").push_bind(policy.clone());
        }
        if let Some(status) = filter.status {
            query.push(" AND status = ").push_bind(status);
        }
    };
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS);
    matching(&mut query);
    page.push(&mut query, "");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut count = QueryBuilder::<Db>::new("SELECT count(*)");
    matching(&mut count);
    let total = count.build_query_scalar().fetch_one(conn).await?;
    Ok((rows.iter().map(|row| run(row, false)).collect::<Result<_>>()?, total))
}

/// Runs that a process may have to drive, the oldest first: those that wait, and those whose process may be dead.
pub async fn open(conn: &mut Connection) -> Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "SELECT id FROM am_training_runs WHERE status IN ('queued', 'running') ORDER BY created_at, id LIMIT 1000",
    );
    Ok(ids.fetch_all(conn).await?)
}

/// A process drives the run from now on. False: it is open no more.
pub async fn begin(tx: &mut Tx, id: &str, steps: u64, seconds: f64, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE am_training_runs SET status = ?2, steps_done = ?3, seconds = ?4, started_at = coalesce(started_at, ?5)
         WHERE id = ?1 AND status IN ('queued', 'running')",
    )
    .bind(id)
    .bind(RunStatus::Running)
    .bind(steps.cast_signed())
    .bind(seconds)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How far a run is.
pub struct Report {
    pub steps: u64,
    pub seconds: f64,
    /// As JSON; none: it has no new point.
    pub record: Option<String>,
    /// A new checkpoint.
    pub kept: Option<Kept>,
}

/// Save how far a run is; answers what is asked of it.
pub async fn report(tx: &mut Tx, id: &str, report: &Report) -> Result<Option<Wish>> {
    let kept = report.kept.as_ref().map(text).transpose()?;
    let wish: Option<Option<Wish>> = sqlx::query_scalar(
        "UPDATE am_training_runs SET steps_done = ?2, seconds = ?3, record = coalesce(?4, record),
             checkpoint = coalesce(?5, checkpoint) WHERE id = ?1 RETURNING wish",
    )
    .bind(id)
    .bind(report.steps.cast_signed())
    .bind(report.seconds)
    .bind(&report.record)
    .bind(kept)
    .fetch_optional(tx.conn().await?)
    .await?;
    Ok(wish.flatten())
}

/// How a run ends, or is let go.
#[derive(Default)]
pub struct Ending {
    pub version: Option<u32>,
    pub scores: Option<Value>,
    pub ended_by: Option<&'static str>,
    pub error: Option<String>,
}

/// Nobody drives the run any more. One that has ended needs its checkpoint no longer.
pub async fn release(tx: &mut Tx, id: &str, status: RunStatus, ending: &Ending, now: Timestamp) -> Result<()> {
    sqlx::query(
        "UPDATE am_training_runs SET status = ?2, wish = NULL, version = ?3, scores = ?4, ended_by = ?5, error = ?6,
             ended_at = CASE WHEN ?7 THEN ?8 END, checkpoint = CASE WHEN ?7 THEN 'null' ELSE checkpoint END WHERE id = ?1",
    )
    .bind(id)
    .bind(status)
    .bind(ending.version)
    .bind(text(&ending.scores)?)
    .bind(ending.ended_by)
    .bind(&ending.error)
    .bind(status.is_final())
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Ask something of a run that is driven, or nothing any more.
pub async fn wish(tx: &mut Tx, id: &str, wish: Option<Wish>) -> Result<()> {
    sqlx::query("UPDATE am_training_runs SET wish = ?2 WHERE id = ?1")
        .bind(id)
        .bind(wish)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// What is asked of a run.
pub async fn wished(tx: &mut Tx, id: &str) -> Result<Option<Wish>> {
    let wish: Option<Option<Wish>> = sqlx::query_scalar("SELECT wish FROM am_training_runs WHERE id = ?1")
        .bind(id)
        .fetch_optional(tx.conn().await?)
        .await?;
    Ok(wish.flatten())
}

/// The feedback that a run learns from, as JSON.
pub async fn feedback(conn: &mut Connection, id: &str) -> Result<Option<String>> {
    let found = sqlx::query_scalar("SELECT feedback FROM am_training_feedback WHERE run_id = ?1").bind(id);
    Ok(found.fetch_optional(conn).await?)
}
