//! Prometheus metrics of witnesses, by their names.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type ByWitness = [(&'static str, String); 1];

/// Metrics of all witnesses.
#[derive(Default)]
pub(super) struct WitnessMetrics {
    rounds: Family<[(&'static str, String); 2], Counter>,
    refused: Family<ByWitness, Gauge<i64, AtomicI64>>,
    cosigned: Family<ByWitness, Gauge<i64, AtomicI64>>,
}

impl WitnessMetrics {
    /// Count a head that was submitted, by its result: `cosigned`, `failed` or `refused`.
    pub(super) fn count(&self, witness: &str, result: &str) {
        self.rounds.get_or_create(&[("witness", witness.to_owned()), ("result", result.to_owned())]).inc();
    }

    /// Whether the witness refuses the log.
    pub(super) fn set_refused(&self, witness: &str, refused: bool) {
        self.refused.get_or_create(&[("witness", witness.to_owned())]).set(i64::from(refused));
    }

    /// Size of the largest head that the witness cosigned.
    pub(super) fn set_cosigned(&self, witness: &str, size: u64) {
        self.cosigned.get_or_create(&[("witness", witness.to_owned())]).set(size.cast_signed());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let rounds = "Heads submitted to witnesses, by result: cosigned, failed (will be repeated), refused";
        registry.register("audit_witness_submissions", rounds, self.rounds.clone());
        let refused = "1: the witness cosigned what the audit log does not continue";
        registry.register("audit_witness_refused", refused, self.refused.clone());
        let cosigned = "Entries below the largest head that the witness cosigned";
        registry.register("audit_witness_cosigned_size", cosigned, self.cosigned.clone());
    }
}
