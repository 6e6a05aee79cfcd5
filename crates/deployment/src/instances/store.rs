//! SQL of tables `agent_deployment_instances` and `am_deployment_instances`.

use am_core::ids::PrincipalId;
use am_db::{
    Connection, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, Timestamp},
    page::PageRequest,
    push_row, row, sql, update,
};

use super::model::{InstanceCaller, InstanceFigures, NewInstance, StoredFigures};
use crate::{
    model::{DeploymentStatus, HealthCheckRecord, InstanceDocument, InstanceHealth, InstanceRecord, InstanceState},
    store::json,
};

/// Checks of an instance that are kept.
pub(crate) const KEPT_CHECKS: usize = 100;

row! {
    /// An instance: the coordinator's row, and what stands beside it.
    struct InstanceRow from "r." {
        id: String,
        deployment_id: String,
        instance_id: String,
        environment: String,
        region: String,
        status: DeploymentStatus,
        health_status: String,
        endpoint_url: Option<String>,
        internal_ip: Option<String>,
        external_ip: Option<String>,
        port: Option<i64>,
        cpu_usage: Option<f64>,
        memory_usage: Option<i64>,
        disk_usage: Option<i64>,
        gpu_usage: Option<f64>,
        request_count: i64,
        error_count: i64,
        average_response_time: Option<f64>,
        uptime_percentage: Option<f64>,
        last_health_check: Option<Timestamp>,
        consecutive_failures: i64,
        health_check_history: Vec<HealthCheckRecord> => JsonOr::into_inner,
        created_at: Timestamp,
        updated_at: Timestamp,
        revision: Option<i64> = "a.revision",
        state: Option<InstanceState> = "a.state",
        pid: Option<i64> = "a.pid",
        restarts: i64 = "a.restarts",
        reason: Option<String> = "a.reason",
    }
}

impl From<InstanceRow> for InstanceDocument {
    fn from(row: InstanceRow) -> Self {
        Self {
            id: row.id,
            deployment_id: row.deployment_id,
            instance_id: row.instance_id,
            environment: row.environment,
            region: row.region,
            status: row.status,
            health_status: InstanceHealth::from_value(&row.health_status).unwrap_or(InstanceHealth::Unknown),
            endpoint_url: row.endpoint_url,
            internal_ip: row.internal_ip,
            external_ip: row.external_ip,
            port: row.port,
            cpu_usage: row.cpu_usage,
            memory_usage: row.memory_usage,
            disk_usage: row.disk_usage,
            gpu_usage: row.gpu_usage,
            request_count: row.request_count,
            error_count: row.error_count,
            average_response_time: row.average_response_time,
            uptime_percentage: row.uptime_percentage,
            last_health_check: row.last_health_check,
            consecutive_failures: row.consecutive_failures,
            health_check_history: row.health_check_history,
            created_at: row.created_at,
            updated_at: row.updated_at,
            revision: row.revision,
            state: row.state,
            pid: row.pid,
            restarts: row.restarts,
            reason: row.reason,
        }
    }
}

row! {
    InstanceRecord from "a." {
        id,
        number,
        revision,
        port,
        state,
        instance_id = "r.instance_id",
        health = "r.health_status",
        consecutive_failures = "r.consecutive_failures",
        draining_at,
    }
}

row! {
    InstanceCaller from "a." {
        deployment_id,
        revision,
        token_hash,
        instance_id = "r.instance_id",
        owner_id = "d.owner_id",
    }
}

/// All instances of a deployment that have, or should have, a process.
pub(crate) async fn live_instances(conn: &mut Connection, deployment: &str) -> Result<Vec<InstanceRecord>> {
    let found = sql!(
        "SELECT ",
        InstanceRecord::COLUMNS,
        " FROM am_deployment_instances a {by am_deployment_instances_live} {then} agent_deployment_instances r ON r.id = a.id
         WHERE a.deployment_id = $1 AND a.state <> 'GONE' ORDER BY a.number",
    );
    found.bind(deployment).fetch_all(conn).await
}

/// Ports that instances of any deployment have, between two.
pub(crate) async fn taken_ports(conn: &mut Connection, low: u16, high: u16) -> Result<Vec<i64>> {
    let found = sql!(
        "SELECT port FROM am_deployment_instances {by am_deployment_instances_port}
         WHERE port BETWEEN $1 AND $2 AND state <> 'GONE' ORDER BY port",
    );
    found.bind(i64::from(low)).bind(i64::from(high)).fetch_values(conn).await
}

