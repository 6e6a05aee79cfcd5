//! What of an allocation was used, from what the sandbox of its execution measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    amounts::{RESOURCE_NAMES, ResourceAmounts},
    model::ResourceUtilisation,
};

/// Bytes of a GB.
const GB: f64 = (1u64 << 30) as f64;

/// What the commands of a sandbox took, as the sandboxes' table holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct MeasuredUsage {
    pub cpu_seconds: f64,
    pub memory_peak_bytes: u64,
    pub disk_bytes: u64,
    pub seconds: f64,
}

/// Utilisation of an allocation, and why parts of it are not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct UsageReport {
    pub utilisation: ResourceUtilisation,
    pub efficiency_score: Option<f64>,
    pub cost_efficiency: Option<f64>,
    pub reasons: BTreeMap<String, String>,
}

impl UsageReport {
    /// With nothing measured, for this reason.
    pub(super) fn unmeasured(reason: &str) -> Self {
        let mut report = Self::default();
        for name in RESOURCE_NAMES {
            report.explain(&format!("utilisation.{name}"), reason);
        }
        for name in ["utilisation.seconds", "efficiency_score", "cost_efficiency"] {
            report.explain(name, reason);
        }
        report
    }

    /// From what `commands` commands took of a configuration.
    pub(super) fn measured(amounts: &ResourceAmounts, usage: &MeasuredUsage, commands: u64) -> Self {
        if commands == 0 {
            return Self::unmeasured("no command of the execution has run in its sandbox yet");
        }
        let mut report = Self::default();
        let timed = usage.seconds > 0.0;
        let processors = timed.then(|| usage.cpu_seconds / (usage.seconds * amounts.cpu_cores));
        report.utilisation = ResourceUtilisation {
            cpu_cores: processors.filter(|share| share.is_finite()),
            memory_gb: share(usage.memory_peak_bytes as f64 / GB, amounts.memory_gb),
            storage_gb: share(usage.disk_bytes as f64 / GB, amounts.storage_gb),
            gpu_count: None,
            gpu_memory_gb: None,
            network_bandwidth: None,
            commands,
            seconds: Some(usage.seconds),
        };
        if report.utilisation.cpu_cores.is_none() {
            report.explain("utilisation.cpu_cores", "the commands took no time that was measured");
        }
        for name in ["gpu_count", "gpu_memory_gb"] {
            let held = if name == "gpu_count" { amounts.gpu_count } else { amounts.gpu_memory_gb };
            let reason = if held > 0.0 { "sandboxes do not measure GPUs" } else { "nothing of it is allocated" };
            report.explain(&format!("utilisation.{name}"), reason);
        }
        report.explain("utilisation.network_bandwidth", "sandboxes do not measure the network's use");
        report.rate(amounts);
        report
    }

    /// The scores, from the shares that were measured.
    fn rate(&mut self, amounts: &ResourceAmounts) {
        let measured = [
            self.utilisation.cpu_cores,
            self.utilisation.memory_gb,
            self.utilisation.gpu_count,
            self.utilisation.gpu_memory_gb,
            self.utilisation.storage_gb,
            self.utilisation.network_bandwidth,
        ];
        let shares: Vec<f64> = measured.into_iter().flatten().map(|share| share.min(1.0)).collect();
        if !shares.is_empty() {
            self.efficiency_score = Some(shares.iter().sum::<f64>() / shares.len() as f64);
        }
        let costs = measured.into_iter().zip(amounts.resource_costs());
        let priced: Vec<(f64, f64)> = costs.filter_map(|(share, cost)| Some((share?.min(1.0), cost))).collect();
        let whole: f64 = priced.iter().map(|(_, cost)| cost).sum();
        if whole > 0.0 {
            self.cost_efficiency = Some(priced.iter().map(|(share, cost)| share * cost).sum::<f64>() / whole);
        }
        for (name, known) in
            [("efficiency_score", self.efficiency_score.is_some()), ("cost_efficiency", self.cost_efficiency.is_some())]
        {
            if !known {
                self.explain(name, "nothing of the allocation was measured");
            }
        }
    }

    fn explain(&mut self, member: &str, reason: &str) {
        self.reasons.insert(member.to_owned(), reason.to_owned());
    }
}

/// A share of what there is; `None`: there is nothing.
fn share(used: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| used / of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_from_what_the_sandbox_measured() {
        let amounts = ResourceAmounts::from_values([2.0, 4.0, 1.0, 0.0, 50.0, 100.0]);
        let usage = MeasuredUsage { cpu_seconds: 5.0, memory_peak_bytes: 1 << 30, disk_bytes: 5 << 30, seconds: 10.0 };
        let report = UsageReport::measured(&amounts, &usage, 3);
        let used = &report.utilisation;
        assert_eq!((used.cpu_cores, used.memory_gb, used.storage_gb), (Some(0.25), Some(0.25), Some(0.1)));
        assert_eq!((used.gpu_count, used.network_bandwidth, used.commands), (None, None, 3));
        assert!((report.efficiency_score.unwrap() - 0.2).abs() < 1e-12);
        // A quarter of 20 and of 8, a tenth of 5, of 33.
        assert!((report.cost_efficiency.unwrap() - 7.5 / 33.0).abs() < 1e-12);
        assert_eq!(report.reasons["utilisation.gpu_count"], "sandboxes do not measure GPUs");
        assert_eq!(report.reasons["utilisation.gpu_memory_gb"], "nothing of it is allocated");
        assert!(!report.reasons.contains_key("efficiency_score"));
    }

    #[test]
    fn more_than_was_allocated_counts_as_all_of_it() {
        let amounts = ResourceAmounts::from_values([1.0, 1.0, 0.0, 0.0, 10.0, 10.0]);
        let usage =
            MeasuredUsage { cpu_seconds: 30.0, memory_peak_bytes: 3 << 30, disk_bytes: 20 << 30, seconds: 10.0 };
        let report = UsageReport::measured(&amounts, &usage, 1);
        assert_eq!((report.utilisation.cpu_cores, report.efficiency_score), (Some(3.0), Some(1.0)));
        assert_eq!(report.cost_efficiency, Some(1.0));
    }

    #[test]
    fn every_figure_that_is_not_known_has_a_reason() {
        let amounts = ResourceAmounts::from_values([1.0, 1.0, 0.0, 0.0, 10.0, 10.0]);
        let timeless = UsageReport::measured(&amounts, &MeasuredUsage::default(), 1);
        assert!(timeless.reasons.contains_key("utilisation.cpu_cores"));
        for report in [UsageReport::measured(&amounts, &MeasuredUsage::default(), 0), UsageReport::unmeasured("x")] {
            assert_eq!(report.reasons.len(), RESOURCE_NAMES.len() + 3);
            assert_eq!((report.efficiency_score, report.cost_efficiency), (None, None));
        }
    }
}
