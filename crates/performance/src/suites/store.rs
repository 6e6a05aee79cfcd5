//! SQL of suites, evaluations and gates.

use am_core::{
    ids::{BackgroundTaskId, EvaluationId, ExecutionId, PrincipalId, SuiteId, WorkflowId},
    money::Money,
};
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{Json, JsonText, Timestamp},
    page::PageRequest,
    push_row, row, sql, update,
};

use super::{
    figures::ScoredCase,
    model::{EvaluationState, ResultDocument, ResultState, SuiteCase, SuiteDocument, TargetKind},
    record::{EvaluationRecord, EvaluationWork, target_name},
};

row! {
    SuiteDocument {
        id = "s.id",
        owner_id = "s.owner_id",
        name = "s.name",
        latest = "s.latest",
        version = "v.version",
        description = "v.description",
        output_step = "v.output_step",
        cases = "v.cases",
        sha256 = "v.sha256",
        created_at = "s.created_at",
        updated_at = "s.updated_at",
    }
}

row! {
    SuiteCase {
        id,
        name,
        input => Json::into_inner,
        check = "rule" => Json::into_inner,
        weight,
        sha256,
        created_at,
    }
}

row! {
    EvaluationRecord {
        id,
        suite_id,
        version,
        owner_id,
        target_kind,
        target_id,
        agent_id,
        workflow_id,
        parallel,
        task_type,
        timeout_seconds,
        state,
        cases,
        done,
        passed,
        score,
        low,
        high,
        method,
        reason,
        task_id,
        created_at,
        ended_at,
    }
}

row! {
    ResultDocument {
        id,
        status = "state",
        execution_id,
        score,
        reason,
        seconds,
        cost => |units: Option<i64>| units.map(Money::from_units),
        created_at,
    }
}

row! {
    EvaluationWork {
        id = "r.id",
        execution_id = "r.execution_id",
        input = "c.input" => Json::into_inner,
        check = "c.rule" => Json::into_inner,
        tries = "r.tries",
    }
}

row! {
    ScoredCase {
        sha256 = "c.sha256",
        name = "c.name",
        state = "r.state",
        score = "coalesce(r.score, 0.0)",
        weight = "c.weight",
    }
}

fn json(value: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// Store a version with its cases; with the suite itself, whose newest it is.
pub(super) async fn insert_version(tx: &mut Tx, suite: &SuiteDocument, cases: &[SuiteCase]) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "am_suites" {
        id: &suite.id,
        owner_id: &suite.owner_id,
        name: &suite.name,
        latest: suite.latest,
        created_at: suite.created_at,
        updated_at: suite.updated_at,
    } update on (id) except (owner_id, name, created_at));
    push_row!(rows, "am_suite_versions" {
        suite_id: &suite.id,
        version: suite.version,
        description: &suite.description,
        output_step: &suite.output_step,
        cases: suite.cases,
        sha256: &suite.sha256,
        created_at: suite.updated_at,
    });
    for case in cases {
        push_row!(rows, "am_suite_cases" {
            suite_id: &suite.id,
            version: suite.version,
            id: case.id,
            name: &case.name,
            input: json(&case.input)?,
            rule: json(&case.check)?,
            weight: case.weight,
            sha256: &case.sha256,
            created_at: case.created_at,
        });
    }
    rows.execute(tx).await
}

/// Whether an owner has a suite of this name.
pub(super) async fn has_name(conn: &mut Connection, owner: &PrincipalId, name: &str) -> Result<bool> {
    sql!("SELECT 1 FROM am_suites WHERE owner_id = $1 AND name = $2").bind(owner).bind(name).exists(conn).await
}

/// A suite with one of its versions, by default the newest.
pub(super) async fn suite(conn: &mut Connection, id: &SuiteId, version: Option<i64>) -> Result<Option<SuiteDocument>> {
    let found = sql!(
        "SELECT ",
        SuiteDocument::COLUMNS,
        " FROM am_suites s {then} am_suite_versions v ON v.suite_id = s.id AND v.version = coalesce($2, s.latest)
             WHERE s.id = $1",
    );
    found.bind(id).bind(version).fetch_optional(conn).await
}

