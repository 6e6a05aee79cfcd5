//! Table of the event streams: one row per commit, so that a burst of events costs one insert.

use super::StreamEvent;
use am_db::{Connection, DatabaseError, Result, Tx, bulk_insert::RowBatch, codec::Timestamp, push_row, sql};

/// Append `events`, which continue the stream's numbers, in the transaction of the change that they describe.
///
/// # Errors
/// Returns [`DatabaseError::Duplicate`] when a number is taken, that is, another process writes this stream.
pub async fn append_events(tx: &mut Tx, stream: &str, events: &[StreamEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut rows = RowBatch::default();
    let mut events = events.to_vec();
    order_times(tx.conn().await?, stream, &mut events).await?;
    add_event_rows(&mut rows, stream, &events)?;
    rows.execute(tx).await
}

/// Set the times of `events`, which continue the stream's numbers, so that none is before that of an earlier event:
/// they were taken before the write lock, and by several clocks.
///
/// # Errors
/// Returns a database error when the query fails.
pub async fn order_times(conn: &mut Connection, stream: &str, events: &mut [StreamEvent]) -> Result<()> {
    let Some(first) = events.first() else { return Ok(()) };
    let mut last = match first.seq {
        1 => None,
        _ => last_time(conn, stream).await?,
    };
    for event in events {
        event.at = last.map_or(event.at, |last| last.max(event.at));
        last = Some(event.at);
    }
    Ok(())
}

/// Time of the last event of `stream`; `None` when there is none, or its row is not readable.
async fn last_time(conn: &mut Connection, stream: &str) -> Result<Option<Timestamp>> {
    let row = sql!("SELECT batch FROM am_events WHERE stream = $1 ORDER BY last_seq DESC LIMIT 1").bind(stream);
    let row: Option<String> = row.fetch_optional_value(conn).await?;
    let events: Option<Vec<StreamEvent>> = row.and_then(|row| serde_json::from_str(&row).ok());
    Ok(events.and_then(|events| Some(events.last()?.at)))
}

/// Add the events' rows to `rows`, for a bulk insert.
///
/// # Errors
/// Fails when an event can't be serialized as JSON.
pub fn add_event_rows(rows: &mut RowBatch, stream: &str, events: &[StreamEvent]) -> Result<()> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
    let text = serde_json::to_string(events).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    push_row!(rows, "am_events" { stream: stream, last_seq: last.seq, first_seq: first.seq, batch: &text });
    Ok(())
}

/// Read at most `limit` events of `stream` after number `after`, in order.
///
/// # Errors
/// Returns a database error when a query fails.
pub async fn read_events(conn: &mut Connection, stream: &str, after: i64, limit: usize) -> Result<Vec<StreamEvent>> {
    // Each row holds at least one event, so `limit` rows suffice.
    let rows = sql!("SELECT batch FROM am_events WHERE stream = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3")
        .bind(stream)
        .bind(after)
        .bind(limit as i64);
    let rows: Vec<String> = rows.fetch_values(conn).await?;
    let mut events = Vec::new();
    for row in rows {
        let batch: Vec<StreamEvent> = serde_json::from_str(&row)
            .map_err(|error| DatabaseError::InvalidValue(format!("am_events of {stream}: {error}")))?;
        events.extend(batch.into_iter().filter(|event| event.seq > after));
        if events.len() >= limit {
            events.truncate(limit);
            break;
        }
    }
    Ok(events)
}
