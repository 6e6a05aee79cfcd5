//! Statements: which things are due and may be removed, and the table of archives.

use super::{
    archive::ArchiveRecord,
    kinds::{RemovalCause, RetentionKind},
};
use am_core::ids::AuditId;
use am_db::{
    Connection, FromRow as _, Result, Tx, codec::Timestamp, insert, job_clock::JobClock, row, sql, statement::Query,
    update,
};

row! {
    /// A thing that may be removed, and where it stands in the order of its kind.
    pub(crate) struct DueThing {
        pub id: String,
        pub at: Timestamp,
    }
}

// Each condition says what may be removed at all; what is due is older as well.

/// Of a run and its execution: it ended, and nothing of it is open elsewhere.
const ENDED_EXECUTION: &str = " r.state = 'ended' AND e.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
     AND NOT EXISTS (SELECT 1 FROM am_late_jobs l WHERE l.execution_id = r.execution_id)
     AND NOT EXISTS (SELECT 1 FROM am_sandboxes s WHERE s.execution_id = r.execution_id AND s.status <> 'cleaned')
     AND NOT EXISTS (SELECT 1 FROM am_assignments a WHERE a.execution_id = r.execution_id AND a.ended_at IS NULL) ";
/// Of an assignment: it ended, its run does not wait for it any more, and its agents were told.
const ENDED_ASSIGNMENT: &str = " a.ended_at IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM am_runs r WHERE r.execution_id = a.execution_id AND r.state <> 'ended')
     AND NOT EXISTS (SELECT 1 FROM am_assignment_notices n WHERE n.assignment_id = a.id) ";
/// Of a plan: it does not run.
const RESTING_PLAN: &str = " NOT EXISTS (SELECT 1 FROM agent_executions e
         WHERE e.workflow_id = p.id AND e.status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED'))
     AND (p.held_since IS NULL OR EXISTS (SELECT 1 FROM agent_executions e WHERE e.workflow_id = p.id)) ";
/// Of content that copies share: none is left.
const UNUSED_CONTENT: &str = " NOT EXISTS (SELECT 1 FROM am_messages m WHERE m.content_id = c.id) ";
/// Of a job: it ended, and no receipt of the coordinator names it.
const ENDED_JOB: &str = " j.ended_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobreceipt p WHERE p.job_id = j.id) ";
/// Of a training run: it ended, and no open execution of its owner can wait for its result.
const ENDED_TRAINING: &str = " t.status IN ('completed', 'failed', 'cancelled') AND t.ended_at IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM am_runs r
         WHERE r.client_id = t.owner_id AND r.state <> 'ended' AND r.queued_at <= t.ended_at) ";
/// Of a policy's version: no alias, split or open training run names it, and it is not the last.
const UNNAMED_VERSION: &str = " v.source <> 'builtin'
     AND NOT EXISTS (SELECT 1 FROM am_policies p WHERE p.name = v.name
         AND (p.last_version = v.version OR {contains p.split '\"version\":'||v.version}))
     AND NOT EXISTS (SELECT 1 FROM am_policy_aliases a WHERE a.name = v.name AND a.version = v.version)
     AND NOT EXISTS (SELECT 1 FROM am_training_runs t WHERE t.policy = v.name AND t.status IN ('queued', 'running', 'paused')) ";
/// The same where its owner asked for it: steps that name it fail, and the last may go if another serves.
const UNSERVED_VERSION: &str = " v.source <> 'builtin'
     AND NOT EXISTS (SELECT 1 FROM am_policies p WHERE p.name = v.name
         AND ({contains p.split '\"version\":'||v.version} OR (p.last_version = v.version
             AND NOT EXISTS (SELECT 1 FROM am_policy_aliases s WHERE s.name = v.name AND s.alias = 'production'))))
     AND NOT EXISTS (SELECT 1 FROM am_policy_aliases a WHERE a.name = v.name AND a.version = v.version) ";
/// Of an execution: the coordinator wrote it alone, and it ended.
const COORDINATOR_EXECUTION: &str = " e.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
     AND NOT EXISTS (SELECT 1 FROM am_runs r WHERE r.execution_id = e.id)
     AND NOT EXISTS (SELECT 1 FROM am_sandboxes s WHERE s.execution_id = e.id) ";