/// A page of an owner's suites with their newest versions, and how many there are; everybody's are not counted.
pub(super) async fn list(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    page: &PageRequest,
) -> Result<(Vec<SuiteDocument>, Option<i64>)> {
    let Some(owner) = owner else {
        let rows = sql!(
            "SELECT ",
            SuiteDocument::COLUMNS,
            " FROM am_suites s {then} am_suite_versions v ON v.suite_id = s.id AND v.version = s.latest
                 WHERE true {page s. $1}",
        );
        return Ok((rows.bind_page(page).fetch_all(conn).await?, None));
    };
    let rows = sql!(
        "SELECT ",
        SuiteDocument::COLUMNS,
        " FROM am_suites s {then} am_suite_versions v ON v.suite_id = s.id AND v.version = s.latest
             WHERE s.owner_id = $1 {page s. $2}",
    );
    let rows = rows.bind(owner).bind_page(page).fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM am_suites s WHERE s.owner_id = $1 {span s. $2}");
    Ok((rows, Some(total.bind(owner).bind_span(page.created).fetch_value(conn).await?)))
}

/// A page of a version's cases, and how many it has.
pub(super) async fn cases(
    conn: &mut Connection,
    (id, version): (&SuiteId, i64),
    page: &PageRequest,
) -> Result<(Vec<SuiteCase>, i64)> {
    let rows =
        sql!("SELECT ", SuiteCase::COLUMNS, " FROM am_suite_cases WHERE suite_id = $1 AND version = $2 {page $3}",);
    let rows = rows.bind(id).bind(version).bind_page(page).fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM am_suite_cases WHERE suite_id = $1 AND version = $2 {span $3}");
    Ok((rows, total.bind(id).bind(version).bind_span(page.created).fetch_value(conn).await?))
}

/// Store an evaluation with its waiting cases.
pub(super) async fn insert_evaluation(tx: &mut Tx, made: &EvaluationRecord) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "am_evaluations" {
        id: &made.id,
        suite_id: &made.suite_id,
        version: made.version,
        owner_id: &made.owner_id,
        target_kind: made.target_kind,
        target_id: &made.target_id,
        target_name: made.target_name(),
        agent_id: &made.agent_id,
        workflow_id: &made.workflow_id,
        parallel: made.parallel,
        task_type: made.task_type,
        timeout_seconds: made.timeout_seconds,
        state: made.state,
        cases: made.cases,
        task_id: &made.task_id,
        created_at: made.created_at,
    });
    for case in 1..=made.cases {
        push_row!(rows, "am_evaluation_results" {
            evaluation_id: &made.id,
            id: case,
            state: ResultState::Waiting,
            created_at: made.created_at,
        });
    }
    rows.execute(tx).await
}

pub(super) async fn evaluation(conn: &mut Connection, id: &EvaluationId) -> Result<Option<EvaluationRecord>> {
    let found = sql!("SELECT ", EvaluationRecord::COLUMNS, " FROM am_evaluations WHERE id = $1");
    found.bind(id).fetch_optional(conn).await
}

/// A page of a suite's evaluations by one owner or, with `None`, by all, and how many there are.
pub(super) async fn evaluations(
    conn: &mut Connection,
    (suite, owner): (&SuiteId, Option<&PrincipalId>),
    page: &PageRequest,
) -> Result<(Vec<EvaluationRecord>, i64)> {
    let rows = sql!(
        "SELECT ",
        EvaluationRecord::COLUMNS,
        " FROM am_evaluations WHERE suite_id = $1 [AND owner_id = $2] {page $3}",
    );
    let rows = rows.bind(suite).bind_some(owner).bind_page(page).fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM am_evaluations WHERE suite_id = $1 [AND owner_id = $2] {span $3}");
    Ok((rows, total.bind(suite).bind_some(owner).bind_span(page.created).fetch_value(conn).await?))
}

/// Evaluations that no task carries on: those that are to end, and those that have no task yet; after `after`.
pub(super) async fn unattended(conn: &mut Connection, after: &str, limit: i64) -> Result<Vec<EvaluationRecord>> {
    let found = sql!(
        "SELECT ",
        EvaluationRecord::COLUMNS,
        " FROM am_evaluations WHERE state IN ('RUNNING', 'CANCELLING') AND (state = 'CANCELLING' OR task_id IS NULL)
             AND id > $1 ORDER BY id LIMIT $2",
    );
    found.bind(after).bind(limit).fetch_all(conn).await
}

