//! Runs under way, as a policy judges them.

use sqlx::{QueryBuilder, Row as _};

use crate::{error::Result, model::VerificationLevel};
use am_audit::SecurityLevel;
use am_db::{Connection, Db, Row, page::Page, principal::Principal};

/// A run under way.
pub struct UnderWay {
    pub id: String,
    pub workflow_id: String,
    pub definition: String,
    pub input_bytes: i64,
    pub level: VerificationLevel,
    pub security: SecurityLevel,
    pub max_execution_time: i64,
}

const FROM: &str =
    " FROM am_runs r JOIN agent_executions e ON e.id = r.execution_id WHERE r.state <> 'ended' AND e.client_id IN (";

fn push_from(query: &mut QueryBuilder<Db>, client: &Principal) {
    query.push(FROM);
    let mut list = query.separated(", ");
    for alias in client.aliases.iter() {
        list.push_bind(alias.clone());
    }
    query.push(")");
}

fn run(row: &Row) -> am_db::Result<UnderWay> {
    Ok(UnderWay {
        id: row.try_get(0)?,
        workflow_id: row.try_get(1)?,
        definition: row.try_get(2)?,
        input_bytes: row.try_get(3)?,
        level: row.try_get(4)?,
        security: row.try_get(5)?,
        max_execution_time: row.try_get(6)?,
    })
}

/// A page of a client's runs under way, newest first, and how many there are in all.
pub async fn under_way(conn: &mut Connection, client: &Principal, page: &Page) -> Result<(Vec<UnderWay>, i64)> {
    let mut query = QueryBuilder::<Db>::new(
        "SELECT e.id, e.workflow_id, (SELECT body FROM am_definitions WHERE hash = r.definition_hash) AS definition, \
         length(CAST(r.inputs AS BLOB)) AS input_bytes, r.verification_level AS level, r.security_level AS security, r.max_execution_time",
    );
    push_from(&mut query, client);
    page.push(&mut query, "e.");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let mut count = QueryBuilder::<Db>::new("SELECT count(*)");
    push_from(&mut count, client);
    let rows = rows.iter().map(run).collect::<am_db::Result<_>>()?;
    Ok((rows, count.build_query_scalar().fetch_one(conn).await?))
}