/// Of a job: no client submitted it here, it ended, its cost is booked, and no receipt of the coordinator names it.
const COORDINATOR_JOB: &str = " upper(j.state) IN ('COMPLETED', 'FAILED', 'CANCELED', 'CANCELLED', 'EXPIRED')
     AND NOT EXISTS (SELECT 1 FROM am_jobs a WHERE a.id = j.id)
     AND NOT EXISTS (SELECT 1 FROM am_late_jobs t WHERE t.job_id = j.id)
     AND NOT EXISTS (SELECT 1 FROM jobreceipt p WHERE p.job_id = j.id) ";
/// Of a definition: no run refers to it.
const UNUSED_DEFINITION: &str = " NOT EXISTS (SELECT 1 FROM am_runs r WHERE r.definition_hash = d.hash) ";
/// Of a request of the marketplace: it ended, so nothing of it is in escrow.
const ENDED_REQUEST: &str = " q.ended_at IS NOT NULL AND q.due_at IS NULL AND q.escrow = 0 ";
/// Of a settlement: nothing more comes of it, it does not say that its portfolio is in the contract, and its number is below the highest
/// that is in the chain, by which a chain that went back is told.
const ENDED_SETTLEMENT: &str = " s.status IN ('confirmed', 'abandoned') AND s.kind NOT IN ('create', 'opening')
     AND NOT EXISTS (SELECT 1 FROM am_settlement_transactions t WHERE t.settlement_id = s.id AND t.nonce >= coalesce(
         (SELECT max(u.nonce) FROM am_settlement_transactions u WHERE u.account = t.account AND u.mined = 1), 0)) ";
/// Of a delivery: it is not to be tried again.
const ENDED_DELIVERY: &str = " w.state <> 'PENDING' ";

/// Of a background task: it ended.
const ENDED_TASK: &str = " b.ended_at IS NOT NULL AND b.status IN ('completed', 'failed', 'cancelled') ";
/// Of an optimisation: it ended, and nothing of it is in effect.
const UNAPPLIED_OPTIMISATION: &str =
    " x.ended_at IS NOT NULL AND (x.applied_at IS NULL OR x.rolled_back_at IS NOT NULL) ";
/// Of a sweep: it ended.
const ENDED_SWEEP: &str = " s.ended_at IS NOT NULL AND s.status <> 'running' ";
/// Of a version of a meta-learning model: no alias names it, it is not the last, and its training has ended.
const UNNAMED_MODEL: &str = " m.status <> 'training'
     AND NOT EXISTS (SELECT 1 FROM am_meta_aliases a WHERE a.model_id = m.id)
     AND EXISTS (SELECT 1 FROM am_meta_models n WHERE n.owner_id = m.owner_id AND n.name = m.name AND n.version > m.version) ";

