//! SQL of tables `am_webhook_deliveries` and `am_webhook_endpoints`.

use super::{
    error::Result,
    model::{DeliveryCount, DeliveryFilter, DeliveryState, EndpointHealth, WebhookDelivery, WebhookEventKind},
};
use am_core::ids::DeliveryId;
use am_db::{
    Connection, FromRow, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    insert,
    page::PageRequest,
    push_row, row,
    row::Columns,
    sql,
    statement::Query,
    update,
};

row! {
    WebhookDelivery {
        id,
        endpoint,
        kind,
        sequence = "seq",
        state,
        attempts,
        // Once it has ended there is none.
        next_attempt_at = "CASE WHEN state = 'PENDING' THEN next_attempt_at END",
        last_status,
        last_error,
        created_at,
        delivered_at,
        // A list does not show what is sent.
        payload = "NULL" => JsonText::into_raw,
    }
}

/// A new delivery.
pub(super) struct NewDelivery<'a> {
    pub id: DeliveryId,
    pub endpoint: String,
    pub kind: WebhookEventKind,
    pub source: Option<&'a str>,
    pub body: &'a str,
}

row! {
    /// One that an attempt was begun for.
    #[derive(Clone, Debug)]
    pub(super) struct ClaimedDelivery {
        pub(super) id: DeliveryId,
        pub(super) endpoint: String,
        pub(super) body: String,
        /// Its number among those of the endpoint.
        pub(super) seq: Option<i64>,
        /// The number of this attempt, from 1.
        pub(super) attempt: i64 = "attempts",
    }
}

/// Result of an attempt, as stored.
#[derive(Clone, Debug)]
pub(super) struct AttemptRecord {
    pub id: DeliveryId,
    pub lease: String,
    pub state: DeliveryState,
    /// Time of the next attempt, if there is one.
    pub next_attempt_at: Timestamp,
    pub status: Option<u16>,
    pub error: Option<String>,
}

/// Add a delivery that is due now to `rows`; one whose source is known already is skipped.
pub(super) fn add_delivery_row(rows: &mut RowBatch, new: &NewDelivery<'_>, now: Timestamp) {
    push_row!(rows, "am_webhook_deliveries" {
        id: &new.id,
        endpoint: &new.endpoint,
        kind: new.kind.word(),
        source: new.source,
        body: new.body,
        state: DeliveryState::Pending,
        next_attempt_at: now,
        created_at: now,
    } "ON CONFLICT (endpoint, source) WHERE source IS NOT NULL DO NOTHING");
}

/// Insert a delivery that is due now. Returns false when its source is known already.
pub(super) async fn insert_delivery(tx: &mut Tx, new: &NewDelivery<'_>, now: Timestamp) -> Result<bool> {
    let inserted = insert!("am_webhook_deliveries" {
        id: &new.id,
        endpoint: &new.endpoint,
        kind: new.kind.word(),
        source: new.source,
        body: new.body,
        state: DeliveryState::Pending,
        next_attempt_at: now,
        created_at: now,
    } "ON CONFLICT (endpoint, source) WHERE source IS NOT NULL DO NOTHING");
    Ok(inserted.execute(tx.conn().await?).await? > 0)
}

/// Time at which each of `endpoints` (a JSON list of names) is called next; endpoints without a pending delivery are left
/// out.
pub(super) async fn earliest_due(conn: &mut Connection, endpoints: &str) -> Result<Vec<(String, Timestamp)>> {
    let rows = sql!(
        "SELECT value, (SELECT min(next_attempt_at) FROM am_webhook_deliveries WHERE endpoint = value AND state = 'PENDING'),
             (SELECT closed_until FROM am_webhook_endpoints WHERE name = value)
         FROM {texts $1} AS name",
    );
    let rows: Vec<(String, Option<Timestamp>, Option<Timestamp>)> = rows.bind(endpoints).fetch_all(conn).await?;
    let later = |at: Timestamp, closed: Option<Timestamp>| closed.map_or(at, |closed| closed.max(at));
    Ok(rows.into_iter().filter_map(|(name, at, closed)| Some((name, later(at?, closed)))).collect())
}

