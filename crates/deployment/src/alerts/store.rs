//! SQL of table `am_deployment_alerts`.

use am_core::ids::PrincipalId;
use am_db::{
    Connection, FromRow as _, Result, Tx, bulk_insert::RowBatch, codec::Timestamp, page::PageRequest, push_row, row,
    sql, update,
};

use super::{
    model::DeploymentAlert,
    rules::{DeploymentAlertRule, DeploymentAlertSeverity, DeploymentAlertState},
};

row! {
    DeploymentAlert {
        id,
        deployment_id,
        owner_id,
        rule,
        severity,
        state,
        value,
        message,
        acknowledged_by,
        acknowledged_at,
        resolved_at,
        silenced_until,
        created_at,
    }
}

pub(crate) async fn insert_alert(tx: &mut Tx, raised: &DeploymentAlert) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "am_deployment_alerts" {
        id: &raised.id,
        deployment_id: &raised.deployment_id,
        owner_id: &raised.owner_id,
        rule: raised.rule,
        severity: raised.severity,
        state: raised.state,
        value: raised.value,
        message: &raised.message,
        silenced_until: raised.silenced_until,
        created_at: raised.created_at,
    });
    rows.execute(tx).await
}

pub(crate) async fn update_alert(tx: &mut Tx, now: &DeploymentAlert) -> Result<()> {
    let row = update!("am_deployment_alerts" {
        severity: now.severity,
        state: now.state,
        value: now.value,
        message: &now.message,
        acknowledged_by: &now.acknowledged_by,
        acknowledged_at: now.acknowledged_at,
        resolved_at: now.resolved_at,
        silenced_until: now.silenced_until,
    } where "id = $1" (&now.id));
    row.execute(tx.conn().await?).await?;
    Ok(())
}

pub(crate) async fn alert(conn: &mut Connection, id: &str) -> Result<Option<DeploymentAlert>> {
    let found = sql!("SELECT ", DeploymentAlert::COLUMNS, " FROM am_deployment_alerts WHERE id = $1");
    found.bind(id).fetch_optional(conn).await
}

/// The alerts of a deployment that are not over: one for each rule at most.
pub(crate) async fn raised_alerts(conn: &mut Connection, deployment: &str) -> Result<Vec<DeploymentAlert>> {
    let found = sql!(
        "SELECT ",
        DeploymentAlert::COLUMNS,
        " FROM am_deployment_alerts {by am_deployment_alerts_raised}
         WHERE deployment_id = $1 AND state <> 'RESOLVED' ORDER BY rule",
    );
    found.bind(deployment).fetch_all(conn).await
}

/// Until when nobody is told of a rule's alerts; `None`: all are told.
pub(crate) async fn silence_of(
    conn: &mut Connection,
    deployment: &str,
    rule: DeploymentAlertRule,
) -> Result<Option<Timestamp>> {
    let found = sql!("SELECT max(silenced_until) FROM am_deployment_alerts WHERE deployment_id = $1 AND rule = $2");
    found.bind(deployment).bind(rule).fetch_value(conn).await
}

/// A page of an owner's alerts, the newest first, and how many there are.
pub(crate) async fn list_alerts(
    conn: &mut Connection,
    owner: &PrincipalId,
    (deployment, state, severity): (Option<&str>, Option<DeploymentAlertState>, Option<DeploymentAlertSeverity>),
    page: &PageRequest,
) -> Result<(Vec<DeploymentAlert>, i64)> {
    let total = sql!(
        "SELECT count(*) FROM am_deployment_alerts {by am_deployment_alerts_owner} WHERE owner_id = $1
         [AND deployment_id = $2] [AND state = $3] [AND severity = $4] {span $5}",
    );
    let total = total.bind(owner).bind_some(deployment).bind_some(state).bind_some(severity);
    let total = total.bind_span(page.created).fetch_value(&mut *conn).await?;
    let rows = sql!(
        "SELECT ",
        DeploymentAlert::COLUMNS,
        " FROM am_deployment_alerts {by am_deployment_alerts_owner} WHERE owner_id = $1
         [AND deployment_id = $2] [AND state = $3] [AND severity = $4] {page $5}",
    );
    let rows = rows.bind(owner).bind_some(deployment).bind_some(state).bind_some(severity).bind_page(page);
    Ok((rows.fetch_all(conn).await?, total))
}
