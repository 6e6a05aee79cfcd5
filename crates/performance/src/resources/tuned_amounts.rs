//! Amounts of an allocation that are tuned, and what executions used of them.

use serde::{Deserialize, Serialize};

use super::amounts::ResourceAmounts;

/// What an execution used of an allocation, as its sandbox measured it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedUse {
    /// Mean number of cores.
    pub(crate) cpu_cores: f64,
    /// Peak memory in GB.
    pub(crate) memory_gb: f64,
    /// Size of the workspace in GB.
    pub(crate) storage_gb: f64,
}

/// The part of a configuration that is tuned: what sandboxes measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TunedAmounts {
    pub(crate) cpu_cores: f64,
    pub(crate) memory_gb: f64,
    pub(crate) storage_gb: f64,
}

/// Tuned amounts as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TunedAllocation {
    pub(crate) amounts: TunedAmounts,
    /// Optimisation that found them.
    pub(crate) optimization_id: String,
}

impl TunedAmounts {
    /// Those of a whole configuration.
    pub(crate) fn of(amounts: &ResourceAmounts) -> Self {
        Self { cpu_cores: amounts.cpu_cores, memory_gb: amounts.memory_gb, storage_gb: amounts.storage_gb }
    }

    /// A configuration with these amounts in it.
    pub(crate) fn within(self, amounts: &ResourceAmounts) -> ResourceAmounts {
        let Self { cpu_cores, memory_gb, storage_gb } = self;
        ResourceAmounts { cpu_cores, memory_gb, storage_gb, ..*amounts }.rounded()
    }
}
