//! SQL of the books: tables `portfolio_asset`, `am_portfolio_assets`, `am_portfolio_values`, `am_portfolio_days`, and the state in
//! `am_portfolios`.

use std::collections::{BTreeMap, HashMap};

use super::{PortfolioBook, Position, RecordedPosition};
use crate::error::Result;
use am_core::money::Money;
use am_db::{
    Connection, DatabaseError, FromRow as _, Tx,
    bulk_insert::RowBatch,
    codec::{Json, JsonText, Timestamp},
    push_row, row, sql, update,
};

row! {
    /// What of the books stands in a portfolio's row.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct BookState {
        /// Time-weighted worth of a unit, 1 at the first deposit.
        pub(crate) unit_value: f64,
        /// The highest that has been.
        pub(crate) peak_unit: f64,
        /// What the portfolio was worth after the last record.
        pub(crate) last_value: Money => Money::from_units,
        /// Fees and slippage so far.
        pub(crate) costs: Money => Money::from_units,
    }
}

row! {
    /// What a portfolio was worth at a moment, before a flow.
    #[derive(Clone, Debug)]
    pub(crate) struct ValueRecord {
        pub(crate) id: i64,
        pub(crate) value: Money => Money::from_units,
        pub(crate) flow: Money => Money::from_units,
        pub(crate) unit_value: f64,
        pub(crate) costs: Money => Money::from_units,
        pub(crate) holdings: Vec<RecordedPosition> => Json::into_inner,
        pub(crate) created_at: Timestamp,
    }
}

pub(super) async fn read_state(conn: &mut Connection, portfolio: i64) -> Result<Option<BookState>> {
    let found = sql!("SELECT ", BookState::COLUMNS, " FROM am_portfolios WHERE id = $1");
    Ok(found.bind(portfolio).fetch_optional(conn).await?)
}

pub(super) async fn write_state(tx: &mut Tx, portfolio: i64, state: &BookState) -> Result<()> {
    update!("am_portfolios" {
        unit_value: state.unit_value,
        peak_unit: state.peak_unit,
        last_value: state.last_value.units(),
        costs: state.costs.units(),
    } where "id = $1" (portfolio))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// What was paid for the tokens of a portfolio, by token.
pub(super) async fn read_positions(conn: &mut Connection, portfolio: i64) -> Result<BTreeMap<String, Position>> {
    let rows = sql!("SELECT token, net_invested, cost FROM am_portfolio_assets WHERE portfolio_id = $1");
    let rows: Vec<(String, i64, i64)> = rows.bind(portfolio).fetch_all(conn).await?;
    let position = |(token, net_invested, cost)| {
        let (net_invested, cost) = (Money::from_units(net_invested), Money::from_units(cost));
        (token, Position { net_invested, cost, ..Position::default() })
    };
    Ok(rows.into_iter().map(position).collect())
}

/// Addresses of the tokens that the coordinator's table names, by token; empty where there is none.
pub(super) async fn read_addresses(conn: &mut Connection, portfolio: i64) -> Result<HashMap<String, String>> {
    let rows = sql!("SELECT token_symbol, token_address FROM portfolio_asset WHERE portfolio_id = $1");
    let rows: Vec<(String, String)> = rows.bind(portfolio).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}

/// Write all positions to both tables; `address` is a token's that was said.
pub(super) async fn write_positions(
    tx: &mut Tx,
    book: &PortfolioBook,
    total: Money,
    address: Option<(&str, &str)>,
) -> Result<()> {
    let known = sql!("SELECT token_symbol, id, token_address FROM portfolio_asset WHERE portfolio_id = $1");
    let known: Vec<(String, i64, String)> = known.bind(book.id()).fetch_all(tx.conn().await?).await?;
    let known: HashMap<String, (i64, String)> =
        known.into_iter().map(|(token, id, address)| (token, (id, address))).collect();
    let next = sql!("SELECT 1 + coalesce(max(id), 0) FROM portfolio_asset");
    let mut next: i64 = next.fetch_value(tx.conn().await?).await?;
    let percents = book.positions.percents(total);
    let mut rows = RowBatch::default();
    for (token, position) in &book.positions.0 {
        let (said, before) = (address.filter(|(of, _)| of == token), known.get(token));
        let target = book.strategy.target_allocations.get(token).copied();
        if before.is_none() && said.is_none() && !position.amount.is_positive() && target.is_none() {
            continue;
        }
        let id = before.map_or_else(
            || {
                next += 1;
                next - 1
            },
            |(id, _)| *id,
        );
        let kept = before.map_or("", |(_, address)| address);
        let (average_cost, gain) = book.figures(token, position);
        push_row!(rows, "portfolio_asset" {
            id: id,
            portfolio_id: book.id(),
            token_symbol: token,
            token_address: said.map_or(kept, |(_, address)| address),
            balance: position.amount.to_f64(),
            target_allocation: target.unwrap_or(0.0),
            current_allocation: percents.get(token.as_str()).copied().unwrap_or(0.0),
            average_cost: average_cost,
            unrealized_pnl: gain,
            created_at: book.now,
            updated_at: book.now,
        } update on (id) except (portfolio_id, created_at));
        push_row!(rows, "am_portfolio_assets" {
            portfolio_id: book.id(),
            token: token,
            net_invested: position.net_invested.units(),
            cost: position.cost.units(),
        } update on (portfolio_id, token));
    }
    rows.execute(tx).await?;
    Ok(())
}

/// Store what a portfolio is worth, before a flow.
pub(super) async fn insert_value(
    tx: &mut Tx,
    book: &PortfolioBook,
    cause: &str,
    value: Money,
    flow: Money,
) -> Result<()> {
    let holdings = JsonText::from_value(&book.positions.recorded())
        .map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    let mut rows = RowBatch::default();
    push_row!(rows, "am_portfolio_values" {
        portfolio_id: book.id(),
        cause: cause,
        value: value.units(),
        flow: flow.units(),
        unit_value: book.state.unit_value,
        costs: book.state.costs.units(),
        holdings: holdings,
        created_at: book.now,
    });
    rows.execute(tx).await?;
    Ok(())
}

pub(super) async fn insert_day(
    tx: &mut Tx,
    portfolio: i64,
    day: &str,
    state: &BookState,
    value: Money,
    at: Timestamp,
) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "am_portfolio_days" {
        portfolio_id: portfolio,
        day: day,
        unit_value: state.unit_value,
        value: value.units(),
        measured_at: at,
    } update on (portfolio_id, day));
    rows.execute(tx).await?;
    Ok(())
}

