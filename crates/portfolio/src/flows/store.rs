//! SQL of table `am_portfolio_flows`.

use super::FlowDocument;
use crate::{error::Result, model::SettlementSummary};
use am_core::money::Money;
use am_db::{Connection, FromRow as _, Tx, bulk_insert::RowBatch, page::PageRequest, push_row, row, sql};

row! {
    FlowDocument {
        id,
        portfolio_id,
        direction,
        token,
        amount => Money::from_units,
        price => Money::from_units,
        value => Money::from_units,
        entry_id,
        settlement = "settlement_id" => SettlementSummary::pending,
        created_at,
    }
}

pub(super) async fn next_id(conn: &mut Connection) -> Result<i64> {
    Ok(sql!("SELECT 1 + coalesce(max(id), 0) FROM am_portfolio_flows").fetch_value(conn).await?)
}

pub(super) async fn insert(tx: &mut Tx, flow: &FlowDocument) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "am_portfolio_flows" {
        id: flow.id,
        portfolio_id: flow.portfolio_id,
        direction: &flow.direction,
        token: &flow.token,
        amount: flow.amount.units(),
        price: flow.price.units(),
        value: flow.value.units(),
        entry_id: &flow.entry_id,
        settlement_id: flow.settlement.id.as_deref(),
        created_at: flow.created_at,
    });
    rows.execute(tx).await?;
    Ok(())
}

pub(super) async fn list(
    conn: &mut Connection,
    portfolio: i64,
    page: &PageRequest,
) -> Result<(Vec<FlowDocument>, i64)> {
    let rows = sql!("SELECT ", FlowDocument::COLUMNS, " FROM am_portfolio_flows WHERE portfolio_id = $1 {page $2}");
    let rows = rows.bind(portfolio).bind_page(page).fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM am_portfolio_flows WHERE portfolio_id = $1 {span $2}");
    Ok((rows, total.bind(portfolio).bind_span(page.created).fetch_value(conn).await?))
}