/// Store an instance that is to be started, in the place of one that is gone.
pub(crate) async fn put_instance(tx: &mut Tx, new: &NewInstance<'_>, now: Timestamp) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "agent_deployment_instances" {
        id: &new.id,
        deployment_id: new.deployment_id,
        instance_id: &new.instance_id,
        environment: new.environment,
        region: new.region,
        status: DeploymentStatus::Deploying,
        health_status: InstanceHealth::Unknown,
        endpoint_url: format!("http://127.0.0.1:{}", new.port),
        internal_ip: "127.0.0.1",
        external_ip: None::<&str>,
        port: i64::from(new.port),
        cpu_usage: None::<f64>,
        memory_usage: None::<i64>,
        disk_usage: None::<i64>,
        gpu_usage: None::<f64>,
        request_count: 0i64,
        error_count: 0i64,
        average_response_time: None::<f64>,
        uptime_percentage: None::<f64>,
        last_health_check: None::<Timestamp>,
        consecutive_failures: 0i64,
        health_check_history: json(&Vec::<HealthCheckRecord>::new())?,
        created_at: now,
        updated_at: now,
    } update on (id));
    push_row!(rows, "am_deployment_instances" {
        id: &new.id,
        deployment_id: new.deployment_id,
        owner_id: new.owner_id,
        number: new.number,
        revision: new.revision,
        port: i64::from(new.port),
        state: InstanceState::Serving,
        token_hash: new.token_hash,
        pid: None::<i64>,
        restarts: 0i64,
        up_seconds: 0.0,
        down_seconds: 0.0,
        reason: new.reason,
        draining_at: None::<Timestamp>,
        created_at: now,
    } update on (id));
    rows.execute(tx).await
}

/// Store a new token of an instance whose file is lost.
pub(crate) async fn set_token(tx: &mut Tx, id: &str, hash: &str) -> Result<()> {
    update!("am_deployment_instances" { token_hash: hash } where "id = $1" (id)).execute(tx.conn().await?).await?;
    Ok(())
}

/// No more calls go to an instance.
pub(crate) async fn drain(tx: &mut Tx, id: &str, reason: &str, now: Timestamp) -> Result<()> {
    let own = update!("am_deployment_instances" { state: InstanceState::Draining, reason: reason, draining_at: now }
        where "id = $1 AND state = 'SERVING'" (id));
    own.execute(tx.conn().await?).await?;
    Ok(())
}

/// An instance has no process any more.
pub(crate) async fn end_instance(tx: &mut Tx, id: &str, now: Timestamp) -> Result<()> {
    let own = update!("am_deployment_instances" { state: InstanceState::Gone, pid: None::<i64> } where "id = $1" (id));
    own.execute(tx.conn().await?).await?;
    let row = update!("agent_deployment_instances" {
        status: DeploymentStatus::Terminated,
        health_status: InstanceHealth::Unknown,
        endpoint_url: None::<&str>,
        internal_ip: None::<&str>,
        port: None::<i64>,
        updated_at: now,
    } where "id = $1" (id));
    row.execute(tx.conn().await?).await?;
    Ok(())
}

row! {
    StoredFigures {
        history = "r.health_check_history" => JsonOr::into_inner,
        up_seconds = "a.up_seconds",
        down_seconds = "a.down_seconds",
        requests = "r.request_count",
        errors = "r.error_count",
        average_response_time = "r.average_response_time",
    }
}

/// What was found of an instance until now.
pub(crate) async fn figures(conn: &mut Connection, id: &str) -> Result<Option<StoredFigures>> {
    let found = sql!(
        "SELECT ",
        StoredFigures::COLUMNS,
        " FROM am_deployment_instances a JOIN agent_deployment_instances r ON r.id = a.id WHERE a.id = $1",
    );
    found.bind(id).fetch_optional(conn).await
}

