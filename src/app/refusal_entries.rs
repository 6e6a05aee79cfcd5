//! Tells the audit log of keys whose requests are refused again and again.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::http::{HttpState, refusals::RepeatedRefusals};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::ambient::sleep_or_cancelled;
use am_db::{Database, DatabaseError, Tx, codec::Timestamp, owner::SYSTEM_PRINCIPAL};

/// Wait after an error that may pass.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Write an entry for each key that is refused repeatedly, until `stop`.
pub(super) async fn tell_refusals(shared: HttpState, db: Database, audit: AuditLog, stop: CancellationToken) {
    loop {
        let found = tokio::select! {
            () = stop.cancelled() => return,
            found = shared.refusals.next() => found,
        };
        let now = Timestamp(shared.clock.now());
        let entries = found.iter().map(|one| entry_of(one, now)).collect();
        let written = {
            let audit = audit.clone();
            db.write(async move |tx: &mut Tx| {
                audit.append(tx, entries).await?;
                Ok::<_, DatabaseError>(())
            })
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, "refusals could not be written to the audit log; it is tried again");
            shared.refusals.put_back(found);
            if !sleep_or_cancelled(&stop, RETRY_INTERVAL).await {
                return;
            }
        }
    }
}

/// The entry names nobody as its cause: whoever presents a key's id need not be its owner.
fn entry_of(refusals: &RepeatedRefusals, now: Timestamp) -> AuditEntry {
    let entry = AuditEntry::new(EventType::AccessDenied, now).on_behalf_of(SYSTEM_PRINCIPAL).of("api_key", "refused");
    entry
        .data("key", json!(&*refusals.key))
        .data("refusals", json!(refusals.count))
        .data("since", json!(Timestamp(refusals.since)))
        .data("last_code", json!(refusals.code))
        .data("last_address", json!(refusals.address))
}