/// Things of a kind that are due, the oldest first: those that ended (or were made, where nothing ends) at `limit` or before,
/// behind the one at `after`.
pub(crate) async fn due(
    conn: &mut Connection,
    kind: RetentionKind,
    limit: Timestamp,
    after: &DueThing,
    most: i64,
) -> Result<Vec<DueThing>> {
    let due: Query = match kind {
        RetentionKind::Executions => sql!(
            "SELECT r.execution_id, r.queued_at FROM am_runs r {by am_runs_ended} {then} agent_executions e ON e.id = r.execution_id
             WHERE r.queued_at <= $1 AND (r.queued_at, r.execution_id) > ($2, $3) AND coalesce(e.completed_at, e.updated_at) <= $1 AND ",
            ENDED_EXECUTION,
            "ORDER BY r.queued_at, r.execution_id LIMIT $4"
        ),
        RetentionKind::Assignments => sql!(
            "SELECT a.id, a.ended_at FROM am_assignments a {by am_assignments_ended} WHERE a.ended_at <= $1 AND (a.ended_at, a.id) > ($2, $3) AND ",
            ENDED_ASSIGNMENT,
            "ORDER BY a.ended_at, a.id LIMIT $4"
        ),
        // The executions of a plan refer to it.
        RetentionKind::Plans => sql!(
            "SELECT p.id, p.created_at FROM am_plans p {by am_plans_created} WHERE p.created_at <= $1 AND (p.created_at, p.id) > ($2, $3)
                 AND p.updated_at <= $1 AND NOT EXISTS (SELECT 1 FROM agent_executions e WHERE e.workflow_id = p.id) AND ",
            RESTING_PLAN,
            "ORDER BY p.created_at, p.id LIMIT $4"
        ),
        RetentionKind::Messages => sql!(
            "SELECT CAST(m.id AS VARCHAR), m.created_at FROM am_messages m {by am_messages_created}
             WHERE m.created_at <= $1 AND (m.created_at, m.id) > ($2, CAST($3 AS BIGINT)) AND m.status <> 'PENDING'
             ORDER BY m.created_at, m.id LIMIT $4"
        ),
        RetentionKind::MessageContents => sql!(
            "SELECT c.id, c.created_at FROM am_message_contents c {by am_message_contents_created}
             WHERE c.created_at <= $1 AND (c.created_at, c.id) > ($2, $3) AND ",
            UNUSED_CONTENT,
            "ORDER BY c.created_at, c.id LIMIT $4"
        ),
        RetentionKind::Jobs => sql!(
            "SELECT j.id, j.ended_at FROM am_jobs j {by am_jobs_ended} WHERE j.ended_at <= $1 AND (j.ended_at, j.id) > ($2, $3) AND ",
            ENDED_JOB,
            "ORDER BY j.ended_at, j.id LIMIT $4"
        ),
        // A version that a run made tells of it.
        RetentionKind::TrainingRuns => sql!(
            "SELECT t.id, t.ended_at FROM am_training_runs t {by am_training_runs_ended}
             WHERE t.ended_at <= $1 AND (t.ended_at, t.id) > ($2, $3)
                 AND NOT EXISTS (SELECT 1 FROM am_policy_versions v WHERE v.name = t.policy AND v.version = t.version) AND ",
            ENDED_TRAINING,
            "ORDER BY t.ended_at, t.id LIMIT $4"
        ),
        RetentionKind::PolicyVersions => sql!(
            "SELECT v.id, v.created_at FROM am_policy_versions v {by am_policy_versions_created}
             WHERE v.created_at <= $1 AND (v.created_at, v.id) > ($2, $3) AND ",
            UNNAMED_VERSION,
            "ORDER BY v.created_at, v.id LIMIT $4"
        ),
        RetentionKind::Definitions => sql!(
            "SELECT d.hash, d.created_at FROM am_definitions d {by am_definitions_created}
             WHERE d.created_at <= $1 AND (d.created_at, d.hash) > ($2, $3) AND ",
            UNUSED_DEFINITION,
            "ORDER BY d.created_at, d.hash LIMIT $4"
        ),
        RetentionKind::WebhookDeliveries => sql!(
            "SELECT w.id, w.created_at FROM am_webhook_deliveries w {by am_webhook_deliveries_created}
             WHERE w.created_at <= $1 AND (w.created_at, w.id) > ($2, $3) AND ",
            ENDED_DELIVERY,
            "ORDER BY w.created_at, w.id LIMIT $4"
        ),
        // It may be rated for some time after its deadline.
        RetentionKind::MarketRequests => sql!(
            "SELECT q.id, q.ended_at FROM am_market_requests q {by am_market_requests_ended}
             WHERE q.ended_at <= $1 AND (q.ended_at, q.id) > ($2, $3) AND q.deadline <= $1 AND ",
            ENDED_REQUEST,
            "ORDER BY q.ended_at, q.id LIMIT $4"
        ),
        RetentionKind::Settlements => sql!(
            "SELECT s.id, s.updated_at FROM am_settlements s {by am_settlements_ended}
             WHERE s.updated_at <= $1 AND (s.updated_at, s.id) > ($2, $3) AND ",
            ENDED_SETTLEMENT,
            "ORDER BY s.updated_at, s.id LIMIT $4"
        ),
        RetentionKind::BackgroundTasks => sql!(
            "SELECT b.id, b.ended_at FROM am_background_tasks b {by am_background_tasks_ended}
             WHERE b.ended_at <= $1 AND (b.ended_at, b.id) > ($2, $3) AND ",
            ENDED_TASK,
            "ORDER BY b.ended_at, b.id LIMIT $4"
        ),
        RetentionKind::Optimisations => sql!(
            "SELECT x.id, x.ended_at FROM am_optimisations x {by am_optimisations_ended}
             WHERE x.ended_at <= $1 AND (x.ended_at, x.id) > ($2, $3) AND ",
            UNAPPLIED_OPTIMISATION,
            "ORDER BY x.ended_at, x.id LIMIT $4"
        ),
        RetentionKind::Sweeps => sql!(
            "SELECT s.id, s.ended_at FROM am_sweeps s {by am_sweeps_ended}
             WHERE s.ended_at <= $1 AND (s.ended_at, s.id) > ($2, $3) AND ",
            ENDED_SWEEP,
            "ORDER BY s.ended_at, s.id LIMIT $4"
        ),
        RetentionKind::MetaModels => sql!(
            "SELECT m.id, m.created_at FROM am_meta_models m {by am_meta_models_order}
             WHERE m.created_at <= $1 AND (m.created_at, m.id) > ($2, $3) AND ",
            UNNAMED_MODEL,
            "ORDER BY m.created_at, m.id LIMIT $4"
        ),
        RetentionKind::CoordinatorExecutions => sql!(
            "SELECT l.id, l.ended_at FROM am_execution_list l {by am_execution_list_ended} {then} agent_executions e ON e.id = l.id
             WHERE l.ended_at <= $1 AND (l.ended_at, l.id) > ($2, $3) AND ",
            COORDINATOR_EXECUTION,
            "ORDER BY l.ended_at, l.id LIMIT $4"
        ),
        // A step may wait for a job that has ended; its execution was begun before.
        RetentionKind::CoordinatorJobs => {
            let due = sql!(
                "SELECT l.id, l.requested_at FROM am_job_list l {by am_job_list_all} {then} job j ON j.id = l.id
                 WHERE l.requested_at <= $1 AND (l.requested_at, l.id) > ($2, $3) AND ",
                COORDINATOR_JOB,
                "AND NOT EXISTS (SELECT 1 FROM am_runs r WHERE r.state <> 'ended' AND r.queued_at <= $5)
                 ORDER BY l.requested_at, l.id LIMIT $4"
            );
            let in_queue = Timestamp(JobClock::current().stored(limit.0).and_utc());
            return due.bind(in_queue).bind(after.at).bind(&after.id).bind(most).bind(limit).fetch_all(conn).await;
        }
    };
    due.bind(limit).bind(after.at).bind(&after.id).bind(most).fetch_all(conn).await
}

