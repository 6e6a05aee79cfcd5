//! SQL of tables `agent_deployment_configs`, `am_deployments`, `am_deployment_revisions` and `am_deployment_changes`.

use am_core::ids::{PrincipalId, WorkflowId};
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{Json, JsonOr, JsonText, Timestamp},
    page::PageRequest,
    push_row, row, sql, update,
};
use serde_json::Value;

use crate::{
    alerts::AlertThresholds,
    model::{
        ChangeDocument, DeploymentDocument, DeploymentRecord, DeploymentSettingsDocument, DeploymentStatus,
        RevisionDocument, RevisionRecord, RevisionState, WorkflowSnapshot,
    },
    ports::PortRange,
    rollout::Rollout,
};

/// Entries of a deployment's changes that are kept.
const KEPT_CHANGES: i64 = 500;

row! {
    /// A deployment: the coordinator's row, and what stands beside it.
    struct DeploymentRow from "c." {
        id: String,
        workflow_id: WorkflowId,
        deployment_name: String,
        description: String,
        version: String,
        target_environments: Vec<String> => JsonOr::into_inner,
        deployment_regions: Vec<String> => JsonOr::into_inner,
        min_cpu_cores: f64,
        min_memory_mb: i64,
        min_storage_gb: i64,
        requires_gpu: bool,
        gpu_memory_mb: Option<i64>,
        min_instances: i64,
        max_instances: i64,
        auto_scaling: bool,
        scaling_policy: Value => JsonOr::into_inner,
        health_check_endpoint: String,
        health_check_interval: i64,
        health_check_timeout: i64,
        max_failures: i64,
        rollout_strategy: String,
        rollback_enabled: bool,
        deployment_timeout: i64,
        enable_metrics: bool,
        enable_logging: bool,
        enable_tracing: bool,
        log_level: String,
        status: DeploymentStatus,
        deployment_time: Option<Timestamp>,
        last_health_check: Option<Timestamp>,
        created_at: Timestamp,
        updated_at: Timestamp,
        owner_id: PrincipalId = "d.owner_id",
        environment: Option<String> = "d.environment",
        revision: i64 = "d.revision",
        last_revision: i64 = "d.last_revision",
        desired: i64 = "d.desired",
        rollout: Option<Rollout> = "d.rollout" => JsonOr::into_inner,
        thresholds: Option<AlertThresholds> = "d.thresholds" => JsonOr::into_inner,
        port_low: i64 = "d.port_low",
        port_high: i64 = "d.port_high",
        live: i64 = "d.live",
        error: Option<String> = "d.error",
    }
}

