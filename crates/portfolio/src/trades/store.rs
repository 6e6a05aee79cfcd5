//! SQL of tables `portfolio_trade`, `am_portfolio_trades` and `am_portfolio_quotes`.

use super::{QuoteDocument, TradeDocument, TradeTerms};
use crate::{error::Result, model::SettlementSummary};
use am_core::money::Money;
use am_db::{
    Connection, DatabaseError, FromRow as _, Tx,
    bulk_insert::RowBatch,
    codec::{Json, JsonOr, JsonText, Timestamp},
    insert,
    page::PageRequest,
    push_row, row, sql, update,
};

/// Expired quotes that are deleted with one new one.
const EXPIRED_BATCH: i64 = 50;
/// How long a quote is kept after its end, so that whoever takes it too late is told so.
const EXPIRED_KEPT: chrono::Duration = chrono::Duration::days(1);

row! {
    TradeDocument {
        id = "t.id",
        portfolio_id = "t.portfolio_id",
        sell_token = "t.sell_token",
        buy_token = "t.buy_token",
        sell_amount = "t.sell_amount" => Money::from_f64,
        buy_amount = "t.buy_amount" => Money::from_f64,
        price = "t.price",
        fee_amount = "t.fee_amount" => Money::from_f64,
        status = "t.status",
        transaction_hash = "t.transaction_hash",
        settlement = "a.settlement_id" => SettlementSummary::pending,
        terms = "a.terms" => JsonOr::into_inner,
        entry_id = "a.entry_id",
        quote_id = "a.quote_id",
        rebalance_id = "a.rebalance_id",
        executed_at = "t.executed_at",
        created_at = "t.created_at",
    }
}

fn json(terms: &TradeTerms) -> Result<JsonText> {
    Ok(JsonText::from_value(terms).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?)
}

pub(super) async fn next_trade_id(conn: &mut Connection) -> Result<i64> {
    let next = sql!(
        "SELECT 1 + coalesce((SELECT max(id) FROM portfolio_trade), 0) AS one,
             1 + coalesce((SELECT max(id) FROM am_portfolio_trades), 0) AS other",
    );
    let (one, other): (i64, i64) = next.fetch_one(conn).await?;
    Ok(one.max(other))
}

pub(super) async fn insert_trade(tx: &mut Tx, trade: &TradeDocument) -> Result<()> {
    let Some(terms) = &trade.terms else { return Ok(()) };
    let mut rows = RowBatch::default();
    push_row!(rows, "portfolio_trade" {
        id: trade.id,
        portfolio_id: trade.portfolio_id,
        sell_token: &trade.sell_token,
        buy_token: &trade.buy_token,
        sell_amount: trade.sell_amount.to_f64(),
        buy_amount: trade.buy_amount.to_f64(),
        price: trade.price,
        fee_amount: trade.fee_amount.to_f64(),
        status: trade.status,
        transaction_hash: trade.transaction_hash.as_deref(),
        executed_at: trade.executed_at,
        created_at: trade.created_at,
    });
    push_row!(rows, "am_portfolio_trades" {
        id: trade.id,
        portfolio_id: trade.portfolio_id,
        terms: json(terms)?,
        entry_id: trade.entry_id.as_deref().unwrap_or_default(),
        quote_id: trade.quote_id.as_deref(),
        rebalance_id: trade.rebalance_id,
        settlement_id: trade.settlement.id.as_deref(),
        created_at: trade.created_at,
    });
    rows.execute(tx).await?;
    Ok(())
}

/// A page of a portfolio's trades by their numbers, which are in the order of their times.
pub(super) async fn list_trades(
    conn: &mut Connection,
    portfolio: i64,
    page: &PageRequest,
) -> Result<(Vec<TradeDocument>, i64)> {
    let [before, after] = page.positions().map(|position| position.and_then(|(_, id)| id.parse::<i64>().ok()));
    let rows = sql!(
        "SELECT ",
        TradeDocument::COLUMNS,
        " FROM portfolio_trade t LEFT JOIN am_portfolio_trades a ON a.id = t.id WHERE t.portfolio_id = $1
             [AND t.id < $2] [AND t.id > $3] {span t. $4} ORDER BY t.id [?6 DESC] LIMIT $7 OFFSET $8",
    );
    let rows = rows.bind(portfolio).bind_some(before).bind_some(after).bind_span(page.created);
    let rows = rows.bind_flag(!page.oldest_first).bind(i64::from(page.limit)).bind(i64::from(page.offset));
    let mut rows: Vec<TradeDocument> = rows.fetch_all(conn).await?;
    for row in &mut rows {
        if let Some(terms) = &row.terms {
            // The coordinator's columns are floats.
            (row.sell_amount, row.buy_amount, row.fee_amount) = (terms.sell_amount, terms.buy_amount, terms.fee_amount);
        }
    }
    let total = sql!("SELECT count(*) FROM portfolio_trade t WHERE t.portfolio_id = $1 {span t. $2}");
    Ok((rows, total.bind(portfolio).bind_span(page.created).fetch_value(conn).await?))
}

pub(super) async fn insert_quote(tx: &mut Tx, quote: &QuoteDocument) -> Result<()> {
    insert!("am_portfolio_quotes" {
        id: &quote.id,
        portfolio_id: quote.portfolio_id,
        terms: json(&quote.terms)?,
        expires_at: quote.expires_at,
        created_at: quote.created_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

row! {
    /// A quote as it is stored.
    struct StoredQuote {
        id: String,
        portfolio_id: i64,
        terms: TradeTerms => Json::into_inner,
        trade_id: Option<i64>,
        expires_at: Timestamp,
        created_at: Timestamp,
    }
}

/// A quote of a portfolio, with the trade that took it.
pub(super) async fn quote(
    conn: &mut Connection,
    portfolio: i64,
    id: &str,
) -> Result<Option<(QuoteDocument, Option<i64>)>> {
    let found = sql!("SELECT ", StoredQuote::COLUMNS, " FROM am_portfolio_quotes WHERE id = $1 AND portfolio_id = $2");
    let found: Option<StoredQuote> = found.bind(id).bind(portfolio).fetch_optional(conn).await?;
    Ok(found.map(|found| {
        let StoredQuote { id, portfolio_id, terms, trade_id, expires_at, created_at } = found;
        (QuoteDocument { id, portfolio_id, terms, expires_at, created_at }, trade_id)
    }))
}

pub(super) async fn take_quote(tx: &mut Tx, id: &str, trade: i64) -> Result<()> {
    update!("am_portfolio_quotes" { trade_id: trade } where "id = $1" (id)).execute(tx.conn().await?).await?;
    Ok(())
}

/// Delete some of the quotes that ended long ago.
pub(super) async fn delete_expired_quotes(tx: &mut Tx, now: Timestamp) -> Result<()> {
    let before = Timestamp(now.0.checked_sub_signed(EXPIRED_KEPT).unwrap_or_default());
    sql!(
        "DELETE FROM am_portfolio_quotes WHERE id IN
             (SELECT id FROM am_portfolio_quotes WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
    )
    .bind(before)
    .bind(EXPIRED_BATCH)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
