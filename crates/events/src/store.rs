//! The streams' table: one row a commit, so that a burst of events costs one insert.

use sqlx::Row as _;

use super::Event;
use am_db::{
    Connection, Error, Result, Tx,
    rows::{Insert, Rows},
};

static BATCHES: Insert = Insert::into("am_events", "stream, last_seq, first_seq, batch");

/// Append `events`, which carry on the stream's numbers, in the transaction of what they tell.
///
/// # Errors
/// [`Error::Duplicate`] when a number is taken: somebody else writes this stream.
pub async fn append(tx: &mut Tx, stream: &str, events: &[Event]) -> Result<()> {
    let mut rows = Rows::default();
    append_to(&mut rows, stream, events)?;
    if events.is_empty() { Ok(()) } else { rows.execute(tx).await }
}

/// The same among `rows`.
///
/// # Errors
/// When an event can't be written as JSON.
pub fn append_to(rows: &mut Rows, stream: &str, events: &[Event]) -> Result<()> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
    let text = serde_json::to_string(events).map_err(|error| Error::Unreadable(error.to_string()))?;
    rows.push(&BATCHES, |row| {
        row.put(stream).put(last.seq).put(first.seq).put(&text);
    });
    Ok(())
}

/// At most `limit` events of `stream` after number `after`, in order.
///
/// # Errors
/// As the database.
pub async fn read(conn: &mut Connection, stream: &str, after: i64, limit: usize) -> Result<Vec<Event>> {
    // Each row holds at least one event, so `limit` rows are enough.
    let rows =
        sqlx::query("SELECT batch FROM am_events WHERE stream = ?1 AND last_seq > ?2 ORDER BY last_seq LIMIT ?3")
            .bind(stream)
            .bind(after)
            .bind(limit as i64)
            .fetch_all(conn)
            .await?;
    let mut events = Vec::new();
    for row in rows {
        let batch: Vec<Event> = serde_json::from_str(row.try_get(0)?)
            .map_err(|error| Error::Unreadable(format!("am_events of {stream}: {error}")))?;
        events.extend(batch.into_iter().filter(|event| event.seq > after));
        if events.len() >= limit {
            events.truncate(limit);
            break;
        }
    }
    Ok(events)
}
