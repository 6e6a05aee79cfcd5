//! SQL of tables `am_sweeps` and `am_sweep_trials`.

use am_core::ids::SweepId;
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    codec::{Json, JsonText, Timestamp},
    insert,
    page::PageRequest,
    principal::Principal,
    row, sql,
    statement::{Query, some_of},
    update,
};

use super::model::{SweepFilter, SweepPlan, SweepRecord, TrialRecord};

row! {
    SweepRecord {
        id,
        owner_id,
        status,
        plan => Json::into_inner,
        task_id,
        ended => i64::unsigned_abs,
        best_trial,
        ended_by,
        error,
        created_at,
        ended_at,
        updated_at,
    }
}

row! {
    TrialRecord from "t." {
        sweep_id,
        trial,
        state,
        settings => Json::into_inner,
        point => Json::into_inner,
        runs => Json::into_inner,
        score,
        reason,
        created_at,
        ended_at,
    }
}

fn json(value: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// Store a sweep that is asked for.
pub(super) async fn insert(tx: &mut Tx, sweep: &SweepRecord) -> Result<()> {
    let SweepPlan { name, tags, policy, trials, .. } = &sweep.plan;
    let row = insert!("am_sweeps" {
        id: &sweep.id,
        owner_id: &sweep.owner_id,
        name: name,
        tags: json(tags)?,
        policy: policy,
        status: sweep.status,
        plan: json(&sweep.plan)?,
        task_id: &sweep.task_id,
        trials: i64::from(*trials),
        created_at: sweep.created_at,
        updated_at: sweep.updated_at,
    });
    row.execute(tx.conn().await?).await?;
    Ok(())
}

/// Read one sweep.
pub(super) async fn get(conn: &mut Connection, id: &SweepId) -> Result<Option<SweepRecord>> {
    let found = sql!("SELECT ", SweepRecord::COLUMNS, " FROM am_sweeps WHERE id = $1").bind(id);
    found.fetch_optional(conn).await
}

const MATCHING: &str = " FROM am_sweeps WHERE 1 = 1 [AND owner_id = $1] [AND status IN ($2)] ";

fn bind_filter(query: Query, owner: &Principal, filter: &SweepFilter) -> Query {
    query.bind_some((!filter.all).then(|| owner.id())).bind_all_some(some_of(&filter.status))
}

/// Read a page of an owner's sweeps, or everybody's, newest first, and their total number.
pub(super) async fn list(
    conn: &mut Connection,
    owner: &Principal,
    filter: &SweepFilter,
    page: &PageRequest,
) -> Result<(Vec<SweepRecord>, i64)> {
    let sweeps = bind_filter(sql!("SELECT ", SweepRecord::COLUMNS, MATCHING, "{page $3}"), owner, filter);
    let sweeps = sweeps.bind_page(page).fetch_all(&mut *conn).await?;
    let total = bind_filter(sql!("SELECT count(*)", MATCHING, "{span $3}"), owner, filter);
    Ok((sweeps, total.bind_span(page.created).fetch_value(conn).await?))
}

/// Read the best trials of sweeps that have one.
pub(super) async fn best_trials(conn: &mut Connection, sweeps: &[SweepId]) -> Result<Vec<TrialRecord>> {
    if sweeps.is_empty() {
        return Ok(Vec::new());
    }
    let found = sql!(
        "SELECT ",
        TrialRecord::COLUMNS,
        " FROM am_sweeps s {then} am_sweep_trials t ON t.sweep_id = s.id AND t.trial = s.best_trial WHERE s.id IN ($1)",
    );
    found.bind_all(sweeps.iter()).fetch_all(conn).await
}

/// Read the trials of a sweep, in their order.
pub(super) async fn trials(conn: &mut Connection, id: &SweepId) -> Result<Vec<TrialRecord>> {
    let found = sql!("SELECT ", TrialRecord::COLUMNS, " FROM am_sweep_trials t WHERE t.sweep_id = $1 ORDER BY t.trial");
    found.bind(id).fetch_all(conn).await
}

/// Store a trial as it is now.
pub(super) async fn put_trial(tx: &mut Tx, trial: &TrialRecord) -> Result<()> {
    let row = insert!("am_sweep_trials" {
        sweep_id: &trial.sweep_id,
        trial: trial.trial,
        state: trial.state,
        settings: json(&trial.settings)?,
        point: json(&trial.point)?,
        runs: json(&trial.runs)?,
        score: trial.score,
        reason: &trial.reason,
        created_at: trial.created_at,
        ended_at: trial.ended_at,
    } update on (sweep_id, trial) except (created_at));
    row.execute(tx.conn().await?).await?;
    Ok(())
}

/// Store how many trials have ended, and which is the best.
pub(super) async fn save_progress(
    tx: &mut Tx,
    id: &SweepId,
    (ended, best): (u64, Option<i64>),
    now: Timestamp,
) -> Result<()> {
    let row = update!("am_sweeps" {
        ended: ended.cast_signed(),
        best_trial: best,
        updated_at: now,
    } where "id = $1" (id));
    row.execute(tx.conn().await?).await?;
    Ok(())
}

/// Store the end of a sweep.
pub(super) async fn save_end(tx: &mut Tx, sweep: &SweepRecord) -> Result<()> {
    let row = update!("am_sweeps" {
        status: sweep.status,
        ended_by: &sweep.ended_by,
        error: &sweep.error,
        ended_at: sweep.ended_at,
        updated_at: sweep.updated_at,
    } where "id = $1" (&sweep.id));
    row.execute(tx.conn().await?).await?;
    Ok(())
}