/// How many evaluations of an owner's go on.
pub(super) async fn count_open(conn: &mut Connection, owner: &PrincipalId) -> Result<i64> {
    let found = sql!("SELECT count(*) FROM am_evaluations WHERE state IN ('RUNNING', 'CANCELLING') AND owner_id = $1");
    found.bind(owner).fetch_value(conn).await
}

/// The last completed evaluation of a target by a suite that was made before another.
pub(super) async fn completed_before(
    conn: &mut Connection,
    (suite, kind, target): (&SuiteId, TargetKind, &str),
    before: (Timestamp, &EvaluationId),
) -> Result<Option<EvaluationRecord>> {
    let found = sql!(
        "SELECT ",
        EvaluationRecord::COLUMNS,
        " FROM am_evaluations WHERE suite_id = $1 AND target_kind = $2 AND target_name = $3
             AND (created_at, id) < ($4, $5) AND state = 'COMPLETED' ORDER BY created_at DESC, id DESC LIMIT 1",
    );
    found.bind(suite).bind(kind).bind(target_name(target)).bind(before.0).bind(before.1).fetch_optional(conn).await
}

/// The last completed evaluation of a target by a suite, by its owner.
pub(super) async fn last_completed(
    conn: &mut Connection,
    (suite, kind, target): (&SuiteId, TargetKind, &str),
    owner: &PrincipalId,
) -> Result<Option<EvaluationRecord>> {
    let found = sql!(
        "SELECT ",
        EvaluationRecord::COLUMNS,
        " FROM am_evaluations WHERE suite_id = $1 AND target_kind = $2 AND target_name = $3
             AND state = 'COMPLETED' AND owner_id = $4 AND target_id = $5 ORDER BY created_at DESC, id DESC LIMIT 1",
    );
    found.bind(suite).bind(kind).bind(target_name(target)).bind(owner).bind(target).fetch_optional(conn).await
}

/// A page of an evaluation's cases, and how many there are.
pub(super) async fn results(
    conn: &mut Connection,
    id: &EvaluationId,
    page: &PageRequest,
) -> Result<(Vec<ResultDocument>, i64)> {
    let rows =
        sql!("SELECT ", ResultDocument::COLUMNS, " FROM am_evaluation_results WHERE evaluation_id = $1 {page $2}",);
    let rows = rows.bind(id).bind_page(page).fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM am_evaluation_results WHERE evaluation_id = $1 {span $2}");
    Ok((rows, total.bind(id).bind_span(page.created).fetch_value(conn).await?))
}

/// An evaluation's cases that have not ended, the first `limit`: those that run come before others.
pub(super) async fn open_cases(
    conn: &mut Connection,
    evaluation: &EvaluationRecord,
    limit: i64,
) -> Result<Vec<EvaluationWork>> {
    let found = sql!(
        "SELECT ",
        EvaluationWork::COLUMNS,
        " FROM am_evaluations e {then} am_evaluation_results r ON r.evaluation_id = e.id AND r.state IN ('WAITING', 'RUNNING')
             {then} am_suite_cases c ON c.suite_id = e.suite_id AND c.version = e.version AND c.id = r.id
             WHERE e.id = $1 ORDER BY r.id LIMIT $2",
    );
    found.bind(&evaluation.id).bind(limit).fetch_all(conn).await
}

/// All cases of an evaluation with their scores.
pub(super) async fn scored_cases(conn: &mut Connection, id: &EvaluationId) -> Result<Vec<ScoredCase>> {
    let found = sql!(
        "SELECT ",
        ScoredCase::COLUMNS,
        " FROM am_evaluations e {then} am_evaluation_results r ON r.evaluation_id = e.id
             {then} am_suite_cases c ON c.suite_id = e.suite_id AND c.version = e.version AND c.id = r.id WHERE e.id = $1",
    );
    found.bind(id).fetch_all(conn).await
}

/// Note the workflow that the cases are runs of.
pub(super) async fn set_workflow(tx: &mut Tx, id: &EvaluationId, workflow: &WorkflowId) -> Result<()> {
    let set = update!("am_evaluations" { workflow_id: workflow } where "id = $1" (id));
    set.execute(tx.conn().await?).await?;
    Ok(())
}