/// Those of these things that may be removed now.
pub(crate) async fn removable(
    conn: &mut Connection,
    kind: RetentionKind,
    cause: RemovalCause,
    ids: &[&str],
) -> Result<Vec<String>> {
    let removable: Query = match kind {
        RetentionKind::Executions => sql!(
            "SELECT r.execution_id FROM {texts $1} AS o JOIN am_runs r ON r.execution_id = o.value
                 JOIN agent_executions e ON e.id = r.execution_id WHERE ",
            ENDED_EXECUTION
        ),
        RetentionKind::Assignments => {
            sql!("SELECT a.id FROM {texts $1} AS o JOIN am_assignments a ON a.id = o.value WHERE ", ENDED_ASSIGNMENT)
        }
        RetentionKind::Plans => {
            sql!("SELECT p.id FROM {texts $1} AS o JOIN am_plans p ON p.id = o.value WHERE ", RESTING_PLAN)
        }
        RetentionKind::Messages => sql!(
            "SELECT CAST(m.id AS VARCHAR) FROM {texts $1} AS o JOIN am_messages m ON m.id = CAST(o.value AS BIGINT) WHERE m.status <> 'PENDING'"
        ),
        RetentionKind::MessageContents => {
            sql!("SELECT c.id FROM {texts $1} AS o JOIN am_message_contents c ON c.id = o.value WHERE ", UNUSED_CONTENT)
        }
        RetentionKind::Jobs => {
            sql!("SELECT j.id FROM {texts $1} AS o JOIN am_jobs j ON j.id = o.value WHERE ", ENDED_JOB)
        }
        RetentionKind::TrainingRuns => {
            sql!("SELECT t.id FROM {texts $1} AS o JOIN am_training_runs t ON t.id = o.value WHERE ", ENDED_TRAINING)
        }
        RetentionKind::PolicyVersions if cause == RemovalCause::Request => {
            sql!(
                "SELECT v.id FROM {texts $1} AS o JOIN am_policy_versions v ON v.id = o.value WHERE ",
                UNSERVED_VERSION
            )
        }
        RetentionKind::PolicyVersions => {
            sql!("SELECT v.id FROM {texts $1} AS o JOIN am_policy_versions v ON v.id = o.value WHERE ", UNNAMED_VERSION)
        }
        RetentionKind::Definitions => {
            sql!(
                "SELECT d.hash FROM {texts $1} AS o JOIN am_definitions d ON d.hash = o.value WHERE ",
                UNUSED_DEFINITION
            )
        }
        RetentionKind::WebhookDeliveries => sql!(
            "SELECT w.id FROM {texts $1} AS o JOIN am_webhook_deliveries w ON w.id = o.value WHERE ",
            ENDED_DELIVERY
        ),
        RetentionKind::MarketRequests => {
            sql!("SELECT q.id FROM {texts $1} AS o JOIN am_market_requests q ON q.id = o.value WHERE ", ENDED_REQUEST)
        }
        // The planner would begin with all that ended, by their state.
        RetentionKind::Settlements => {
            sql!("SELECT s.id FROM {texts $1} AS o {then} am_settlements s ON s.id = o.value WHERE ", ENDED_SETTLEMENT)
        }
        RetentionKind::BackgroundTasks => {
            sql!("SELECT b.id FROM {texts $1} AS o JOIN am_background_tasks b ON b.id = o.value WHERE ", ENDED_TASK)
        }
        RetentionKind::Optimisations => sql!(
            "SELECT x.id FROM {texts $1} AS o JOIN am_optimisations x ON x.id = o.value WHERE ",
            UNAPPLIED_OPTIMISATION
        ),
        RetentionKind::Sweeps => {
            sql!("SELECT s.id FROM {texts $1} AS o JOIN am_sweeps s ON s.id = o.value WHERE ", ENDED_SWEEP)
        }
        RetentionKind::MetaModels => {
            sql!("SELECT m.id FROM {texts $1} AS o JOIN am_meta_models m ON m.id = o.value WHERE ", UNNAMED_MODEL)
        }
        RetentionKind::CoordinatorExecutions => sql!(
            "SELECT e.id FROM {texts $1} AS o JOIN agent_executions e ON e.id = o.value WHERE ",
            COORDINATOR_EXECUTION
        ),
        RetentionKind::CoordinatorJobs => {
            sql!("SELECT j.id FROM {texts $1} AS o JOIN job j ON j.id = o.value WHERE ", COORDINATOR_JOB)
        }
    };
    removable.bind(serde_json::json!(ids).to_string()).fetch_values(conn).await
}

