//! SQL of tables `strategy_signal`, `am_strategy_signals` and `am_open_signals`.

use serde_json::json;

use super::{model::SignalRecord, rules::SignalFinding};
use crate::{
    error::Result,
    model::{SignalKind, SignalSide},
};
use am_db::{
    Connection, DatabaseError, FromRow as _, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    page::PageRequest,
    push_row, row, sql, update,
};

row! {
    SignalRecord {
        id = "s.id",
        portfolio_id = "a.portfolio_id",
        strategy_id = "s.strategy_id",
        rule = "a.rule",
        signal_type = "s.signal_type",
        token_symbol = "s.token_symbol",
        measured = "a.measured",
        threshold = "a.threshold",
        strength = "a.strength",
        confidence = "s.confidence",
        price_target = "s.price_target",
        stop_loss = "s.stop_loss",
        time_horizon = "s.time_horizon",
        reasoning = "s.reasoning",
        tilt = "a.tilt",
        is_executed = "s.is_executed",
        executed_at = "s.executed_at",
        rebalance_id = "a.rebalance_id",
        expires_at = "s.expires_at",
        created_at = "s.created_at",
    }
}

row! {
    /// The last signal of a rule for a token.
    pub(super) struct OpenSignal {
        pub(super) rule: SignalKind,
        pub(super) token: String,
        pub(super) side: SignalSide,
        signal_id: i64,
        pub(super) expires_at: Timestamp,
    }
}

/// The last signals of a portfolio's rules.
pub(super) async fn open(conn: &mut Connection, portfolio: i64) -> Result<Vec<OpenSignal>> {
    let open = sql!("SELECT ", OpenSignal::COLUMNS, " FROM am_open_signals WHERE portfolio_id = $1");
    Ok(open.bind(portfolio).fetch_all(conn).await?)
}

/// A signal's condition is over, or its time; one that was followed stays as it is.
pub(super) async fn close(tx: &mut Tx, portfolio: i64, signal: &OpenSignal, now: Timestamp) -> Result<()> {
    if signal.expires_at > now {
        update!("strategy_signal" { expires_at: now } where "id = $1 AND NOT is_executed" (signal.signal_id))
            .execute(tx.conn().await?)
            .await?;
    }
    sql!("DELETE FROM am_open_signals WHERE portfolio_id = $1 AND rule = $2 AND token = $3")
        .bind(portfolio)
        .bind(signal.rule)
        .bind(&signal.token)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Store what a rule found newly.
pub(super) async fn insert(
    tx: &mut Tx,
    (portfolio, strategy): (i64, i64),
    found: &SignalFinding,
    (now, expires_at): (Timestamp, Timestamp),
) -> Result<()> {
    let id = sql!("SELECT 1 + coalesce(max(id), 0) FROM strategy_signal");
    let id: i64 = id.fetch_value(tx.conn().await?).await?;
    let data = json!({
        "portfolio_id": portfolio, "rule": found.rule, "measured": found.measured, "threshold": found.threshold,
        "strength": found.strength, "tilt": found.tilt,
    });
    let data = JsonText::from_value(&data).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    let mut rows = RowBatch::default();
    push_row!(rows, "strategy_signal" {
        id: id,
        strategy_id: strategy,
        signal_type: found.side,
        token_symbol: &found.token,
        confidence: found.confidence,
        price_target: found.price_target,
        stop_loss: found.void_price,
        time_horizon: format!("{}d", found.expires_days),
        reasoning: &found.reasoning,
        meta_data: data,
        is_executed: false,
        executed_at: None::<Timestamp>,
        expires_at: expires_at,
        created_at: now,
    });
    push_row!(rows, "am_strategy_signals" {
        id: id,
        portfolio_id: portfolio,
        rule: found.rule,
        measured: found.measured,
        threshold: found.threshold,
        strength: found.strength,
        tilt: found.tilt,
        rebalance_id: None::<i64>,
        created_at: now,
    });
    push_row!(rows, "am_open_signals" {
        portfolio_id: portfolio,
        rule: found.rule,
        token: &found.token,
        side: found.side,
        signal_id: id,
        expires_at: expires_at,
    });
    rows.execute(tx).await?;
    Ok(())
}

/// A signal of a portfolio.
pub(super) async fn get(conn: &mut Connection, portfolio: i64, id: i64) -> Result<Option<SignalRecord>> {
    let found = sql!(
        "SELECT ",
        SignalRecord::COLUMNS,
        " FROM am_strategy_signals a {then} strategy_signal s ON s.id = a.id WHERE a.id = $1 AND a.portfolio_id = $2",
    );
    Ok(found.bind(id).bind(portfolio).fetch_optional(conn).await?)
}

/// A rebalance followed a signal.
pub(super) async fn mark_executed(tx: &mut Tx, id: i64, rebalance: Option<i64>, now: Timestamp) -> Result<()> {
    update!("strategy_signal" { is_executed: true, executed_at: now } where "id = $1" (id))
        .execute(tx.conn().await?)
        .await?;
    update!("am_strategy_signals" { rebalance_id: rebalance } where "id = $1" (id)).execute(tx.conn().await?).await?;
    Ok(())
}

/// A page of a portfolio's signals by their numbers, which are in the order of their times, and how many there are; with `open`, those
/// that may be followed at `now`, or may not.
pub(super) async fn list(
    conn: &mut Connection,
    portfolio: i64,
    (open, now): (Option<bool>, Timestamp),
    page: &PageRequest,
) -> Result<(Vec<SignalRecord>, i64)> {
    let [before, after] = page.positions().map(|position| position.and_then(|(_, id)| id.parse::<i64>().ok()));
    let (open_at, over_at) = ((open == Some(true)).then_some(now), (open == Some(false)).then_some(now));
    let rows = sql!(
        "SELECT ",
        SignalRecord::COLUMNS,
        " FROM am_strategy_signals a {then} strategy_signal s ON s.id = a.id WHERE a.portfolio_id = $1
             [AND a.id < $2] [AND a.id > $3] {span a. $4} [AND s.expires_at > $6 AND NOT s.is_executed]
             [AND (s.expires_at <= $7 OR s.is_executed)] ORDER BY a.id [?8 DESC] LIMIT $9 OFFSET $10",
    );
    let rows = rows.bind(portfolio).bind_some(before).bind_some(after).bind_span(page.created).bind_some(open_at);
    let rows = rows.bind_some(over_at).bind_flag(!page.oldest_first).bind(i64::from(page.limit));
    let rows = rows.bind(i64::from(page.offset)).fetch_all(conn).await?;
    let total = sql!(
        "SELECT count(*) FROM am_strategy_signals a {then} strategy_signal s ON s.id = a.id WHERE a.portfolio_id = $1
             {span a. $2} [AND s.expires_at > $4 AND NOT s.is_executed] [AND (s.expires_at <= $5 OR s.is_executed)]",
    );
    let total = total.bind(portfolio).bind_span(page.created).bind_some(open_at).bind_some(over_at);
    Ok((rows, total.fetch_value(conn).await?))
}
