//! SQL of tables `am_prices` and `am_price_days`.

use std::collections::BTreeMap;

use super::{PriceDay, PricePoint, PriceRecord, day_of};
use crate::error::Result;
use am_core::money::Money;
use am_db::{
    Connection, DatabaseError, FromRow as _, Tx, bulk_insert::RowBatch, codec::Timestamp, page::PageRequest, push_row,
    row, sql,
};

row! {
    PriceRecord {
        token,
        at = "priced_at",
        price => Money::from_units,
        source,
        recorded_at = "created_at",
    }
}

/// The rows as JSON: token, time, price.
fn as_json(rows: &[PriceRecord]) -> Result<String> {
    let cells: Vec<(&str, String, i64)> =
        rows.iter().map(|row| (row.token.as_str(), row.at.stored(), row.price.units())).collect();
    Ok(serde_json::to_string(&cells).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?)
}

/// Token and time of the first of `rows` that is recorded with another price.
pub(super) async fn find_other_price(
    conn: &mut Connection,
    rows: &[PriceRecord],
) -> Result<Option<(String, Timestamp)>> {
    let found = sql!(
        "SELECT p.token, p.priced_at FROM {records $1 token:text priced_at:timestamp price:bigint} AS r
         {then} am_prices p ON p.token = r.token AND p.priced_at = r.priced_at WHERE p.price <> r.price LIMIT 1",
    );
    Ok(found.bind(as_json(rows)?).fetch_optional(conn).await?)
}

/// How many of `rows` are recorded already.
pub(super) async fn count_known(conn: &mut Connection, rows: &[PriceRecord]) -> Result<i64> {
    let found = sql!(
        "SELECT count(*) FROM {records $1 token:text priced_at:timestamp price:bigint} AS r
         {then} am_prices p ON p.token = r.token AND p.priced_at = r.priced_at",
    );
    Ok(found.bind(as_json(rows)?).fetch_value(conn).await?)
}

/// Store prices; those that are recorded stay as they are.
pub(super) async fn insert(tx: &mut Tx, rows: &[PriceRecord]) -> Result<()> {
    let mut batch = RowBatch::default();
    let mut days: BTreeMap<(&str, String), &PriceRecord> = BTreeMap::new();
    for row in rows {
        push_row!(batch, "am_prices" {
            token: &row.token,
            priced_at: row.at,
            price: row.price.units(),
            source: &row.source,
            created_at: row.recorded_at,
        } "ON CONFLICT (token, priced_at) DO NOTHING");
        let last = days.entry((&row.token, day_of(row.at))).or_insert(row);
        if row.at > last.at {
            *last = row;
        }
    }
    for ((token, day), row) in days {
        push_row!(batch, "am_price_days" {
            token: token,
            day: &day,
            price: row.price.units(),
            priced_at: row.at,
        } update on (token, day) " WHERE excluded.priced_at >= am_price_days.priced_at");
    }
    batch.execute(tx).await?;
    Ok(())
}

/// The last prices of `tokens` at `at`.
pub(super) async fn latest(
    conn: &mut Connection,
    tokens: &[String],
    at: Timestamp,
) -> Result<BTreeMap<String, PricePoint>> {
    let tokens = serde_json::to_string(tokens).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    let found = sql!(
        "SELECT p.token, p.price, p.priced_at FROM {texts $1} AS t {then} am_prices p ON p.token = t.value AND p.priced_at =
             (SELECT max(q.priced_at) FROM am_prices q WHERE q.token = t.value AND q.priced_at <= $2)",
    );
    let rows: Vec<(String, i64, Timestamp)> = found.bind(tokens).bind(at).fetch_all(conn).await?;
    let point = |(token, price, at)| (token, PricePoint { price: Money::from_units(price), at });
    Ok(rows.into_iter().map(point).collect())
}

/// A token's last price.
pub(super) async fn latest_record(conn: &mut Connection, token: &str) -> Result<Option<PriceRecord>> {
    let found =
        sql!("SELECT ", PriceRecord::COLUMNS, " FROM am_prices WHERE token = $1 ORDER BY priced_at DESC LIMIT 1");
    Ok(found.bind(token).fetch_optional(conn).await?)
}

/// A page of a token's prices in the order of their times, and how many the filter leaves.
pub(super) async fn list(conn: &mut Connection, token: &str, page: &PageRequest) -> Result<(Vec<PriceRecord>, i64)> {
    let [before, after] = page.positions().map(|position| position.map(|(at, _)| at));
    let rows = sql!(
        "SELECT ",
        PriceRecord::COLUMNS,
        " FROM am_prices WHERE token = $1 [AND priced_at < $2] [AND priced_at > $3]
             [AND priced_at > $4] [AND priced_at < $5] ORDER BY priced_at [?6 DESC] LIMIT $7 OFFSET $8",
    );
    let rows =
        rows.bind(token).bind_some(before).bind_some(after).bind_span(page.created).bind_flag(!page.oldest_first);
    let rows = rows.bind(i64::from(page.limit)).bind(i64::from(page.offset)).fetch_all(conn).await?;
    let total = sql!("SELECT count(*) FROM am_prices WHERE token = $1 [AND priced_at > $2] [AND priced_at < $3]",);
    Ok((rows, total.bind(token).bind_span(page.created).fetch_value(conn).await?))
}

/// A token's last prices of days, the oldest first.
pub(super) async fn days(
    conn: &mut Connection,
    token: &str,
    (from, to): (&str, &str),
    most: usize,
) -> Result<Vec<PriceDay>> {
    let found = sql!(
        "SELECT day, price FROM am_price_days WHERE token = $1 AND day >= $2 AND day <= $3 ORDER BY day DESC LIMIT $4",
    );
    let rows: Vec<(String, i64)> = found.bind(token).bind(from).bind(to).bind(most as i64).fetch_all(conn).await?;
    let day = |(day, price)| PriceDay { day, price: Money::from_units(price) };
    Ok(rows.into_iter().rev().map(day).collect())
}
