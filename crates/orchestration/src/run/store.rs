//! Events of executions.

use serde_json::Value;

use crate::{error::Result, event_kinds::ExecutionEventKind};
use am_core::ids::ExecutionId;
use am_db::{Tx, codec::Timestamp, sql};
use am_events::StreamEvent;

/// Append an event to an execution's stream. Returns false for an execution of the coordinator, which has no stream.
pub async fn append_event(
    tx: &mut Tx,
    id: &ExecutionId,
    kind: ExecutionEventKind,
    now: Timestamp,
    data: Value,
) -> Result<bool> {
    let seq =
        sql!("UPDATE am_runs SET last_event = last_event + 1 WHERE execution_id = $1 RETURNING last_event").bind(id);
    let seq: Option<i64> = seq.fetch_optional_value(tx.conn().await?).await?;
    let Some(seq) = seq else { return Ok(false) };
    let event = StreamEvent { seq, kind: kind.stored().to_owned(), at: now, data };
    am_events::append_events(tx, id, &[event]).await?;
    Ok(true)
}
