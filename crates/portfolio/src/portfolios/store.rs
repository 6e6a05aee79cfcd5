//! SQL of tables `agent_portfolio` and `am_portfolios`, but for what the books write there.

use crate::{
    error::Result,
    model::{PortfolioDocument, SettlementSummary},
};
use am_core::ids::PrincipalId;
use am_db::{
    Connection, FromRow as _, Tx, bulk_insert::RowBatch, codec::Timestamp, page::PageRequest, push_row, row, sql,
    update,
};

row! {
    PortfolioDocument {
        id = "p.id",
        agent_address = "p.agent_address",
        strategy_id = "p.strategy_id",
        contract_portfolio_id = "p.contract_portfolio_id",
        settlement = "a.settlement_id" => SettlementSummary::pending,
        initial_capital = "p.initial_capital",
        total_value = "p.total_value",
        risk_score = "p.risk_score",
        risk_tolerance = "p.risk_tolerance",
        is_active = "p.is_active",
        owner_id = "a.owner_id",
        created_at = "p.created_at",
        updated_at = "p.updated_at",
        last_rebalance = "p.last_rebalance",
    }
}

/// The number of the next portfolio: above all that there are.
pub(super) async fn next_id(conn: &mut Connection) -> Result<i64> {
    let next = sql!(
        "SELECT 1 + coalesce((SELECT max(id) FROM agent_portfolio), 0) AS one,
             1 + coalesce((SELECT max(id) FROM am_portfolios), 0) AS other",
    );
    let (one, other): (i64, i64) = next.fetch_one(conn).await?;
    Ok(one.max(other))
}

/// Whether an address, in small letters, has a portfolio, whoever made it.
pub(super) async fn is_taken(conn: &mut Connection, address: &str) -> Result<bool> {
    let ours = sql!("SELECT 1 FROM am_portfolios WHERE agent_address = $1").bind(address).exists(conn).await?;
    let theirs = sql!("SELECT 1 FROM agent_portfolio WHERE agent_address = $1 LIMIT 1").bind(address);
    Ok(ours || theirs.exists(conn).await?)
}

pub(super) async fn get(conn: &mut Connection, id: i64) -> Result<Option<PortfolioDocument>> {
    let found = sql!(
        "SELECT ",
        PortfolioDocument::COLUMNS,
        " FROM agent_portfolio p JOIN am_portfolios a ON a.id = p.id WHERE p.id = $1",
    );
    Ok(found.bind(id).fetch_optional(conn).await?)
}

pub(super) async fn list(
    conn: &mut Connection,
    owner: Option<PrincipalId>,
    page: &PageRequest,
) -> Result<(Vec<PortfolioDocument>, Option<i64>)> {
    let rows = sql!(
        "SELECT ",
        PortfolioDocument::COLUMNS,
        " FROM am_portfolios a {then} agent_portfolio p ON p.id = a.id WHERE true [AND a.owner_id = $1] {page a. $2}",
    );
    let rows = rows.bind_some(owner.clone()).bind_page(page).fetch_all(conn).await?;
    let Some(owner) = owner else { return Ok((rows, None)) };
    let total = sql!("SELECT count(*) FROM am_portfolios WHERE owner_id = $1 {span $2}");
    Ok((rows, Some(total.bind(owner).bind_span(page.created).fetch_value(conn).await?)))
}

pub(super) async fn insert(tx: &mut Tx, new: &PortfolioDocument, review_due_at: Timestamp) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "agent_portfolio" {
        id: new.id,
        agent_address: &new.agent_address,
        strategy_id: new.strategy_id,
        contract_portfolio_id: new.contract_portfolio_id.as_deref(),
        initial_capital: new.initial_capital,
        total_value: new.total_value,
        risk_score: new.risk_score,
        risk_tolerance: new.risk_tolerance,
        is_active: new.is_active,
        created_at: new.created_at,
        updated_at: new.updated_at,
        last_rebalance: new.last_rebalance,
    });
    push_row!(rows, "am_portfolios" {
        id: new.id,
        owner_id: &new.owner_id,
        agent_address: &new.agent_address,
        unit_value: 1.0,
        peak_unit: 1.0,
        last_value: 0_i64,
        costs: 0_i64,
        review_due_at: review_due_at,
        created_at: new.created_at,
        settlement_id: new.settlement.id.as_deref(),
    });
    rows.execute(tx).await?;
    Ok(())
}

/// Store what may change.
pub(super) async fn update(tx: &mut Tx, document: &PortfolioDocument) -> Result<()> {
    update!("agent_portfolio" {
        strategy_id: document.strategy_id,
        initial_capital: document.initial_capital,
        total_value: document.total_value,
        risk_score: document.risk_score,
        risk_tolerance: document.risk_tolerance,
        is_active: document.is_active,
        updated_at: document.updated_at,
        last_rebalance: document.last_rebalance,
    } where "id = $1" (document.id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
