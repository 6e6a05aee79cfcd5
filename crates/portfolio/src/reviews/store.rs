//! SQL of tables `portfolio_snapshot`, `risk_metrics`, `performance_metrics`, `portfolio_alert` and `am_portfolio_open_alerts`, and of
//! when portfolios are due.

use super::{AlertRecord, SnapshotRecord, conditions::AlertCondition};
use crate::{
    error::Result,
    reports::{KeptPeriod, KeptRisk},
};
use am_db::{
    Connection, DatabaseError, FromRow as _, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    page::PageRequest,
    push_row, row, sql, update,
};

row! {
    SnapshotRecord {
        id,
        portfolio_id,
        snapshot_date,
        total_value,
        cash_balance,
        asset_count,
        top_holdings,
        sector_allocation,
        geographic_allocation,
        risk_metrics,
        performance_metrics,
        created_at,
    }
}

row! {
    AlertRecord {
        id,
        portfolio_id,
        alert_type,
        severity,
        message,
        meta_data,
        is_acknowledged,
        acknowledged_at,
        created_at,
        resolved_at,
    }
}

row! {
    /// An alert whose condition holds.
    pub(super) struct OpenAlert {
        pub(super) alert_type: String,
        pub(super) token: String,
        alert_id: i64,
    }
}

/// Portfolios that are due at `now`, those that are longest due first.
pub(super) async fn due(conn: &mut Connection, now: Timestamp, most: usize) -> Result<Vec<(i64, Timestamp)>> {
    let due =
        sql!("SELECT id, review_due_at FROM am_portfolios WHERE review_due_at <= $1 ORDER BY review_due_at LIMIT $2",);
    Ok(due.bind(now).bind(most as i64).fetch_all(conn).await?)
}

/// Say when a portfolio is due next. Returns false where somebody else has since.
pub(super) async fn claim(tx: &mut Tx, id: i64, due_at: Timestamp, next: Timestamp) -> Result<bool> {
    let claimed = sql!("UPDATE am_portfolios SET review_due_at = $3 WHERE id = $1 AND review_due_at = $2");
    Ok(claimed.bind(id).bind(due_at).bind(next).execute(tx.conn().await?).await? > 0)
}

pub(super) async fn next_snapshot_id(conn: &mut Connection) -> Result<i64> {
    Ok(sql!("SELECT 1 + coalesce(max(id), 0) FROM portfolio_snapshot").fetch_value(conn).await?)
}

pub(super) async fn insert_snapshot(tx: &mut Tx, new: &SnapshotRecord) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "portfolio_snapshot" {
        id: new.id,
        portfolio_id: new.portfolio_id,
        snapshot_date: new.snapshot_date,
        total_value: new.total_value,
        cash_balance: new.cash_balance,
        asset_count: new.asset_count,
        top_holdings: &new.top_holdings,
        sector_allocation: &new.sector_allocation,
        geographic_allocation: &new.geographic_allocation,
        risk_metrics: &new.risk_metrics,
        performance_metrics: &new.performance_metrics,
        created_at: new.created_at,
    });
    rows.execute(tx).await?;
    Ok(())
}

/// Write the risk of a portfolio into its newest row, or its first. Its columns `beta` and `alpha` are another's
/// ([`keep_comparison`]): they keep what they have, in a new row the coordinator's default.
pub(super) async fn keep_risk(tx: &mut Tx, portfolio: i64, risk: &KeptRisk, now: Timestamp) -> Result<()> {
    let known = sql!("SELECT id FROM risk_metrics WHERE portfolio_id = $1 ORDER BY id DESC LIMIT 1").bind(portfolio);
    let known: Option<i64> = known.fetch_optional_value(tx.conn().await?).await?;
    if let Some(id) = known {
        update!("risk_metrics" {
            volatility: risk.volatility,
            max_drawdown: risk.max_drawdown,
            sharpe_ratio: risk.sharpe_ratio,
            var_95: risk.var_95,
            var_99: risk.var_99,
            risk_level: &risk.level,
            overall_risk_score: risk.score,
            updated_at: now,
        } where "id = $1" (id))
        .execute(tx.conn().await?)
        .await?;
        return Ok(());
    }
    let id: i64 = sql!("SELECT 1 + coalesce(max(id), 0) FROM risk_metrics").fetch_value(tx.conn().await?).await?;
    let mut rows = RowBatch::default();
    push_row!(rows, "risk_metrics" {
        id: id,
        portfolio_id: portfolio,
        volatility: risk.volatility,
        max_drawdown: risk.max_drawdown,
        sharpe_ratio: risk.sharpe_ratio,
        beta: 0.0,
        alpha: 0.0,
        var_95: risk.var_95,
        var_99: risk.var_99,
        correlation_matrix: "{}",
        risk_level: &risk.level,
        overall_risk_score: risk.score,
        stress_test_results: "{}",
        updated_at: now,
    });
    rows.execute(tx).await?;
    Ok(())
}

