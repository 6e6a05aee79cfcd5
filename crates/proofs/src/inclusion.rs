//! Steps as leaves of a Merkle tree (RFC 6962) over the steps of a receipt, so that one can be shown without the others.

use am_audit::merkle::{IncrementalTree, NodeHash, hash_leaf, inclusion_ranges, verify_inclusion};
use am_core::crypto::canonical_audit_json;
use serde_json::Value;

use crate::model::StepInclusion;

/// The tree over a receipt's steps.
pub(crate) struct ReceiptTree {
    leaves: Vec<NodeHash>,
}

fn root_of(leaves: &[NodeHash]) -> NodeHash {
    let mut tree = IncrementalTree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// The leaf of a step as the receipt describes it: of its canonical JSON.
fn leaf(step: &Value) -> NodeHash {
    hash_leaf(&canonical_audit_json(step))
}

impl ReceiptTree {
    /// The tree over the member `steps` of a receipt's payload.
    pub(crate) fn new(steps: &[Value]) -> Self {
        Self { leaves: steps.iter().map(leaf).collect() }
    }

    /// Root in hexadecimal digits.
    pub(crate) fn root(&self) -> String {
        hex::encode(root_of(&self.leaves))
    }

    /// What shows that the step at `index` is in the tree.
    pub(crate) fn inclusion(&self, index: usize, step: &Value) -> StepInclusion {
        let ranges = inclusion_ranges(index as u64, self.leaves.len() as u64);
        let path = ranges
            .into_iter()
            .map(|range| hex::encode(root_of(&self.leaves[range.start as usize..range.end as usize])));
        StepInclusion { index: index as u64, size: self.leaves.len() as u64, leaf: step.clone(), path: path.collect() }
    }
}

fn hash(text: &str) -> Option<NodeHash> {
    hex::decode(text).ok()?.try_into().ok()
}

/// Whether a step is in the tree with this root.
pub(crate) fn is_included(inclusion: &StepInclusion, root: &str) -> bool {
    let path: Option<Vec<NodeHash>> = inclusion.path.iter().map(|text| hash(text)).collect();
    let (Some(path), Some(root)) = (path, hash(root)) else { return false };
    verify_inclusion(leaf(&inclusion.leaf), inclusion.index, inclusion.size, &path, &root)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_step_is_shown_alone_and_no_other() {
        for count in 1..=9usize {
            let steps: Vec<Value> = (0..count).map(|step| json!({"step": step, "output_sha256": "ab"})).collect();
            let tree = ReceiptTree::new(&steps);
            for (index, step) in steps.iter().enumerate() {
                let shown = tree.inclusion(index, step);
                assert!(is_included(&shown, &tree.root()), "{index} of {count}");
                let mut other = shown.clone();
                other.leaf["output_sha256"] = json!("ac");
                assert!(!is_included(&other, &tree.root()));
                let mut other = shown.clone();
                other.index = (other.index + 1) % count as u64;
                assert!(count == 1 || !is_included(&other, &tree.root()));
                let mut other = shown;
                other.path.push("00".repeat(32));
                assert!(!is_included(&other, &tree.root()));
                other.path = vec!["not hexadecimal".to_owned()];
                assert!(!is_included(&other, &tree.root()));
            }
        }
    }
}
