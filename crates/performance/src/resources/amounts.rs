//! Amounts of the six resources, exact to the thousandth, and what they cost.

use am_core::validation::Violations;
use am_performance_math::packing::HostRoom;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Number of resources.
pub(super) const RESOURCE_COUNT: usize = 6;
/// Amounts are whole numbers of these parts of a unit.
const PARTS: f64 = 1000.0;
/// Largest amount of a resource, in units.
const MAX_AMOUNT: f64 = 1e9;
/// Cost of a core.
const CORE_COST: f64 = 10.0;
/// Cost of a GB of memory.
const MEMORY_COST: f64 = 2.0;
/// Cost of a GPU.
const GPU_COST: f64 = 100.0;
/// Cost of a GB of storage.
const STORAGE_COST: f64 = 0.1;

/// Names of the resources, as members of requests and answers, in the order of [`ResourceParts`].
pub(super) const RESOURCE_NAMES: [&str; RESOURCE_COUNT] =
    ["cpu_cores", "memory_gb", "gpu_count", "gpu_memory_gb", "storage_gb", "network_bandwidth"];

/// Amounts of the resources in thousandths of their units, in the order of [`RESOURCE_NAMES`].
pub(super) type ResourceParts = [u64; RESOURCE_COUNT];

/// Room of a host in thousandths.
pub(super) type ResourceRoom = HostRoom<RESOURCE_COUNT>;

/// Amounts of the six resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceAmounts {
    /// Number of processor cores.
    pub cpu_cores: f64,
    /// Memory in GB (2^30 bytes).
    pub memory_gb: f64,
    /// GPUs; a fraction is a share of one. Default 0.
    #[serde(default)]
    pub gpu_count: f64,
    /// Memory of all GPUs together in GB. Default 0.
    #[serde(default)]
    pub gpu_memory_gb: f64,
    /// Storage in GB.
    pub storage_gb: f64,
    /// Network bandwidth in Mbit/s.
    pub network_bandwidth: f64,
}

impl ResourceAmounts {
    /// The amounts in the order of [`RESOURCE_NAMES`].
    pub(super) fn values(&self) -> [f64; RESOURCE_COUNT] {
        [self.cpu_cores, self.memory_gb, self.gpu_count, self.gpu_memory_gb, self.storage_gb, self.network_bandwidth]
    }

    pub(super) fn from_values(values: [f64; RESOURCE_COUNT]) -> Self {
        let [cpu_cores, memory_gb, gpu_count, gpu_memory_gb, storage_gb, network_bandwidth] = values;
        Self { cpu_cores, memory_gb, gpu_count, gpu_memory_gb, storage_gb, network_bandwidth }
    }

    /// The same, each to the nearest thousandth.
    pub(super) fn rounded(self) -> Self {
        Self::from_values(self.values().map(to_thousandths))
    }

    /// The amounts in thousandths; those of [`ResourceAmounts::rounded`] exactly.
    pub(super) fn parts(&self) -> ResourceParts {
        self.values().map(|value| (value * PARTS).round().max(0.0) as u64)
    }

    pub(super) fn from_parts(parts: &ResourceParts) -> Self {
        Self::from_values(parts.map(to_units))
    }

    /// What the configuration costs: 10 a core, 2 a GB of memory, 100 a GPU, 0.1 a GB of storage, in cost units.
    pub(super) fn cost(&self) -> f64 {
        to_thousandths(self.resource_costs().iter().sum())
    }

    /// What each resource costs, in the order of [`RESOURCE_NAMES`].
    pub(super) fn resource_costs(&self) -> [f64; RESOURCE_COUNT] {
        [
            self.cpu_cores * CORE_COST,
            self.memory_gb * MEMORY_COST,
            self.gpu_count * GPU_COST,
            0.0,
            self.storage_gb * STORAGE_COST,
            0.0,
        ]
    }

    /// Record what is wrong with amounts that a client sends, as members of `place`.
    pub(super) fn check(&self, place: &[am_core::validation::PathSegment], violations: &mut Violations) {
        for (name, value) in RESOURCE_NAMES.into_iter().zip(self.values()) {
            let path = || am_core::validation::FieldPath::from([name]).within(place.iter().cloned());
            let in_range = value.is_finite() && (0.0..=MAX_AMOUNT).contains(&value);
            violations.require(in_range, path(), format!("must be from 0 to {MAX_AMOUNT}"));
            let exact = !in_range || (to_thousandths(value) - value).abs() <= value.abs() * f64::EPSILON;
            violations.require(exact, path(), "must have at most three decimal places");
        }
    }
}

/// Thousandths as units.
pub(super) fn to_units(parts: u64) -> f64 {
    parts as f64 / PARTS
}

/// The nearest thousandth.
pub(super) fn to_thousandths(value: f64) -> f64 {
    (value * PARTS).round() / PARTS
}

/// Parts as columns hold them.
pub(super) fn stored_parts(parts: &ResourceParts) -> [i64; RESOURCE_COUNT] {
    parts.map(|part| i64::try_from(part).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_to_the_thousandth() {
        let amounts = ResourceAmounts {
            cpu_cores: 0.1 + 0.2,
            gpu_count: 1.5 * 0.7,
            memory_gb: 64.0,
            ..ResourceAmounts::default()
        };
        let rounded = amounts.rounded();
        assert_eq!((rounded.cpu_cores, rounded.gpu_count, rounded.memory_gb), (0.3, 1.05, 64.0));
        assert_eq!(rounded.parts(), [300, 64_000, 1050, 0, 0, 0]);
        assert_eq!(ResourceAmounts::from_parts(&rounded.parts()), rounded);
    }

    #[test]
    fn a_configuration_costs_what_the_table_says() {
        let amounts = ResourceAmounts::from_values([4.0, 8.0, 1.0, 0.0, 50.0, 200.0]);
        assert_eq!(amounts.cost(), 161.0);
        let with = |gpu_memory_gb: f64, network_bandwidth: f64| ResourceAmounts {
            gpu_memory_gb,
            network_bandwidth,
            ..amounts
        };
        assert_eq!(with(80.0, 1000.0).cost(), 161.0, "these have no price");
    }

    #[test]
    fn amounts_of_clients_have_bounds() {
        let mut violations = Violations::default();
        let bad = ResourceAmounts::from_values([f64::NAN, -1.0, f64::INFINITY, 1e10, 0.0005, 10.0]);
        bad.check(&["hosts".into(), 0usize.into()], &mut violations);
        let places: Vec<String> =
            violations.finish().unwrap_err().iter().map(|violation| violation.path.to_string()).collect();
        let named = ["cpu_cores", "memory_gb", "gpu_count", "gpu_memory_gb", "storage_gb"];
        assert_eq!(places, named.map(|name| format!("hosts.0.{name}")));
        let mut violations = Violations::default();
        ResourceAmounts::from_values([0.1, 1.05, 2.0, 0.0, 1e9, 0.001]).check(&[], &mut violations);
        assert!(violations.finish().is_ok());
    }
}
