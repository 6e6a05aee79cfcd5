//! What the coordinator's tables say of prices and of what was asked for at them.

use serde_json::Value;
use sqlx::Row as _;

use crate::{environments::PriceRecord, error::Result};
use am_db::{Connection, Row, codec::Doc};

/// The most rows that are read of a table, the newest first.
const MOST: i64 = 10_000;

/// A number of a row that may hold another type or none.
fn number(row: &Row, at: usize) -> f64 {
    row.try_get::<f64, _>(at).unwrap_or(f64::NAN)
}

/// `pricing_history`: price, level of demand, the mean of what competitors asked. The coordinator makes that table late: none
/// where it is not there.
pub async fn pricing_history(conn: &mut Connection) -> Result<Vec<PriceRecord>> {
    if !am_db::has_table(conn, "pricing_history").await? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT price, demand_level, competitor_prices FROM pricing_history ORDER BY created_at DESC, id DESC LIMIT ?1",
    )
    .bind(MOST)
    .fetch_all(conn)
    .await?;
    let record = |row: &Row| PriceRecord {
        price: number(row, 0),
        demand: number(row, 1),
        rival_price: row.try_get::<Option<Doc>, _>(2).ok().flatten().and_then(|doc| mean(&doc.parse().ok()??)),
    };
    Ok(rows.iter().map(record).collect())
}

/// The mean of the numbers in a JSON list, or of an object's members.
fn mean(document: &Value) -> Option<f64> {
    let numbers: Vec<f64> = match document {
        Value::Array(items) => items.iter().filter_map(Value::as_f64).collect(),
        Value::Object(members) => members.values().filter_map(Value::as_f64).collect(),
        _ => return None,
    };
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// `agent_marketplace`: the price of an execution, and how many there were.
pub async fn listings(conn: &mut Connection) -> Result<Vec<PriceRecord>> {
    let rows = sqlx::query(
        "SELECT CAST(execution_price AS REAL), CAST(total_executions AS REAL) FROM agent_marketplace
         ORDER BY created_at DESC, id DESC LIMIT ?1",
    )
    .bind(MOST)
    .fetch_all(conn)
    .await?;
    let record = |row: &Row| PriceRecord { price: number(row, 0), demand: number(row, 1), rival_price: None };
    Ok(rows.iter().map(record).collect())
}

/// `job`: by hour, the mean price on the receipts of completed jobs, and how many there were.
pub async fn jobs(conn: &mut Connection) -> Result<Vec<PriceRecord>> {
    let rows = sqlx::query(
        "SELECT substr(requested_at, 1, 13), receipt FROM job WHERE state = 'COMPLETED' AND receipt IS NOT NULL
         ORDER BY requested_at DESC LIMIT ?1",
    )
    .bind(MOST)
    .fetch_all(conn)
    .await?;
    let mut hours: Vec<(String, f64, f64)> = Vec::new();
    for row in &rows {
        let (hour, receipt): (String, Doc) = (row.try_get(0)?, row.try_get(1)?);
        let price = receipt.parse::<Value>().ok().flatten().and_then(|receipt| receipt.get("price")?.as_f64());
        let Some(price) = price else { continue };
        match hours.last_mut().filter(|last| last.0 == hour) {
            Some(last) => {
                last.1 += price;
                last.2 += 1.0;
            }
            None => hours.push((hour, price, 1.0)),
        }
    }
    let record =
        |(_, sum, count): (String, f64, f64)| PriceRecord { price: sum / count, demand: count, rival_price: None };
    Ok(hours.into_iter().map(record).collect())
}
