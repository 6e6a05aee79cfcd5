//! Table `am_webhook_deliveries`.

use sqlx::{QueryBuilder, Row as _};

use super::{
    error::Result,
    model::{Delivery, Filter, State},
};
use am_db::{
    Connection, Db, Row, Tx,
    codec::{Doc, Timestamp},
    page::Page,
    rows::{Insert, Rows},
};

const COLUMNS: &str =
    "id, endpoint, kind, state, attempts, next_attempt_at, last_status, last_error, created_at, delivered_at";

static OWED: Insert =
    Insert::into("am_webhook_deliveries", "id, endpoint, kind, source, body, state, next_attempt_at, created_at")
        .on_conflict("ON CONFLICT (endpoint, source) WHERE source IS NOT NULL DO NOTHING");

/// A delivery that is to be.
pub(super) struct New<'a> {
    pub id: String,
    pub endpoint: &'a str,
    pub kind: &'a str,
    pub source: Option<&'a str>,
    pub body: &'a str,
}

/// One that an attempt was begun for.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub id: String,
    pub endpoint: String,
    pub body: String,
    /// The number of this attempt, from 1.
    pub attempt: i64,
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub id: String,
    pub lease: String,
    pub state: State,
    /// When it is tried again, if it is.
    pub next_attempt_at: Timestamp,
    pub status: Option<u16>,
    pub error: Option<String>,
}

/// Add a delivery, due now, to `rows`; one whose source is known already is left out.
pub(super) fn insert_to(rows: &mut Rows, new: &New<'_>, now: Timestamp) {
    rows.push(&OWED, |row| {
        row.put(new.id.as_str()).put(new.endpoint).put(new.kind).put(new.source).put(new.body);
        row.put(State::Pending.stored()).put(now).put(now);
    });
}

/// Write a delivery, due now. False: its source is known already.
pub(super) async fn insert(tx: &mut Tx, new: &New<'_>, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO am_webhook_deliveries (id, endpoint, kind, source, body, state, next_attempt_at, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
         ON CONFLICT (endpoint, source) WHERE source IS NOT NULL DO NOTHING",
    )
    .bind(&new.id)
    .bind(new.endpoint)
    .bind(new.kind)
    .bind(new.source)
    .bind(new.body)
    .bind(State::Pending)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// When the first delivery to each of `endpoints` (a JSON list of names) is due; none that has nothing pending.
pub(super) async fn due(conn: &mut Connection, endpoints: &str) -> Result<Vec<(String, Timestamp)>> {
    let rows: Vec<(String, Option<Timestamp>)> = sqlx::query_as(
        "SELECT value, (SELECT min(next_attempt_at) FROM am_webhook_deliveries WHERE endpoint = value AND state = 'PENDING')
         FROM json_each(?1)",
    )
    .bind(endpoints)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(|(name, at)| Some((name, at?))).collect())
}

/// Begin an attempt of at most `most` deliveries to `endpoint` that are due. They are `lease`'s until `until`.
pub(super) async fn claim(
    tx: &mut Tx,
    endpoint: &str,
    most: usize,
    lease: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<Claimed>> {
    let rows = sqlx::query(
        "UPDATE am_webhook_deliveries SET lease = ?3, next_attempt_at = ?5, attempts = attempts + 1
         WHERE id IN (SELECT id FROM am_webhook_deliveries WHERE endpoint = ?1 AND state = 'PENDING' AND next_attempt_at <= ?4
             ORDER BY next_attempt_at LIMIT ?2)
         RETURNING id, body, attempts",
    )
    .bind(endpoint)
    .bind(most as i64)
    .bind(lease)
    .bind(now)
    .bind(until)
    .fetch_all(tx.conn().await?)
    .await?;
    let claimed = |row: &Row| -> Result<Claimed> {
        let (id, body, attempt) = (row.try_get("id")?, row.try_get("body")?, row.try_get("attempts")?);
        Ok(Claimed { id, endpoint: endpoint.to_owned(), body, attempt })
    };
    rows.iter().map(claimed).collect()
}

/// Say what came of an attempt. False: it had taken so long that somebody else took it up.
pub(super) async fn settle(tx: &mut Tx, settled: &Settled, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE am_webhook_deliveries SET lease = NULL, state = ?3, next_attempt_at = ?4, last_status = ?5, last_error = ?6, delivered_at = ?7
         WHERE id = ?1 AND lease = ?2 AND state = 'PENDING'",
    )
    .bind(&settled.id)
    .bind(&settled.lease)
    .bind(settled.state)
    .bind(settled.next_attempt_at)
    .bind(settled.status.map(i64::from))
    .bind(&settled.error)
    .bind((settled.state == State::Delivered).then_some(now))
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Give up what is due to an endpoint that wants no more. Answers how many.
pub(super) async fn bury(tx: &mut Tx, endpoint: &str, now: Timestamp, error: &str) -> Result<u64> {
    let done = sqlx::query(
        "UPDATE am_webhook_deliveries SET lease = NULL, state = 'DEAD', last_error = ?3
         WHERE endpoint = ?1 AND state = 'PENDING' AND next_attempt_at <= ?2",
    )
    .bind(endpoint)
    .bind(now)
    .bind(error)
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected())
}