row! {
    EndpointHealth { name, last_seq, failures, closed_until, gone_at, gone_address }
}

/// What is known of all endpoints.
pub(super) async fn read_health(conn: &mut Connection) -> Result<Vec<EndpointHealth>> {
    let all = sql!("SELECT ", EndpointHealth::COLUMNS, " FROM am_webhook_endpoints ORDER BY name");
    Ok(all.fetch_all(conn).await?)
}

/// What is known of an endpoint, whose row is made if there is none.
pub(super) async fn endpoint_health(tx: &mut Tx, name: &str) -> Result<EndpointHealth> {
    insert!("am_webhook_endpoints" { name: name } "ON CONFLICT (name) DO NOTHING").execute(tx.conn().await?).await?;
    let found = sql!("SELECT ", EndpointHealth::COLUMNS, " FROM am_webhook_endpoints WHERE name = $1").bind(name);
    let found: Option<EndpointHealth> = found.fetch_optional(tx.conn().await?).await?;
    Ok(found.unwrap_or_default())
}

/// Number the pending deliveries of an endpoint that have no number yet, in the order of their events.
pub(super) async fn number_deliveries(tx: &mut Tx, name: &str) -> Result<()> {
    let numbered = sql!(
        "UPDATE am_webhook_deliveries SET seq = numbered.seq FROM
             (SELECT d.id, e.last_seq + row_number() OVER (ORDER BY d.created_at, d.id) AS seq
              FROM am_webhook_deliveries d JOIN am_webhook_endpoints e ON e.name = d.endpoint
              WHERE d.endpoint = $1 AND d.state = 'PENDING' AND d.seq IS NULL) AS numbered
         WHERE am_webhook_deliveries.id = numbered.id",
    );
    let numbered = numbered.bind(name).execute(tx.conn().await?).await?;
    if numbered > 0 {
        sql!("UPDATE am_webhook_endpoints SET last_seq = last_seq + $2 WHERE name = $1")
            .bind(name)
            .bind(numbered as i64)
            .execute(tx.conn().await?)
            .await?;
    }
    Ok(())
}