impl From<DeploymentRow> for DeploymentRecord {
    fn from(row: DeploymentRow) -> Self {
        let settings = DeploymentSettingsDocument {
            description: row.description,
            version: row.version,
            target_environments: row.target_environments,
            deployment_regions: row.deployment_regions,
            min_cpu_cores: row.min_cpu_cores,
            min_memory_mb: row.min_memory_mb,
            min_storage_gb: row.min_storage_gb,
            requires_gpu: row.requires_gpu,
            gpu_memory_mb: row.gpu_memory_mb,
            min_instances: row.min_instances,
            max_instances: row.max_instances,
            auto_scaling: row.auto_scaling,
            // Another service may have its own policies.
            scaling_policy: serde_json::from_value(row.scaling_policy).unwrap_or_default(),
            health_check_endpoint: row.health_check_endpoint,
            health_check_interval: row.health_check_interval,
            health_check_timeout: row.health_check_timeout,
            max_failures: row.max_failures,
            rollout_strategy: row.rollout_strategy,
            rollback_enabled: row.rollback_enabled,
            deployment_timeout: row.deployment_timeout,
            enable_metrics: row.enable_metrics,
            enable_logging: row.enable_logging,
            enable_tracing: row.enable_tracing,
            log_level: row.log_level,
        };
        let port = |stored: i64| u16::try_from(stored).unwrap_or(u16::MAX);
        let document = DeploymentDocument {
            id: row.id,
            workflow_id: row.workflow_id,
            deployment_name: row.deployment_name,
            settings,
            status: row.status,
            deployment_time: row.deployment_time,
            last_health_check: row.last_health_check,
            created_at: row.created_at,
            updated_at: row.updated_at,
            owner_id: row.owner_id,
            environment: row.environment,
            revision: row.revision,
            desired_instances: row.desired,
            port_range: [port(row.port_low), port(row.port_high)],
            alert_thresholds: row.thresholds.unwrap_or_default(),
            rollout: row.rollout,
            error: row.error,
        };
        Self { document, last_revision: row.last_revision, live: row.live != 0 }
    }
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// Store a new deployment.
pub(crate) async fn insert_deployment(
    tx: &mut Tx,
    made: &DeploymentDocument,
    ports: PortRange,
    thresholds: Option<&AlertThresholds>,
) -> Result<()> {
    let (settings, mut rows) = (&made.settings, RowBatch::default());
    push_row!(rows, "agent_deployment_configs" {
        id: &made.id,
        workflow_id: &made.workflow_id,
        deployment_name: &made.deployment_name,
        description: &settings.description,
        version: &settings.version,
        target_environments: json(&settings.target_environments)?,
        deployment_regions: json(&settings.deployment_regions)?,
        min_cpu_cores: settings.min_cpu_cores,
        min_memory_mb: settings.min_memory_mb,
        min_storage_gb: settings.min_storage_gb,
        requires_gpu: settings.requires_gpu,
        gpu_memory_mb: settings.gpu_memory_mb,
        min_instances: settings.min_instances,
        max_instances: settings.max_instances,
        auto_scaling: settings.auto_scaling,
        scaling_policy: json(&settings.scaling_policy)?,
        health_check_endpoint: &settings.health_check_endpoint,
        health_check_interval: settings.health_check_interval,
        health_check_timeout: settings.health_check_timeout,
        max_failures: settings.max_failures,
        rollout_strategy: &settings.rollout_strategy,
        rollback_enabled: settings.rollback_enabled,
        deployment_timeout: settings.deployment_timeout,
        enable_metrics: settings.enable_metrics,
        enable_logging: settings.enable_logging,
        enable_tracing: settings.enable_tracing,
        log_level: &settings.log_level,
        status: made.status,
        deployment_time: made.deployment_time,
        last_health_check: made.last_health_check,
        created_at: made.created_at,
        updated_at: made.updated_at,
    });
    push_row!(rows, "am_deployments" {
        id: &made.id,
        owner_id: &made.owner_id,
        deployment_name: &made.deployment_name,
        port_low: i64::from(ports.low),
        port_high: i64::from(ports.high),
        thresholds: json(&thresholds)?,
        created_at: made.created_at,
        updated_at: made.updated_at,
    });
    rows.execute(tx).await
}

/// Store where a deployment stands.
pub(crate) async fn update_deployment(tx: &mut Tx, record: &DeploymentRecord) -> Result<()> {
    let now = &record.document;
    let row = update!("agent_deployment_configs" {
        status: now.status,
        deployment_time: now.deployment_time,
        updated_at: now.updated_at,
    } where "id = $1" (&now.id));
    row.execute(tx.conn().await?).await?;
    let own = update!("am_deployments" {
        environment: &now.environment,
        revision: now.revision,
        last_revision: record.last_revision,
        desired: now.desired_instances,
        rollout: json(&now.rollout)?,
        live: i64::from(record.live),
        error: &now.error,
        updated_at: now.updated_at,
    } where "id = $1" (&now.id));
    own.execute(tx.conn().await?).await?;
    Ok(())
}

/// Store a canary's trial so far. A rollout that has ended meanwhile stays ended.
pub(crate) async fn update_rollout(tx: &mut Tx, id: &str, rollout: &Rollout) -> Result<()> {
    let own = update!("am_deployments" { rollout: json(rollout)? } where "id = $1 AND rollout <> 'null'" (id));
    own.execute(tx.conn().await?).await?;
    Ok(())
}

pub(crate) async fn deployment(conn: &mut Connection, id: &str) -> Result<Option<DeploymentRecord>> {
    let found = sql!(
        "SELECT ",
        DeploymentRow::COLUMNS,
        " FROM am_deployments d JOIN agent_deployment_configs c ON c.id = d.id WHERE d.id = $1",
    );
    let row: Option<DeploymentRow> = found.bind(id).fetch_optional(conn).await?;
    Ok(row.map(Into::into))
}

/// Whether an owner has a deployment of this name.
pub(crate) async fn has_name(conn: &mut Connection, owner: &PrincipalId, name: &str) -> Result<bool> {
    let found = sql!("SELECT 1 FROM am_deployments WHERE owner_id = $1 AND deployment_name = $2");
    found.bind(owner).bind(name).exists(conn).await
}

pub(crate) async fn count_of_owner(conn: &mut Connection, owner: &PrincipalId) -> Result<i64> {
    sql!("SELECT count(*) FROM am_deployments WHERE owner_id = $1").bind(owner).fetch_value(conn).await
}

/// All that have instances or want some, by their ids.
pub(crate) async fn live_deployments(conn: &mut Connection) -> Result<Vec<DeploymentRecord>> {
    let found = sql!(
        "SELECT ",
        DeploymentRow::COLUMNS,
        " FROM am_deployments d {by am_deployments_live} {then} agent_deployment_configs c ON c.id = d.id
         WHERE d.live = 1 ORDER BY d.id",
    );
    let rows: Vec<DeploymentRow> = found.fetch_all(conn).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// A page of an owner's deployments, the newest first, and how many there are.
pub(crate) async fn list_deployments(
    conn: &mut Connection,
    owner: &PrincipalId,
    (workflow, status): (Option<&WorkflowId>, Option<DeploymentStatus>),
    page: &PageRequest,
) -> Result<(Vec<DeploymentDocument>, i64)> {
    let total = sql!(
        "SELECT count(*) FROM am_deployments d {by am_deployments_owner} {then} agent_deployment_configs c ON c.id = d.id
         WHERE d.owner_id = $1 [AND c.workflow_id = $2] [AND c.status = $3] {span d. $4}",
    );
    let total = total.bind(owner).bind_some(workflow).bind_some(status).bind_span(page.created);
    let total = total.fetch_value(&mut *conn).await?;
    let rows = sql!(
        "SELECT ",
        DeploymentRow::COLUMNS,
        " FROM am_deployments d {by am_deployments_owner} {then} agent_deployment_configs c ON c.id = d.id
         WHERE d.owner_id = $1 [AND c.workflow_id = $2] [AND c.status = $3] {page d. $4}",
    );
    let rows = rows.bind(owner).bind_some(workflow).bind_some(status).bind_page(page);
    let rows: Vec<DeploymentRow> = rows.fetch_all(conn).await?;
    Ok((rows.into_iter().map(|row| DeploymentRecord::from(row).document).collect(), total))
}

row! {
    RevisionDocument {
        number,
        state,
        workflow_etag,
        settings = "config" => Json::into_inner,
        reason,
        created_at,
        promoted_at,
        ended_at,
    }
}

row! {
    RevisionRecord {
        number,
        workflow,
        workflow_etag,
    }
}

/// Store a revision that is to be rolled out.
pub(crate) async fn insert_revision(
    tx: &mut Tx,
    deployment: &str,
    number: i64,
    (snapshot, settings): (&WorkflowSnapshot, &DeploymentSettingsDocument),
    (reason, now): (&str, Timestamp),
) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "am_deployment_revisions" {
        deployment_id: deployment,
        number: number,
        state: RevisionState::Candidate,
        workflow: json(&snapshot.workflow)?,
        workflow_etag: &snapshot.etag,
        config: json(settings)?,
        reason: reason,
        created_at: now,
    });
    rows.execute(tx).await
}