/// Make a delivery due now, with all its attempts before it. False: an attempt is under way.
pub(super) async fn again(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE am_webhook_deliveries SET state = 'PENDING', lease = NULL, attempts = 0, next_attempt_at = ?2, delivered_at = NULL
         WHERE id = ?1 AND (lease IS NULL OR next_attempt_at <= ?2)",
    )
    .bind(id)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Forget at most `most` deliveries that have ended and began before `limit`. Answers how many.
pub(super) async fn forget(tx: &mut Tx, limit: Timestamp, most: i64) -> Result<u64> {
    let done = sqlx::query(
        "DELETE FROM am_webhook_deliveries WHERE id IN
             (SELECT id FROM am_webhook_deliveries WHERE created_at < ?1 AND state <> 'PENDING' LIMIT ?2)",
    )
    .bind(limit)
    .bind(most)
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected())
}

/// Is there one for [`forget`]?
pub(super) async fn has_old(conn: &mut Connection, limit: Timestamp) -> Result<bool> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM am_webhook_deliveries WHERE created_at < ?1 AND state <> 'PENDING' LIMIT 1")
            .bind(limit)
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// How many deliveries of each endpoint are in each state.
pub(super) async fn counts(conn: &mut Connection) -> Result<Vec<(String, State, i64)>> {
    let counts = sqlx::query_as("SELECT endpoint, state, count(*) FROM am_webhook_deliveries GROUP BY state, endpoint");
    Ok(counts.fetch_all(conn).await?)
}

/// How many are owed.
pub(super) async fn owed(conn: &mut Connection) -> Result<i64> {
    let owed = sqlx::query_scalar("SELECT count(*) FROM am_webhook_deliveries WHERE state = 'PENDING'");
    Ok(owed.fetch_one(conn).await?)
}

fn delivery(row: &Row) -> Result<Delivery> {
    let state: State = row.try_get("state")?;
    let next: Timestamp = row.try_get("next_attempt_at")?;
    Ok(Delivery {
        id: row.try_get("id")?,
        endpoint: row.try_get("endpoint")?,
        kind: row.try_get("kind")?,
        state,
        attempts: row.try_get("attempts")?,
        next_attempt_at: (state == State::Pending).then_some(next),
        last_status: row.try_get("last_status")?,
        last_error: row.try_get("last_error")?,
        created_at: row.try_get("created_at")?,
        delivered_at: row.try_get("delivered_at")?,
        payload: None,
    })
}

/// One delivery, with what is sent.
pub(super) async fn get(conn: &mut Connection, id: &str) -> Result<Option<Delivery>> {
    let mut query = QueryBuilder::<Db>::new("SELECT body, ");
    query.push(COLUMNS).push(" FROM am_webhook_deliveries WHERE id = ").push_bind(id);
    let Some(row) = query.build().fetch_optional(conn).await? else { return Ok(None) };
    let body: Doc = row.try_get("body")?;
    Ok(Some(Delivery { payload: body.into_raw(), ..delivery(&row)? }))
}

/// A page of deliveries, newest first, and how many there are in all.
pub(super) async fn list(conn: &mut Connection, filter: &Filter, page: &Page) -> Result<(Vec<Delivery>, i64)> {
    let filtered = |columns: &str| {
        let mut query = QueryBuilder::<Db>::new("SELECT ");
        query.push(columns).push(" FROM am_webhook_deliveries WHERE true");
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(state);
        }
        if let Some(endpoint) = &filter.endpoint {
            query.push(" AND endpoint = ").push_bind(endpoint.clone());
        }
        if let Some(kind) = &filter.kind {
            query.push(" AND kind = ").push_bind(kind.clone());
        }
        query
    };
    let mut query = filtered(COLUMNS);
    page.push(&mut query, "");
    let rows = query.build().fetch_all(&mut *conn).await?;
    let total = filtered("count(*)").build_query_scalar().fetch_one(conn).await?;
    Ok((rows.iter().map(delivery).collect::<Result<_>>()?, total))
}
