//! Table `am_networks`, and the executions of networks and agents.

use sqlx::{QueryBuilder, Row as _};

use super::model::{Measured, Network, Standing};
use crate::error::{Result, unreadable};
use am_db::{Connection, Db, Row, Tx, page::Page, principal::Principal};

const COLUMNS: &str = "id, owner_id, name, description, agents, coordination_strategy, status, created_at, updated_at";

fn network(row: &Row) -> Result<Network> {
    let read = |row: &Row| -> am_db::Result<(Network, String)> {
        let network = Network {
            id: row.try_get(0)?,
            owner_id: row.try_get(1)?,
            name: row.try_get(2)?,
            description: row.try_get(3)?,
            agents: Vec::new(),
            coordination_strategy: row.try_get(5)?,
            status: row.try_get(6)?,
            created_at: row.try_get(7)?,
            updated_at: row.try_get(8)?,
        };
        Ok((network, row.try_get(4)?))
    };
    let (network, agents) = read(row)?;
    Ok(Network {
        agents: serde_json::from_str(&agents).map_err(|error| unreadable("am_networks.agents", error))?,
        ..network
    })
}

/// Store a new network.
pub async fn insert(tx: &mut Tx, network: &Network) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_networks (id, owner_id, name, description, agents, coordination_strategy, status, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(&network.id)
    .bind(&network.owner_id)
    .bind(&network.name)
    .bind(&network.description)
    .bind(serde_json::to_string(&network.agents)?)
    .bind(network.coordination_strategy)
    .bind(&network.status)
    .bind(network.created_at)
    .bind(network.updated_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// One network.
pub async fn get(conn: &mut Connection, id: &str) -> Result<Option<Network>> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(" FROM am_networks WHERE id = ").push_bind(id);
    query.build().fetch_optional(conn).await?.as_ref().map(network).transpose()
}

fn push_owner(query: &mut QueryBuilder<Db>, owner: &Principal) {
    query.push(" FROM am_networks WHERE owner_id IN (");
    let mut list = query.separated(", ");
    for alias in owner.aliases.iter() {
        list.push_bind(alias);
    }
    query.push(")");
}

/// A page, newest first, and how many there are in all.
pub async fn list(conn: &mut Connection, owner: &Principal, page: &Page) -> Result<(Vec<Network>, i64)> {
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS);
    push_owner(&mut query, owner);
    page.push(&mut query, "");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut count = QueryBuilder::<Db>::new("SELECT count(*)");
    push_owner(&mut count, owner);
    let total = count.build_query_scalar().fetch_one(conn).await?;
    Ok((rows.iter().map(network).collect::<Result<_>>()?, total))
}

/// Write the order of its agents.
pub async fn reorder(tx: &mut Tx, network: &Network) -> Result<()> {
    sqlx::query("UPDATE am_networks SET agents = ?2, updated_at = ?3 WHERE id = ?1")
        .bind(&network.id)
        .bind(serde_json::to_string(&network.agents)?)
        .bind(network.updated_at)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// What was measured of an agent's own runs.
pub async fn measured(conn: &mut Connection, agent_id: String) -> Result<Measured> {
    let row: (i64, i64, Option<f64>, Option<f64>) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(status = 'COMPLETED'), 0), avg(CASE WHEN status = 'COMPLETED' THEN total_execution_time END),
             avg(CASE WHEN status = 'COMPLETED' THEN total_cost END)
         FROM agent_executions WHERE workflow_id = ?1 AND status IN ('COMPLETED', 'FAILED')",
    )
    .bind(&agent_id)
    .fetch_one(conn)
    .await?;
    let (runs, completed, mean_seconds, mean_cost) = row;
    let success_rate = (runs > 0).then(|| completed as f64 / runs as f64);
    Ok(Measured { agent_id, runs, mean_seconds, mean_cost, success_rate })
}

/// How a network stands.
pub async fn standing(conn: &mut Connection, id: &str) -> Result<Standing> {
    let row = sqlx::query(
        "SELECT count(*), coalesce(sum(status = 'PENDING'), 0), coalesce(sum(status = 'RUNNING'), 0), coalesce(sum(status = 'COMPLETED'), 0),
             coalesce(sum(status = 'FAILED'), 0), coalesce(sum(status = 'CANCELLED'), 0),
             avg(CASE WHEN status = 'COMPLETED' THEN total_execution_time END), coalesce(sum(total_cost), 0.0), max(created_at),
             (SELECT lower(status) FROM agent_executions WHERE workflow_id = ?1 ORDER BY created_at DESC, id DESC LIMIT 1)
         FROM agent_executions WHERE workflow_id = ?1",
    )
    .bind(id)
    .fetch_one(conn)
    .await?;
    let read = |row: &Row| -> am_db::Result<Standing> {
        let (completed, failed): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
        let latest: Option<String> = row.try_get(9)?;
        Ok(Standing {
            status: latest.unwrap_or_else(|| "idle".into()),
            total_executions: row.try_get(0)?,
            pending_executions: row.try_get(1)?,
            running_executions: row.try_get(2)?,
            completed_executions: completed,
            failed_executions: failed,
            cancelled_executions: row.try_get(5)?,
            success_rate: (completed + failed > 0).then(|| completed as f64 / (completed + failed) as f64),
            average_execution_time: row.try_get(6)?,
            total_cost: row.try_get(7)?,
            last_execution_at: row.try_get(8)?,
        })
    };
    Ok(read(&row)?)
}
