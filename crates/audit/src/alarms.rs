//! What is wrong with the log, for readiness, metrics and the log of the process.

use std::sync::atomic::{AtomicI64, AtomicU64};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// The state of the log as this process sees it.
#[derive(Default)]
pub struct LogAlarms {
    refusal: Mutex<Option<String>>,
    refused: Gauge<i64, AtomicI64>,
    changed: Gauge<i64, AtomicI64>,
    disowned: Counter<u64, AtomicU64>,
}

impl LogAlarms {
    /// No head can be signed, because of this.
    pub fn refuse(&self, reason: String) {
        let mut refusal = self.refusal.lock();
        if refusal.as_ref() != Some(&reason) {
            tracing::error!(
                reason,
                "the audit log does not continue what was signed; no head is signed until that is explained"
            );
        }
        *refusal = Some(reason);
        self.refused.set(1);
    }

    /// Heads are signed again.
    pub fn accept(&self) {
        *self.refusal.lock() = None;
        self.refused.set(0);
    }

    /// Why no head is signed; `None`: heads are signed.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }

    /// A sealed entry is not what was signed.
    pub fn changed(&self, seq: u64, what: &str) {
        if self.changed.set(1) == 0 {
            tracing::error!(seq, what, "an entry of the audit log was changed after it was signed");
        }
    }

    /// Entries that claimed to be the service's own were given to the coordinator.
    pub fn disowned(&self, entries: &[u64]) {
        self.disowned.inc_by(entries.len() as u64);
        tracing::error!(?entries, "entries of the audit log that somebody else wrote in this service's name");
    }

    /// Register the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let refused = "1: the audit log does not continue what was signed, and no head is signed";
        registry.register("audit_head_refused", refused, self.refused.clone());
        let changed = "1: a sealed entry of the audit log was found changed since the start";
        registry.register("audit_entry_changed", changed, self.changed.clone());
        let disowned = "Entries that claimed to be this service's own and are not";
        registry.register("audit_entries_disowned", disowned, self.disowned.clone());
    }
}
