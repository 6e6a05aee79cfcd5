//! SQL of purchases, and of how many clients paid for which services together.

use am_core::ids::{MarketServiceId, PrincipalId};
use am_db::{
    Connection, FromRow as _, Result, Tx, bulk_insert::RowBatch, push_change, row, sql, statement_batch::StatementBatch,
};

use crate::recommendation::{CoPayment, PaidService};

row! {
    /// A purchase that is not counted yet.
    pub struct PurchaseRow {
        pub client: String,
        pub service_id: String,
        pub seq: i64,
    }
}

fn count(clients: i64) -> u64 {
    clients.unsigned_abs()
}

row! {
    PaidService from "p." {
        service = "p.service_id",
        clients => count,
    }
}

row! {
    CoPayment {
        paid = "c.service_id",
        other = "c.other_id",
        both = "c.clients" => count,
        other_clients = "coalesce(p.clients, 0)" => count,
    }
}

/// Add the row of a client's purchase of a service to `rows`, if it is the first one. Purchases that are written together are numbered
/// from the counter on by their places, which begin with 0 or, in PostgreSQL, with 1; so the counter is moved on by one more than
/// there are.
pub fn add_purchase(rows: &mut RowBatch, client: &PrincipalId, service: &MarketServiceId) {
    push_change!(
        rows,
        (client, service),
        "INSERT INTO am_market_purchases (client, service_id, seq, counted)
         SELECT p.client, p.service_id, c.value + p.place + 1, 0 FROM {placed $1 client service_id} AS p
         {then} am_market_counters c ON c.name = 'purchases' WHERE true ON CONFLICT (client, service_id) DO NOTHING"
    );
    push_change!(
        rows,
        (1i64),
        "UPDATE am_market_counters SET value = value + 1 + (SELECT count(*) FROM {records $1 purchase:bigint} AS p)
         WHERE name = 'purchases'"
    );
}

/// Read the first purchase that is not counted.
pub async fn next_uncounted(conn: &mut Connection) -> Result<Option<PurchaseRow>> {
    let next =
        sql!("SELECT ", PurchaseRow::COLUMNS, " FROM am_market_purchases WHERE counted = 0 ORDER BY seq LIMIT 1");
    next.fetch_optional(conn).await
}

/// Read the last services that a client paid for before a purchase and that are counted, the last first.
pub async fn counted_before(conn: &mut Connection, purchase: &PurchaseRow, limit: i64) -> Result<Vec<String>> {
    let services = sql!(
        "SELECT service_id FROM am_market_purchases WHERE client = $1 AND seq < $2 AND counted = 1 ORDER BY seq DESC LIMIT $3"
    );
    services.bind(&purchase.client).bind(purchase.seq).bind(limit).fetch_values(conn).await
}

/// Count a purchase: with each of the others, by itself, and its client if it is the first. Returns false when it was counted before.
pub async fn count_purchase(tx: &mut Tx, purchase: &PurchaseRow, others: &[String]) -> Result<bool> {
    let marked =
        sql!("UPDATE am_market_purchases SET counted = 1 WHERE client = $1 AND service_id = $2 AND counted = 0");
    let marked = marked.bind(&purchase.client).bind(&purchase.service_id).execute(tx.conn().await?).await?;
    if marked == 0 {
        return Ok(false);
    }
    let pairs: Vec<[&str; 2]> = others
        .iter()
        .flat_map(|other| [[purchase.service_id.as_str(), other], [other, purchase.service_id.as_str()]])
        .collect();
    let mut batch = StatementBatch::default();
    let together = sql!(
        in &mut batch,
        "INSERT INTO am_market_copaid (service_id, other_id, clients)
         SELECT r.service_id, r.other_id, 1 FROM {records $1 service_id:text other_id:text} AS r WHERE true
         ON CONFLICT (service_id, other_id) DO UPDATE SET clients = am_market_copaid.clients + 1",
    );
    let together = together.bind(serde_json::json!(pairs).to_string());
    batch.add(together);
    let alone = sql!(
        in &mut batch,
        "INSERT INTO am_market_popularity (service_id, clients) VALUES ($1, 1)
         ON CONFLICT (service_id) DO UPDATE SET clients = am_market_popularity.clients + 1",
    );
    let alone = alone.bind(&purchase.service_id);
    batch.add(alone);
    if others.is_empty() {
        let client = sql!(
            in &mut batch,
            "UPDATE am_market_counters SET value = value + 1 WHERE name = 'paying_clients'"
        );
        batch.add(client);
    }
    batch.execute(tx).await?;
    Ok(true)
}

/// Number of clients with a counted purchase.
pub async fn paying_clients(conn: &mut Connection) -> Result<i64> {
    sql!("SELECT value FROM am_market_counters WHERE name = 'paying_clients'").fetch_value(conn).await
}

/// Read the last services that a client paid for, the last first, each with how many clients paid for it.
pub async fn history(conn: &mut Connection, client: &PrincipalId, limit: i64) -> Result<Vec<PaidService>> {
    let history = sql!(
        "SELECT h.service_id, coalesce((SELECT p.clients FROM am_market_popularity p WHERE p.service_id = h.service_id), 0)
         FROM am_market_purchases h WHERE h.client = $1 ORDER BY h.seq DESC LIMIT $2"
    );
    history.bind(client).bind(limit).fetch_all(conn).await
}

/// Read the services that most clients of this one paid for too.
pub async fn paid_with(conn: &mut Connection, service: &str, limit: i64) -> Result<Vec<CoPayment>> {
    let others = sql!(
        "SELECT ",
        CoPayment::COLUMNS,
        " FROM am_market_copaid c LEFT JOIN am_market_popularity p ON p.service_id = c.other_id
         WHERE c.service_id = $1 ORDER BY c.clients DESC, c.other_id DESC LIMIT $2",
    );
    others.bind(service).bind(limit).fetch_all(conn).await
}

/// Read the services that most clients paid for.
pub async fn popular(conn: &mut Connection, limit: i64) -> Result<Vec<PaidService>> {
    let popular = sql!(
        "SELECT ",
        PaidService::COLUMNS,
        " FROM am_market_popularity p ORDER BY p.clients DESC, p.service_id DESC LIMIT $1",
    );
    popular.bind(limit).fetch_all(conn).await
}