/// The numbers of the rows of messages with this id that `agent` sent or got; two at most.
pub(crate) async fn message_places(
    conn: &mut Connection,
    message: &str,
    agent: &str,
    sender: Option<&str>,
) -> Result<Vec<String>> {
    let places = sql!(
        "SELECT CAST(m.id AS VARCHAR) FROM am_messages m
         WHERE m.message_id = $1 AND (m.sender = $2 OR m.recipient = $2) [AND m.sender = $3] LIMIT 2"
    );
    places.bind(message).bind(agent).bind_some(sender).fetch_values(conn).await
}

/// Mark the policies of deleted versions as changed, so that each process reads them again.
pub(crate) async fn touch_policies(tx: &mut Tx, names: &[String]) -> Result<()> {
    let touched =
        sql!("UPDATE am_policies SET revision = (SELECT max(revision) + 1 FROM am_policies) WHERE name IN {texts $1}");
    touched.bind(serde_json::json!(names).to_string()).execute(tx.conn().await?).await?;
    Ok(())
}

/// Whether a version still has this file of weights.
pub(crate) async fn has_weights(conn: &mut Connection, sha256: &str) -> Result<bool> {
    sql!("SELECT 1 FROM am_policy_versions WHERE sha256 = $1 LIMIT 1").bind(sha256).exists(conn).await
}

/// Delete what is left of deleted models of meta-learning: the coordinator's rows, and weights that no other model has.
pub(crate) async fn delete_left_of_models(tx: &mut Tx, ids: &[&str], weights: &[&str]) -> Result<()> {
    if !tx.does_without("meta_learning_models") {
        let mirrored = sql!("DELETE FROM meta_learning_models WHERE model_id IN {texts $1}");
        mirrored.bind(serde_json::json!(ids).to_string()).execute(tx.conn().await?).await?;
    }
    let unused = sql!(
        "DELETE FROM am_meta_weights WHERE sha256 IN {texts $1}
             AND NOT EXISTS (SELECT 1 FROM am_meta_models m WHERE m.sha256 = am_meta_weights.sha256)",
    );
    unused.bind(serde_json::json!(weights).to_string()).execute(tx.conn().await?).await?;
    Ok(())
}

