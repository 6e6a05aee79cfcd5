//! What is to be proved of an execution, decided when it is asked for: which circuit, and which steps' networks.

use am_core::ids::StepExecutionId;
use am_zk::{FieldElement, ValueOpening};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What background work is to prove. It is private: its seed opens commitments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProvingPlan {
    /// Circuit for the openings of all steps.
    pub(crate) circuit: String,
    /// Random hexadecimal digits that the salts of all commitments are derived from.
    pub(crate) seed: String,
    /// The steps, in the declared order.
    pub(crate) steps: Vec<PlannedStep>,
}

/// A step whose values are committed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedStep {
    /// Key of the step.
    pub(crate) key: String,
    /// Id of its row.
    pub(crate) row_id: StepExecutionId,
    /// The network to prove; `None`: its values are committed to as JSON.
    pub(crate) policy: Option<PlannedPolicy>,
}

/// A policy step whose network is proved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedPolicy {
    /// Circuit of the network.
    pub(crate) circuit: String,
    /// Policy and version that answered.
    pub(crate) reference: String,
    /// The state in fixed point, as the network takes it.
    pub(crate) state: Vec<i64>,
    /// The action's index.
    pub(crate) action: usize,
}

impl ProvingPlan {
    /// The salt of a step's input (`side` 0) or output (1).
    pub(crate) fn salt(&self, step: usize, side: u8) -> FieldElement {
        let mut bytes = Vec::with_capacity(64);
        for part in [0u8, 1] {
            let hash = Sha256::new()
                .chain_update(b"agent-management proof salt")
                .chain_update(self.seed.as_bytes())
                .chain_update((step as u64).to_be_bytes())
                .chain_update([side, part]);
            bytes.extend(hash.finalize());
        }
        // 512 bits: the remainder is as good as evenly distributed.
        am_zk::random_element(&mut |buffer: &mut [u8]| {
            let length = buffer.len().min(bytes.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
        })
    }

    /// What opens the commitment to a step's input or output.
    pub(crate) fn opening(&self, step: usize, side: u8, elements: Vec<FieldElement>) -> ValueOpening {
        ValueOpening { elements, salt: self.salt(step, side) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_salt_of_its_own() {
        let plan = |seed: &str| ProvingPlan { circuit: String::new(), seed: seed.to_owned(), steps: Vec::new() };
        let one = plan("aa");
        let mut salts = vec![one.salt(0, 0), one.salt(0, 1), one.salt(1, 0), plan("ab").salt(0, 0)];
        assert_eq!(one.salt(0, 0), salts[0], "it is the same each time");
        salts.sort();
        salts.dedup();
        assert_eq!(salts.len(), 4);
    }
}