/// The last record that is not later than `at`.
pub(super) async fn last_value(conn: &mut Connection, portfolio: i64, at: Timestamp) -> Result<Option<ValueRecord>> {
    let found = sql!(
        "SELECT ",
        ValueRecord::COLUMNS,
        " FROM am_portfolio_values WHERE portfolio_id = $1 AND created_at <= $2 ORDER BY created_at DESC, id DESC LIMIT 1",
    );
    Ok(found.bind(portfolio).bind(at).fetch_optional(conn).await?)
}

pub(super) async fn first_value(conn: &mut Connection, portfolio: i64) -> Result<Option<ValueRecord>> {
    let found = sql!(
        "SELECT ",
        ValueRecord::COLUMNS,
        " FROM am_portfolio_values WHERE portfolio_id = $1 ORDER BY created_at, id LIMIT 1",
    );
    Ok(found.bind(portfolio).fetch_optional(conn).await?)
}

pub(super) async fn flows_between(
    conn: &mut Connection,
    portfolio: i64,
    begin: &ValueRecord,
    end: &ValueRecord,
    most: usize,
) -> Result<Vec<(Timestamp, Money)>> {
    let found = sql!(
        "SELECT created_at, flow FROM am_portfolio_values WHERE portfolio_id = $1 AND (created_at, id) > ($2, $3)
             AND (created_at, id) < ($4, $5) AND flow <> 0 ORDER BY created_at, id LIMIT $6",
    );
    let found = found.bind(portfolio).bind(begin.created_at).bind(begin.id).bind(end.created_at).bind(end.id);
    let rows: Vec<(Timestamp, i64)> = found.bind(most as i64).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(at, flow)| (at, Money::from_units(flow))).collect())
}

pub(super) async fn days(
    conn: &mut Connection,
    portfolio: i64,
    (from, to): (&str, &str),
    most: usize,
) -> Result<Vec<(String, f64)>> {
    let found = sql!(
        "SELECT day, unit_value FROM am_portfolio_days WHERE portfolio_id = $1 AND day >= $2 AND day <= $3
             ORDER BY day DESC LIMIT $4",
    );
    let rows: Vec<(String, f64)> = found.bind(portfolio).bind(from).bind(to).bind(most as i64).fetch_all(conn).await?;
    Ok(rows.into_iter().rev().collect())
}