/// Record that an endpoint works: all of its deliveries are sent.
pub(super) async fn record_success(tx: &mut Tx, name: &str) -> Result<()> {
    sql!(
        "UPDATE am_webhook_endpoints SET failures = 0, closed_until = NULL, gone_at = NULL, gone_address = NULL
         WHERE name = $1 AND (failures > 0 OR closed_until IS NOT NULL OR gone_at IS NOT NULL)",
    )
    .bind(name)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Record that an endpoint does not work, and is not called before `until`.
pub(super) async fn record_failure(tx: &mut Tx, name: &str, failures: i64, until: Timestamp) -> Result<()> {
    update!("am_webhook_endpoints" { failures: failures, closed_until: until } where "name = $1" (name))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Record that an endpoint answered 410 at an address.
pub(super) async fn record_gone(tx: &mut Tx, name: &str, address_hash: &str, now: Timestamp) -> Result<()> {
    update!("am_webhook_endpoints" { gone_at: now, gone_address: address_hash } where "name = $1" (name))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Call an endpoint again, because an operator wants it or its address has changed.
pub(super) async fn reopen_endpoint(tx: &mut Tx, name: &str) -> Result<()> {
    sql!("UPDATE am_webhook_endpoints SET closed_until = NULL, gone_at = NULL, gone_address = NULL WHERE name = $1")
        .bind(name)
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Which of the due deliveries are claimed first.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClaimOrder {
    /// In the order of their numbers.
    Number,
    /// Those that were tried least: what is sent to find out whether the endpoint works again is not always the same.
    LeastTried,
}

/// Due deliveries; of heads of the audit log only the first that is pending, so that they are delivered one after the other.
const DUE: &str = " WHERE d.endpoint = $1 AND d.state = 'PENDING' AND d.next_attempt_at <= $4
         AND (d.kind <> 'audit.head' OR d.seq = (SELECT min(h.seq) FROM am_webhook_deliveries h
             WHERE h.endpoint = $1 AND h.state = 'PENDING' AND h.kind = 'audit.head'))";

/// Claim at most `most` due deliveries to `endpoint` for one attempt, under the lease `lease` that ends at `until`.
pub(super) async fn claim_deliveries(
    tx: &mut Tx,
    endpoint: &str,
    (order, most): (ClaimOrder, usize),
    lease: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<ClaimedDelivery>> {
    let claimed = match order {
        ClaimOrder::Number => sql!(
            "UPDATE am_webhook_deliveries SET lease = $3, next_attempt_at = $5, attempts = attempts + 1
             WHERE id IN (SELECT d.id FROM am_webhook_deliveries d {by am_webhook_deliveries_order}",
            DUE,
            " ORDER BY d.seq LIMIT $2) RETURNING ",
            ClaimedDelivery::COLUMNS,
        ),
        ClaimOrder::LeastTried => sql!(
            "UPDATE am_webhook_deliveries SET lease = $3, next_attempt_at = $5, attempts = attempts + 1
             WHERE id IN (SELECT d.id FROM am_webhook_deliveries d {by am_webhook_deliveries_tries}",
            DUE,
            " ORDER BY d.attempts, d.seq LIMIT $2) RETURNING ",
            ClaimedDelivery::COLUMNS,
        ),
    };
    let claimed = claimed.bind(endpoint).bind(most as i64).bind(lease).bind(now).bind(until);
    Ok(claimed.fetch_all(tx.conn().await?).await?)
}

/// Store the result of an attempt. Returns false when its lease had expired and another worker claimed the delivery.
pub(super) async fn record_attempt(tx: &mut Tx, settled: &AttemptRecord, now: Timestamp) -> Result<bool> {
    let done = sql!(
        "UPDATE am_webhook_deliveries SET lease = NULL, state = $3, next_attempt_at = $4, last_status = $5, last_error = $6, delivered_at = $7
         WHERE id = $1 AND lease = $2 AND state = 'PENDING'",
    )
    .bind(&settled.id)
    .bind(&settled.lease)
    .bind(settled.state)
    .bind(settled.next_attempt_at)
    .bind(settled.status.map(i64::from))
    .bind(&settled.error)
    .bind((settled.state == DeliveryState::Delivered).then_some(now))
    .execute(tx.conn().await?)
    .await?;
    Ok(done > 0)
}

/// Give up the deliveries of an endpoint that are due at `now`. Returns their number.
pub(super) async fn give_up_due(tx: &mut Tx, endpoint: &str, now: Timestamp, error: &str) -> Result<u64> {
    let done = sql!(
        "UPDATE am_webhook_deliveries SET lease = NULL, state = 'DEAD', last_error = $3
         WHERE endpoint = $1 AND state = 'PENDING' AND next_attempt_at <= $2",
    )
    .bind(endpoint)
    .bind(now)
    .bind(error)
    .execute(tx.conn().await?)
    .await?;
    Ok(done)
}

/// Give up all pending deliveries of an endpoint.
pub(super) async fn give_up_all(tx: &mut Tx, endpoint: &str, error: &str) -> Result<()> {
    sql!(
        "UPDATE am_webhook_deliveries SET lease = NULL, state = 'DEAD', last_error = $2 WHERE endpoint = $1 AND state = 'PENDING'"
    )
    .bind(endpoint)
    .bind(error)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Make a delivery due now, with all its attempts ahead. Returns false while an attempt is running.
pub(super) async fn requeue(tx: &mut Tx, id: &DeliveryId, now: Timestamp) -> Result<bool> {
    let done = sql!(
        "UPDATE am_webhook_deliveries SET state = 'PENDING', lease = NULL, attempts = 0, next_attempt_at = $2, delivered_at = NULL
         WHERE id = $1 AND (lease IS NULL OR next_attempt_at <= $2)",
    )
    .bind(id)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(done > 0)
}

/// Delete at most `most` ended deliveries created before `limit`. Returns their number.
pub(super) async fn delete_old(tx: &mut Tx, limit: Timestamp, most: i64) -> Result<u64> {
    let done = sql!(
        "DELETE FROM am_webhook_deliveries WHERE id IN
             (SELECT id FROM am_webhook_deliveries WHERE created_at < $1 AND state <> 'PENDING' LIMIT $2)",
    )
    .bind(limit)
    .bind(most)
    .execute(tx.conn().await?)
    .await?;
    Ok(done)
}

/// Whether there is a delivery for [`delete_old`] to delete.
pub(super) async fn has_old(conn: &mut Connection, limit: Timestamp) -> Result<bool> {
    Ok(sql!("SELECT 1 FROM am_webhook_deliveries WHERE created_at < $1 AND state <> 'PENDING' LIMIT 1")
        .bind(limit)
        .exists(conn)
        .await?)
}

row! {
    DeliveryCount { endpoint, state, deliveries = "CAST(sum(deliveries) AS BIGINT)" }
}

/// Number of deliveries by endpoint and state.
pub(super) async fn count_by_state(conn: &mut Connection) -> Result<Vec<DeliveryCount>> {
    let counts = sql!(
        "SELECT ",
        DeliveryCount::COLUMNS,
        " FROM am_webhook_counts GROUP BY endpoint, state HAVING sum(deliveries) > 0"
    );
    Ok(counts.fetch_all(conn).await?)
}

/// Number of pending deliveries.
pub(super) async fn count_pending(conn: &mut Connection) -> Result<i64> {
    let owed =
        sql!("SELECT CAST(coalesce(sum(deliveries), 0) AS BIGINT) FROM am_webhook_counts WHERE state = 'PENDING'");
    Ok(owed.fetch_value(conn).await?)
}

/// A delivery with its payload.
pub(super) async fn get(conn: &mut Connection, id: &DeliveryId) -> Result<Option<WebhookDelivery>> {
    let found = sql!("SELECT ", WebhookDelivery::COLUMNS, ", body FROM am_webhook_deliveries WHERE id = $1").bind(id);
    Ok(found.fetch_optional(conn).await?.map(|WithBody(delivery)| delivery))
}

/// The body of a delivery as it is sent: with its number, once it has one.
pub(super) fn numbered_body(body: String, seq: Option<i64>) -> String {
    match (seq, body.strip_prefix('{')) {
        (Some(seq), Some(rest)) => format!("{{\"sequence\":{seq},{rest}"),
        _ => body,
    }
}

/// A delivery with what is sent, which is the last column.
struct WithBody(WebhookDelivery);

impl FromRow for WithBody {
    fn from_row(columns: &mut Columns<'_>) -> am_db::Result<Self> {
        let delivery = WebhookDelivery::from_row(columns)?;
        let body: String = columns.next_value()?;
        let payload = JsonText::from_stored(&numbered_body(body, delivery.sequence));
        let payload = payload.map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?.into_raw();
        Ok(Self(WebhookDelivery { payload, ..delivery }))
    }
}

const MATCHING: &str = " WHERE true [AND state = $1] [AND endpoint IN ($2)] [AND kind = $3] ";

fn bind_filter(query: Query, filter: &DeliveryFilter) -> Query {
    query
        .bind_some(filter.state)
        .bind_all_some(filter.endpoints.as_ref().map(|all| all.iter()))
        .bind_some(filter.kind.as_ref())
}

/// A page of deliveries, newest first, and the total number of matches.
pub(super) async fn list(
    conn: &mut Connection,
    filter: &DeliveryFilter,
    page: &PageRequest,
) -> Result<(Vec<WebhookDelivery>, i64)> {
    let deliveries = bind_filter(
        sql!("SELECT ", WebhookDelivery::COLUMNS, " FROM am_webhook_deliveries", MATCHING, "{page $4}"),
        filter,
    );
    let deliveries = deliveries.bind_page(page).fetch_all(&mut *conn).await?;
    let total = if page.created.is_unbounded() {
        bind_filter(
            sql!("SELECT CAST(coalesce(sum(deliveries), 0) AS BIGINT) FROM am_webhook_counts", MATCHING),
            filter,
        )
    } else {
        let count = sql!("SELECT count(*) FROM am_webhook_deliveries", MATCHING, "{span $4}");
        bind_filter(count, filter).bind_span(page.created)
    };
    Ok((deliveries, total.fetch_value(conn).await?))
}