/// A revision serves from now on; what served before does not.
pub(crate) async fn promote_revision(tx: &mut Tx, deployment: &str, number: i64, now: Timestamp) -> Result<()> {
    let before = update!("am_deployment_revisions" { state: RevisionState::Superseded, ended_at: now }
        where "deployment_id = $1 AND number < $2 AND state = 'ACTIVE'" (deployment, number));
    before.execute(tx.conn().await?).await?;
    let own = update!("am_deployment_revisions" { state: RevisionState::Active, promoted_at: now }
        where "deployment_id = $1 AND number = $2" (deployment, number));
    own.execute(tx.conn().await?).await?;
    Ok(())
}

pub(crate) async fn end_revision(
    tx: &mut Tx,
    deployment: &str,
    number: i64,
    state: RevisionState,
    now: Timestamp,
) -> Result<()> {
    let own = update!("am_deployment_revisions" { state: state, ended_at: now }
        where "deployment_id = $1 AND number = $2" (deployment, number));
    own.execute(tx.conn().await?).await?;
    Ok(())
}

pub(crate) async fn revision(conn: &mut Connection, deployment: &str, number: i64) -> Result<Option<RevisionRecord>> {
    let found = sql!(
        "SELECT ",
        RevisionRecord::COLUMNS,
        " FROM am_deployment_revisions WHERE deployment_id = $1 AND number = $2",
    );
    found.bind(deployment).bind(number).fetch_optional(conn).await
}