/// Names and numbers of versions by their ids.
pub(crate) async fn version_names(conn: &mut Connection, ids: &[&str]) -> Result<Vec<(String, String, i64)>> {
    let names = sql!("SELECT v.id, v.name, v.version FROM {texts $1} AS o JOIN am_policy_versions v ON v.id = o.value");
    names.bind(serde_json::json!(ids).to_string()).fetch_all(conn).await
}

row! {
    /// A text in which steps may name a version of a policy, and its id.
    pub(crate) struct NamingText {
        pub id: String,
        pub text: String,
    }
}

/// Where steps stand that may name a version of a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NamingTable {
    /// Workflows that refer to it.
    Workflows,
    /// Definitions of runs.
    Definitions,
}

/// Texts behind an id in which steps may name versions of policies.
pub(crate) async fn texts_naming(
    conn: &mut Connection,
    table: NamingTable,
    after: &str,
    most: i64,
) -> Result<Vec<NamingText>> {
    let texts = match table {
        NamingTable::Workflows => {
            sql!("SELECT w.id, w.steps FROM ai_agent_workflows w WHERE w.id > $1 ORDER BY w.id LIMIT $2")
        }
        NamingTable::Definitions => {
            sql!("SELECT d.hash, d.body FROM am_definitions d WHERE d.hash > $1 ORDER BY d.hash LIMIT $2")
        }
    };
    texts.bind(after).bind(most).fetch_all(conn).await
}

row! {
    ArchiveRecord from "a." {
        name, kind, cause, sha256, size_bytes, things, removed, kept, row_counts, audit_id, created_at, done_at
    }
}

/// Store a new archive.
pub(crate) async fn insert_archive(tx: &mut Tx, archive: &ArchiveRecord) -> Result<()> {
    insert!("am_archives" {
        name: &archive.name,
        kind: &archive.kind,
        cause: &archive.cause,
        sha256: &archive.sha256,
        size_bytes: archive.size_bytes,
        things: archive.things,
        row_counts: &archive.row_counts,
        audit_id: &archive.audit_id,
        created_at: archive.created_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Count what was deleted of an archive's things, and what stayed.
pub(crate) async fn count_removed(tx: &mut Tx, name: &str, removed: i64, kept: i64) -> Result<()> {
    let counted = sql!("UPDATE am_archives SET removed = removed + $2, kept = kept + $3 WHERE name = $1");
    counted.bind(name).bind(removed).bind(kept).execute(tx.conn().await?).await?;
    Ok(())
}

/// Note that nothing of an archive is left to be deleted.
pub(crate) async fn finish_archive(tx: &mut Tx, name: &str, now: Timestamp) -> Result<()> {
    update!("am_archives" { done_at: now } where "name = $1" (name)).execute(tx.conn().await?).await?;
    Ok(())
}

/// Archives whose things are not all deleted yet, the oldest first.
pub(crate) async fn open_archives(conn: &mut Connection) -> Result<Vec<ArchiveRecord>> {
    let open = sql!(
        "SELECT ",
        ArchiveRecord::COLUMNS,
        " FROM am_archives a {by am_archives_open} WHERE a.done_at IS NULL ORDER BY a.created_at, a.name LIMIT 1000"
    );
    open.fetch_all(conn).await
}

/// Archives behind one, in the order in which they were made.
pub(crate) async fn archives_after(
    conn: &mut Connection,
    after: (Timestamp, &str),
    most: i64,
) -> Result<Vec<ArchiveRecord>> {
    let archives = sql!(
        "SELECT ",
        ArchiveRecord::COLUMNS,
        " FROM am_archives a WHERE (a.created_at, a.name) > ($1, $2) ORDER BY a.created_at, a.name LIMIT $3"
    );
    archives.bind(after.0).bind(after.1).bind(most).fetch_all(conn).await
}

/// One archive, by its name.
pub(crate) async fn get_archive(conn: &mut Connection, name: &str) -> Result<Option<ArchiveRecord>> {
    sql!("SELECT ", ArchiveRecord::COLUMNS, " FROM am_archives a WHERE a.name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await
}

/// The audit entry that tells of an archive.
pub(crate) fn entry_of(archive: &ArchiveRecord) -> AuditId {
    archive.audit_id.as_str().into()
}