/// Store what was found of an instance.
pub(crate) async fn put_figures(tx: &mut Tx, found: &InstanceFigures, now: Timestamp) -> Result<()> {
    let uptime = found.up_seconds + found.down_seconds;
    let mean = (found.requests > 0).then(|| found.response_seconds / found.requests as f64);
    let row = update!("agent_deployment_instances" {
        status: found.status,
        health_status: found.health,
        cpu_usage: found.cpu_usage,
        memory_usage: found.memory_usage,
        request_count: found.requests,
        error_count: found.errors,
        average_response_time: mean,
        uptime_percentage: (uptime > 0.0).then(|| found.up_seconds * 100.0 / uptime),
        last_health_check: found.checked_at,
        consecutive_failures: found.consecutive_failures,
        health_check_history: json(&found.history)?,
        updated_at: now,
    } where "id = $1" (&found.id));
    row.execute(tx.conn().await?).await?;
    let own = update!("am_deployment_instances" {
        pid: found.pid,
        restarts: found.restarts,
        up_seconds: found.up_seconds,
        down_seconds: found.down_seconds,
    } where "id = $1" (&found.id));
    own.execute(tx.conn().await?).await?;
    let config = update!("agent_deployment_configs" { last_health_check: found.checked_at }
        where "id = $1" (&found.deployment_id));
    config.execute(tx.conn().await?).await?;
    Ok(())
}

/// Whom a token of an instance speaks for.
pub(crate) async fn caller(conn: &mut Connection, id: &str) -> Result<Option<InstanceCaller>> {
    let found = sql!(
        "SELECT ",
        InstanceCaller::COLUMNS,
        " FROM am_deployment_instances a JOIN am_deployments d ON d.id = a.deployment_id
         JOIN agent_deployment_instances r ON r.id = a.id WHERE a.id = $1 AND a.state <> 'GONE'",
    );
    found.bind(id).fetch_optional(conn).await
}

/// An instance of an owner, by its id or by its name.
pub(crate) async fn instance(
    conn: &mut Connection,
    owner: &PrincipalId,
    name: &str,
) -> Result<Option<InstanceDocument>> {
    let by_id = sql!(
        "SELECT ",
        InstanceRow::COLUMNS,
        " FROM am_deployment_instances a JOIN agent_deployment_instances r ON r.id = a.id
         WHERE a.id = $1 AND a.owner_id = $2",
    );
    let found: Option<InstanceRow> = by_id.bind(name).bind(owner).fetch_optional(&mut *conn).await?;
    if let Some(row) = found {
        return Ok(Some(row.into()));
    }
    let by_name = sql!(
        "SELECT ",
        InstanceRow::COLUMNS,
        " FROM agent_deployment_instances r JOIN am_deployment_instances a ON a.id = r.id
         WHERE r.instance_id = $1 AND a.owner_id = $2 LIMIT 1",
    );
    let found: Option<InstanceRow> = by_name.bind(name).bind(owner).fetch_optional(conn).await?;
    Ok(found.map(Into::into))
}

/// All instances of a deployment that are not gone, as clients see them.
pub(crate) async fn shown_instances(conn: &mut Connection, deployment: &str) -> Result<Vec<InstanceDocument>> {
    let found = sql!(
        "SELECT ",
        InstanceRow::COLUMNS,
        " FROM am_deployment_instances a {by am_deployment_instances_live} {then} agent_deployment_instances r ON r.id = a.id
         WHERE a.deployment_id = $1 AND a.state <> 'GONE' ORDER BY a.number",
    );
    let rows: Vec<InstanceRow> = found.bind(deployment).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// A page of an owner's instances, the newest first, and how many there are.
pub(crate) async fn list_instances(
    conn: &mut Connection,
    owner: &PrincipalId,
    (deployment, environment, status): (Option<&str>, Option<&str>, Option<DeploymentStatus>),
    page: &PageRequest,
) -> Result<(Vec<InstanceDocument>, i64)> {
    let total = sql!(
        "SELECT count(*) FROM am_deployment_instances a {by am_deployment_instances_owner} {then}
         agent_deployment_instances r ON r.id = a.id WHERE a.owner_id = $1 [AND a.deployment_id = $2]
         [AND r.environment = $3] [AND r.status = $4] {span a. $5}",
    );
    let total = total.bind(owner).bind_some(deployment).bind_some(environment).bind_some(status);
    let total = total.bind_span(page.created).fetch_value(&mut *conn).await?;
    let rows = sql!(
        "SELECT ",
        InstanceRow::COLUMNS,
        " FROM am_deployment_instances a {by am_deployment_instances_owner} {then}
         agent_deployment_instances r ON r.id = a.id WHERE a.owner_id = $1 [AND a.deployment_id = $2]
         [AND r.environment = $3] [AND r.status = $4] {page a. $5}",
    );
    let rows = rows.bind(owner).bind_some(deployment).bind_some(environment).bind_some(status).bind_page(page);
    let rows: Vec<InstanceRow> = rows.fetch_all(conn).await?;
    Ok((rows.into_iter().map(Into::into).collect(), total))
}
