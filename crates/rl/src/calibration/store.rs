//! Queries for prices and demand in the coordinator's tables.

use serde_json::Value;

use crate::{environments::PriceRecord, error::Result};
use am_core::money::Money;
use am_db::{Connection, DatabaseError, FromRow, codec::JsonText, row::Columns, sql, statement::Query};

/// Maximum number of rows read from a table, newest first.
const MAX_RECORDS: i64 = 10_000;
/// Maximum number of successive hours without jobs that count as without demand: after a week there was no offer.
const MAX_EMPTY_HOURS: i64 = 168;

/// Price, demand and the document of others' prices, of a row that may hold other types or none.
impl FromRow for PriceRecord {
    fn from_row(columns: &mut Columns<'_>) -> am_db::Result<Self> {
        let mut number = || columns.next_value::<f64>().unwrap_or(f64::NAN);
        let (price, demand) = (number(), number());
        let others = columns.next_value::<JsonText>().ok().and_then(|doc| mean_of_numbers(&doc.parse().ok()??));
        Ok(Self { price, demand, rival_price: others })
    }
}

/// Read `pricing_history`: price, demand level, mean price of the competitors. Returns no rows when the table does not
/// exist: the coordinator creates it late.
pub async fn read_pricing_history(conn: &mut Connection) -> Result<Vec<PriceRecord>> {
    if !am_db::has_table(conn, "pricing_history").await? {
        return Ok(Vec::new());
    }
    let records = sql!(
        "SELECT price, demand_level, competitor_prices FROM pricing_history ORDER BY created_at DESC, id DESC LIMIT $1",
    );
    read_if_there(records, conn).await
}

/// Read records of a table that the coordinator may change or drop at any time: there are none then.
async fn read_if_there(records: Query, conn: &mut Connection) -> Result<Vec<PriceRecord>> {
    match records.bind(MAX_RECORDS).fetch_all(conn).await {
        Err(DatabaseError::Other(error)) => {
            tracing::warn!(%error, "environments are not calibrated by a table that the coordinator has no more");
            Ok(Vec::new())
        }
        read => Ok(read?),
    }
}

fn amount(value: &Value) -> Option<f64> {
    Money::from_document(value).map(Money::to_f64)
}

/// Compute the mean of the numbers in a JSON list, or of an object's values.
fn mean_of_numbers(document: &Value) -> Option<f64> {
    let numbers: Vec<f64> = match document {
        Value::Array(items) => items.iter().filter_map(amount).collect(),
        Value::Object(members) => members.values().filter_map(amount).collect(),
        _ => return None,
    };
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// Read `agent_marketplace`: price and number of executions of each listing.
pub async fn read_listings(conn: &mut Connection) -> Result<Vec<PriceRecord>> {
    let records = sql!(
        "SELECT CAST(execution_price AS DOUBLE PRECISION), CAST(total_executions AS DOUBLE PRECISION), NULL FROM agent_marketplace
         ORDER BY created_at DESC, id DESC LIMIT $1",
    );
    read_if_there(records, conn).await
}

/// Read `job` grouped by hour: mean price on the receipts of completed jobs, and number of jobs. Hours without jobs count,
/// at the price of the hour before them.
pub async fn read_hourly_jobs(conn: &mut Connection) -> Result<Vec<PriceRecord>> {
    let rows = sql!(
        "SELECT substr(CAST(requested_at AS VARCHAR), 1, 13), receipt FROM job WHERE state = 'COMPLETED' AND receipt IS NOT NULL
         ORDER BY requested_at DESC LIMIT $1",
    );
    let rows: Vec<(String, JsonText)> = rows.bind(MAX_RECORDS).fetch_all(conn).await?;
    let mut hours: Vec<(String, f64, f64)> = Vec::new();
    for (hour, receipt) in rows {
        let price = receipt.parse::<Value>().ok().flatten().and_then(|receipt| amount(receipt.get("price")?));
        let Some(price) = price else { continue };
        match hours.last_mut().filter(|last| last.0 == hour) {
            Some(last) => {
                last.1 += price;
                last.2 += 1.0;
            }
            None => hours.push((hour, price, 1.0)),
        }
    }
    let hours: Vec<_> = hours.into_iter().map(|(hour, sum, count)| (hour_number(&hour), sum / count, count)).collect();
    let mut records = Vec::with_capacity(hours.len());
    for (at, (hour, price, demand)) in hours.iter().enumerate() {
        // Newest first: the hours between this one and the one before it in the list had no job, at this price.
        let newer = at.checked_sub(1).and_then(|before| hours[before].0);
        let empty = newer.zip(*hour).map_or(0, |(newer, hour)| newer - hour - 1);
        if (1..=MAX_EMPTY_HOURS).contains(&empty) && records.len() < MAX_RECORDS as usize {
            records.extend((0..empty).map(|_| PriceRecord { price: *price, demand: 0.0, rival_price: None }));
        }
        records.push(PriceRecord { price: *price, demand: *demand, rival_price: None });
    }
    Ok(records)
}

/// Number the hour of a text such as `2026-05-12 14` or `2026-05-12T14`, consecutively; `None` if it is not of that form.
fn hour_number(text: &str) -> Option<i64> {
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day, hour) = (part(0, 4)?, part(5, 7)?, part(8, 10)?, part(11, 13)?);
    // Days of the proleptic Gregorian calendar, of years that begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day;
    Some(24 * days + hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_consecutive() {
        let between = |one: &str, other: &str| hour_number(other).unwrap() - hour_number(one).unwrap();
        assert_eq!(between("2026-05-12 23", "2026-05-13T00"), 1);
        assert_eq!(between("2024-02-28 12", "2024-03-01 12"), 48);
        assert_eq!(between("2025-12-31 23", "2026-01-01 01"), 2);
        assert_eq!(between("2025-03-01 00", "2026-03-01 00"), 365 * 24);
        assert_eq!(hour_number("yesterday"), None);
    }
}