/// Write how a portfolio's year compares with its benchmark into the row of its risk.
pub(super) async fn keep_comparison(tx: &mut Tx, portfolio: i64, year: &KeptPeriod) -> Result<()> {
    let kept = sql!(
        "UPDATE risk_metrics SET beta = $2, alpha = $3
         WHERE id = (SELECT id FROM risk_metrics WHERE portfolio_id = $1 ORDER BY id DESC LIMIT 1)",
    );
    kept.bind(portfolio).bind(year.beta).bind(year.alpha).execute(tx.conn().await?).await?;
    Ok(())
}

/// Write a period of a portfolio that ends now into its newest row, or its first.
pub(super) async fn keep_period(tx: &mut Tx, portfolio: i64, kept: &KeptPeriod, now: Timestamp) -> Result<()> {
    // By the portfolio's index: few periods have names.
    let known = sql!(
        "SELECT id FROM performance_metrics WHERE portfolio_id = $1 AND period || '' = $2 ORDER BY id DESC LIMIT 1",
    );
    let known: Option<i64> = known.bind(portfolio).bind(kept.name).fetch_optional_value(tx.conn().await?).await?;
    if let Some(id) = known {
        update!("performance_metrics" {
            total_return: kept.total_return,
            annualized_return: kept.annualized_return,
            volatility: kept.volatility,
            max_drawdown: kept.max_drawdown,
            win_rate: kept.win_rate,
            profit_factor: kept.profit_factor,
            sharpe_ratio: kept.sharpe_ratio,
            sortino_ratio: kept.sortino_ratio,
            calmar_ratio: kept.calmar_ratio,
            benchmark_return: kept.benchmark_return,
            alpha: kept.alpha,
            beta: kept.beta,
            tracking_error: kept.tracking_error,
            information_ratio: kept.information_ratio,
            updated_at: now,
            period_start: kept.begin,
            period_end: now,
        } where "id = $1" (id))
        .execute(tx.conn().await?)
        .await?;
        return Ok(());
    }
    let id = sql!("SELECT 1 + coalesce(max(id), 0) FROM performance_metrics");
    let id: i64 = id.fetch_value(tx.conn().await?).await?;
    let mut rows = RowBatch::default();
    push_row!(rows, "performance_metrics" {
        id: id,
        portfolio_id: portfolio,
        period: kept.name,
        total_return: kept.total_return,
        annualized_return: kept.annualized_return,
        volatility: kept.volatility,
        max_drawdown: kept.max_drawdown,
        win_rate: kept.win_rate,
        profit_factor: kept.profit_factor,
        sharpe_ratio: kept.sharpe_ratio,
        sortino_ratio: kept.sortino_ratio,
        calmar_ratio: kept.calmar_ratio,
        benchmark_return: kept.benchmark_return,
        alpha: kept.alpha,
        beta: kept.beta,
        tracking_error: kept.tracking_error,
        information_ratio: kept.information_ratio,
        updated_at: now,
        period_start: kept.begin,
        period_end: now,
    });
    rows.execute(tx).await?;
    Ok(())
}

/// The alerts of a portfolio whose conditions hold.
pub(super) async fn open_alerts(conn: &mut Connection, portfolio: i64) -> Result<Vec<OpenAlert>> {
    let open = sql!("SELECT ", OpenAlert::COLUMNS, " FROM am_portfolio_open_alerts WHERE portfolio_id = $1");
    Ok(open.bind(portfolio).fetch_all(conn).await?)
}

