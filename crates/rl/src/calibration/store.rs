//! Queries for prices and demand in the coordinator's tables.

use serde_json::Value;

use crate::{environments::PriceRecord, error::Result};
use am_db::{Connection, FromRow, codec::JsonText, row::Columns, sql};

/// Maximum number of rows read from a table, newest first.
const MAX_RECORDS: i64 = 10_000;

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
    Ok(records.bind(MAX_RECORDS).fetch_all(conn).await?)
}

/// Compute the mean of the numbers in a JSON list, or of an object's values.
fn mean_of_numbers(document: &Value) -> Option<f64> {
    let numbers: Vec<f64> = match document {
        Value::Array(items) => items.iter().filter_map(Value::as_f64).collect(),
        Value::Object(members) => members.values().filter_map(Value::as_f64).collect(),
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
    Ok(records.bind(MAX_RECORDS).fetch_all(conn).await?)
}

/// Read `job` grouped by hour: mean price on the receipts of completed jobs, and number of jobs.
pub async fn read_hourly_jobs(conn: &mut Connection) -> Result<Vec<PriceRecord>> {
    let rows = sql!(
        "SELECT substr(CAST(requested_at AS VARCHAR), 1, 13), receipt FROM job WHERE state = 'COMPLETED' AND receipt IS NOT NULL
         ORDER BY requested_at DESC LIMIT $1",
    );
    let rows: Vec<(String, JsonText)> = rows.bind(MAX_RECORDS).fetch_all(conn).await?;
    let mut hours: Vec<(String, f64, f64)> = Vec::new();
    for (hour, receipt) in rows {
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