/// Note the run of a case that waits.
pub(super) async fn set_execution(
    tx: &mut Tx,
    (id, case): (&EvaluationId, i64),
    execution: &ExecutionId,
) -> Result<()> {
    let set = update!("am_evaluation_results" { execution_id: execution, state: ResultState::Running, tries: 0i64 }
        where "evaluation_id = $1 AND id = $2 AND state = 'WAITING'" (id, case));
    set.execute(tx.conn().await?).await?;
    Ok(())
}

/// Count processes that work on a case.
pub(super) async fn count_try(tx: &mut Tx, (id, case): (&EvaluationId, i64), change: i64) -> Result<()> {
    let counted = sql!(
        "UPDATE am_evaluation_results SET tries = tries + $3 WHERE evaluation_id = $1 AND id = $2
             AND state IN ('WAITING', 'RUNNING')",
    );
    counted.bind(id).bind(case).bind(change).execute(tx.conn().await?).await?;
    Ok(())
}

/// What came of a case.
pub(super) struct CaseEnd {
    pub state: ResultState,
    pub score: Option<f64>,
    pub reason: Option<String>,
    pub seconds: Option<f64>,
    pub cost: Option<Money>,
}

/// End a case that has not ended, and count it. Returns false where it has.
pub(super) async fn end_case(tx: &mut Tx, (id, case): (&EvaluationId, i64), end: &CaseEnd) -> Result<bool> {
    let set = update!("am_evaluation_results" {
        state: end.state,
        score: end.score,
        reason: &end.reason,
        seconds: end.seconds,
        cost: end.cost.map(Money::units),
    } where "evaluation_id = $1 AND id = $2 AND state IN ('WAITING', 'RUNNING')" (id, case));
    if set.execute(tx.conn().await?).await? == 0 {
        return Ok(false);
    }
    let passed = i64::from(end.state == ResultState::Passed);
    let counted = sql!("UPDATE am_evaluations SET done = done + 1, passed = passed + $2 WHERE id = $1");
    counted.bind(id).bind(passed).execute(tx.conn().await?).await?;
    Ok(true)
}

/// Let an evaluation end, if it has not. Returns false where it has.
pub(super) async fn end_evaluation(tx: &mut Tx, ended: &EvaluationRecord) -> Result<bool> {
    let set = update!("am_evaluations" {
        state: ended.state,
        score: ended.score,
        low: ended.low,
        high: ended.high,
        method: &ended.method,
        reason: &ended.reason,
        ended_at: ended.ended_at,
    } where "id = $1 AND state IN ('RUNNING', 'CANCELLING')" (&ended.id));
    Ok(set.execute(tx.conn().await?).await? > 0)
}

/// Let an evaluation end that did not complete: once its runs are cancelled it has failed for this reason or, with `None`, was cancelled.
pub(super) async fn let_end(tx: &mut Tx, id: &EvaluationId, reason: Option<&str>) -> Result<()> {
    let set = update!("am_evaluations" { state: EvaluationState::Cancelling, reason: reason }
        where "id = $1 AND state IN ('RUNNING', 'CANCELLING')" (id));
    set.execute(tx.conn().await?).await?;
    Ok(())
}

/// Note the task of an evaluation that has none. Returns false where it has one, or has ended.
pub(super) async fn set_task(tx: &mut Tx, id: &EvaluationId, task: &BackgroundTaskId) -> Result<bool> {
    let set =
        update!("am_evaluations" { task_id: task } where "id = $1 AND state = 'RUNNING' AND task_id IS NULL" (id));
    Ok(set.execute(tx.conn().await?).await? > 0)
}

/// Ask a running evaluation to end.
pub(super) async fn ask_to_end(tx: &mut Tx, id: &EvaluationId) -> Result<bool> {
    let set =
        update!("am_evaluations" { state: EvaluationState::Cancelling } where "id = $1 AND state = 'RUNNING'" (id));
    Ok(set.execute(tx.conn().await?).await? > 0)
}

/// Ids that an evaluation's runs have, of those that run.
pub(super) async fn running_executions(
    conn: &mut Connection,
    id: &EvaluationId,
) -> Result<Vec<(i64, Option<ExecutionId>)>> {
    let found = sql!(
        "SELECT id, execution_id FROM am_evaluation_results WHERE evaluation_id = $1 AND state IN ('WAITING', 'RUNNING')
             ORDER BY id",
    );
    found.bind(id).fetch_all(conn).await
}