/// The newest revision below `number` that has served.
pub(crate) async fn revision_before(
    conn: &mut Connection,
    deployment: &str,
    number: i64,
) -> Result<Option<RevisionRecord>> {
    let found = sql!(
        "SELECT ",
        RevisionRecord::COLUMNS,
        " FROM am_deployment_revisions WHERE deployment_id = $1 AND number < $2 AND state = 'SUPERSEDED'
          ORDER BY number DESC LIMIT 1",
    );
    found.bind(deployment).bind(number).fetch_optional(conn).await
}

/// Revisions below `before`, the newest first.
pub(crate) async fn list_revisions(
    conn: &mut Connection,
    deployment: &str,
    before: i64,
    most: i64,
) -> Result<Vec<RevisionDocument>> {
    let found = sql!(
        "SELECT ",
        RevisionDocument::COLUMNS,
        " FROM am_deployment_revisions WHERE deployment_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3",
    );
    found.bind(deployment).bind(before).bind(most).fetch_all(conn).await
}

row! {
    ChangeDocument {
        seq,
        kind,
        revision,
        reason,
        created_at,
    }
}

/// Note what changed of a deployment and why.
pub(crate) async fn note_change(
    tx: &mut Tx,
    deployment: &str,
    kind: &'static str,
    revision: Option<i64>,
    (reason, now): (&str, Timestamp),
) -> Result<()> {
    let last = sql!("UPDATE am_deployments SET last_change = last_change + 1 WHERE id = $1 RETURNING last_change");
    let seq: i64 = last.bind(deployment).fetch_value(tx.conn().await?).await?;
    let mut rows = RowBatch::default();
    push_row!(rows, "am_deployment_changes" {
        deployment_id: deployment,
        seq: seq,
        kind: kind,
        revision: revision,
        reason: reason,
        created_at: now,
    });
    rows.execute(tx).await?;
    let old = sql!("DELETE FROM am_deployment_changes WHERE deployment_id = $1 AND seq <= $2");
    old.bind(deployment).bind(seq - KEPT_CHANGES).execute(tx.conn().await?).await?;
    Ok(())
}

/// Changes below `before`, the newest first.
pub(crate) async fn list_changes(
    conn: &mut Connection,
    deployment: &str,
    before: i64,
    most: i64,
) -> Result<Vec<ChangeDocument>> {
    let found = sql!(
        "SELECT ",
        ChangeDocument::COLUMNS,
        " FROM am_deployment_changes WHERE deployment_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
    );
    found.bind(deployment).bind(before).bind(most).fetch_all(conn).await
}