/// The condition of an alert is over.
pub(super) async fn resolve(tx: &mut Tx, portfolio: i64, alert: &OpenAlert, now: Timestamp) -> Result<()> {
    update!("portfolio_alert" { resolved_at: now } where "id = $1" (alert.alert_id)).execute(tx.conn().await?).await?;
    sql!("DELETE FROM am_portfolio_open_alerts WHERE portfolio_id = $1 AND alert_type = $2 AND token = $3")
        .bind(portfolio)
        .bind(&alert.alert_type)
        .bind(&alert.token)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// The condition of an alert holds newly.
pub(super) async fn raise(tx: &mut Tx, portfolio: i64, condition: &AlertCondition, now: Timestamp) -> Result<()> {
    let id = sql!("SELECT 1 + coalesce(max(id), 0) FROM portfolio_alert");
    let id: i64 = id.fetch_value(tx.conn().await?).await?;
    let data = JsonText::from_value(&condition.data).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    let mut rows = RowBatch::default();
    push_row!(rows, "portfolio_alert" {
        id: id,
        portfolio_id: portfolio,
        alert_type: condition.kind.word(),
        severity: condition.kind.severity(),
        message: &condition.message,
        meta_data: data,
        is_acknowledged: false,
        acknowledged_at: None::<Timestamp>,
        created_at: now,
        resolved_at: None::<Timestamp>,
    });
    push_row!(rows, "am_portfolio_open_alerts" {
        portfolio_id: portfolio,
        alert_type: condition.kind.word(),
        token: &condition.token,
        alert_id: id,
    });
    rows.execute(tx).await?;
    Ok(())
}

pub(super) async fn alert(conn: &mut Connection, portfolio: i64, id: i64) -> Result<Option<AlertRecord>> {
    let found = sql!("SELECT ", AlertRecord::COLUMNS, " FROM portfolio_alert WHERE id = $1 AND portfolio_id = $2");
    Ok(found.bind(id).bind(portfolio).fetch_optional(conn).await?)
}

pub(super) async fn acknowledge(tx: &mut Tx, id: i64, now: Timestamp) -> Result<()> {
    update!("portfolio_alert" { is_acknowledged: true, acknowledged_at: now } where "id = $1" (id))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// The position of a page in a list by numbers, which are in the order of times: before and after which number.
fn bounds(page: &PageRequest) -> [Option<i64>; 2] {
    page.positions().map(|position| position.and_then(|(_, id)| id.parse().ok()))
}

pub(super) async fn list_snapshots(
    conn: &mut Connection,
    portfolio: i64,
    page: &PageRequest,
) -> Result<(Vec<SnapshotRecord>, i64)> {
    let [before, after] = bounds(page);
    let rows = sql!(
        "SELECT ",
        SnapshotRecord::COLUMNS,
        " FROM portfolio_snapshot WHERE portfolio_id = $1 [AND id < $2] [AND id > $3] {span $4}
             ORDER BY id [?6 DESC] LIMIT $7 OFFSET $8",
    );
    let rows = rows.bind(portfolio).bind_some(before).bind_some(after).bind_span(page.created);
    let rows = rows.bind_flag(!page.oldest_first).bind(i64::from(page.limit)).bind(i64::from(page.offset));
    let rows = rows.fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM portfolio_snapshot WHERE portfolio_id = $1 {span $2}");
    Ok((rows, total.bind(portfolio).bind_span(page.created).fetch_value(conn).await?))
}

pub(super) async fn list_alerts(
    conn: &mut Connection,
    portfolio: i64,
    open: Option<bool>,
    page: &PageRequest,
) -> Result<(Vec<AlertRecord>, i64)> {
    let [before, after] = bounds(page);
    let rows = sql!(
        "SELECT ",
        AlertRecord::COLUMNS,
        " FROM portfolio_alert WHERE portfolio_id = $1 [AND id < $2] [AND id > $3] {span $4}
             [?6 AND resolved_at IS NULL] [?7 AND resolved_at IS NOT NULL] ORDER BY id [?8 DESC] LIMIT $9 OFFSET $10",
    );
    let rows = rows.bind(portfolio).bind_some(before).bind_some(after).bind_span(page.created);
    let rows = rows.bind_flag(open == Some(true)).bind_flag(open == Some(false)).bind_flag(!page.oldest_first);
    let rows = rows.bind(i64::from(page.limit)).bind(i64::from(page.offset)).fetch_all(conn).await?;
    let total = sql!(
        "SELECT count(*) FROM portfolio_alert WHERE portfolio_id = $1 {span $2}
             [?4 AND resolved_at IS NULL] [?5 AND resolved_at IS NOT NULL]",
    );
    let total = total.bind(portfolio).bind_span(page.created).bind_flag(open == Some(true));
    Ok((rows, total.bind_flag(open == Some(false)).fetch_value(conn).await?))
}
