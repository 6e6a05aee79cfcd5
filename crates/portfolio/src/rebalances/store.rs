//! SQL of table `rebalance_history`.

use super::{RebalanceRecord, RebalanceReport};
use crate::error::Result;
use am_db::{Connection, FromRow as _, Tx, bulk_insert::RowBatch, page::PageRequest, push_row, row, sql};

row! {
    RebalanceRecord {
        id,
        portfolio_id,
        trigger_reason,
        pre_rebalance_value,
        post_rebalance_value,
        trades_executed,
        rebalance_cost,
        execution_time_ms,
        created_at,
    }
}

pub(super) async fn next_id(conn: &mut Connection) -> Result<i64> {
    Ok(sql!("SELECT 1 + coalesce(max(id), 0) FROM rebalance_history").fetch_value(conn).await?)
}

pub(super) async fn insert(tx: &mut Tx, report: &RebalanceReport, id: i64, took_ms: i64) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "rebalance_history" {
        id: id,
        portfolio_id: report.portfolio_id,
        trigger_reason: &report.trigger_reason,
        pre_rebalance_value: report.pre_rebalance_value.to_f64(),
        post_rebalance_value: report.post_rebalance_value.to_f64(),
        trades_executed: report.trade_ids.len() as i64,
        rebalance_cost: report.rebalance_cost.to_f64(),
        execution_time_ms: took_ms,
        created_at: report.created_at,
    });
    rows.execute(tx).await?;
    Ok(())
}

/// A page of a portfolio's rebalances by their numbers, which are in the order of their times.
pub(super) async fn list(
    conn: &mut Connection,
    portfolio: i64,
    page: &PageRequest,
) -> Result<(Vec<RebalanceRecord>, i64)> {
    let [before, after] = page.positions().map(|position| position.and_then(|(_, id)| id.parse::<i64>().ok()));
    let rows = sql!(
        "SELECT ",
        RebalanceRecord::COLUMNS,
        " FROM rebalance_history WHERE portfolio_id = $1 [AND id < $2] [AND id > $3] {span $4}
             ORDER BY id [?6 DESC] LIMIT $7 OFFSET $8",
    );
    let rows = rows.bind(portfolio).bind_some(before).bind_some(after).bind_span(page.created);
    let rows = rows.bind_flag(!page.oldest_first).bind(i64::from(page.limit)).bind(i64::from(page.offset));
    let rows = rows.fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM rebalance_history WHERE portfolio_id = $1 {span $2}");
    Ok((rows, total.bind(portfolio).bind_span(page.created).fetch_value(conn).await?))
}
