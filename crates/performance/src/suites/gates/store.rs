//! SQL of table `am_alias_gates`.

use am_core::ids::{AliasGateId, SuiteId};
use am_db::{Connection, FromRow as _, Result, Tx, bulk_insert::RowBatch, page::PageRequest, push_row, row, sql};

use crate::suites::model::GateDocument;

row! {
    GateDocument {
        id,
        suite_id,
        policy,
        alias,
        rule,
        bound,
        owner_id,
        created_at,
    }
}

/// Store a gate. Returns false where the alias has one of the suite with this rule.
pub(super) async fn insert_gate(tx: &mut Tx, made: &GateDocument) -> Result<bool> {
    let found = sql!("SELECT 1 FROM am_alias_gates WHERE policy = $1 AND alias = $2 AND suite_id = $3 AND rule = $4");
    let found = found.bind(&made.policy).bind(&made.alias).bind(&made.suite_id).bind(made.rule);
    if found.exists(tx.conn().await?).await? {
        return Ok(false);
    }
    let mut rows = RowBatch::default();
    push_row!(rows, "am_alias_gates" {
        id: &made.id,
        suite_id: &made.suite_id,
        policy: &made.policy,
        alias: &made.alias,
        rule: made.rule,
        bound: made.bound,
        owner_id: &made.owner_id,
        created_at: made.created_at,
    });
    rows.execute(tx).await?;
    Ok(true)
}

pub(super) async fn gate(conn: &mut Connection, id: &AliasGateId) -> Result<Option<GateDocument>> {
    sql!("SELECT ", GateDocument::COLUMNS, " FROM am_alias_gates WHERE id = $1").bind(id).fetch_optional(conn).await
}

/// A page of a suite's gates, and how many there are.
pub(super) async fn gates(
    conn: &mut Connection,
    suite: &SuiteId,
    page: &PageRequest,
) -> Result<(Vec<GateDocument>, i64)> {
    let rows = sql!("SELECT ", GateDocument::COLUMNS, " FROM am_alias_gates WHERE suite_id = $1 {page $2}");
    let rows = rows.bind(suite).bind_page(page).fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM am_alias_gates WHERE suite_id = $1 {span $2}");
    Ok((rows, total.bind(suite).bind_span(page.created).fetch_value(conn).await?))
}

/// The gates of an alias, at most `limit`.
pub(super) async fn gates_of(
    conn: &mut Connection,
    (policy, alias): (&str, &str),
    limit: i64,
) -> Result<Vec<GateDocument>> {
    let found = sql!(
        "SELECT ",
        GateDocument::COLUMNS,
        " FROM am_alias_gates WHERE policy = $1 AND alias = $2 ORDER BY suite_id, rule LIMIT $3",
    );
    found.bind(policy).bind(alias).bind(limit).fetch_all(conn).await
}

pub(super) async fn delete_gate(tx: &mut Tx, id: &AliasGateId) -> Result<()> {
    sql!("DELETE FROM am_alias_gates WHERE id = $1").bind(id).execute(tx.conn().await?).await?;
    Ok(())
}
