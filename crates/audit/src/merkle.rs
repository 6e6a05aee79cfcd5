//! Merkle tree of a log as defined by RFC 6962 (section 2.1) and RFC 9162: hashes, proofs and their verification. No
//! I/O: this module computes which ranges of leaves a proof needs, and the store provides their hashes.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// Hash of a node or leaf: SHA-256.
pub type NodeHash = [u8; 32];

/// Hash of a leaf: `SHA-256(0x00 || input)`.
pub fn hash_leaf(input: &[u8]) -> NodeHash {
    Sha256::new().chain_update([0]).chain_update(input).finalize().into()
}

/// Hash of an inner node: `SHA-256(0x01 || left || right)`.
pub fn hash_node(left: &NodeHash, right: &NodeHash) -> NodeHash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Root of a tree without leaves.
pub fn empty_root() -> NodeHash {
    Sha256::digest([]).into()
}

/// Number of leaves in the left subtree of a tree of `size` leaves: the largest power of two below `size`.
fn left_subtree_size(size: u64) -> u64 {
    debug_assert!(size > 1);
    1 << (63 - (size - 1).leading_zeros())
}

/// Complete subtrees that make up `range`, largest first. `range` must be one that a proof or a root needs: its start
/// is a multiple of the largest subtree's size.
pub fn complete_subtrees(range: Range<u64>) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let left = range.end - start;
        let size = 1 << (63 - left.leading_zeros());
        parts.push(start..start + size);
        start += size;
    }
    parts
}

/// Root over complete subtrees, largest first.
pub fn root_of_subtrees(parts: &[NodeHash]) -> NodeHash {
    let Some((last, before)) = parts.split_last() else { return empty_root() };
    before.iter().rev().fold(*last, |right, left| hash_node(left, &right))
}

/// Root of a complete subtree over `level`, whose length is a power of two.
pub fn root_of_complete(mut level: Vec<NodeHash>) -> NodeHash {
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| pair.get(1).map_or(pair[0], |right| hash_node(&pair[0], right))).collect();
    }
    level.first().copied().unwrap_or_else(empty_root)
}

/// Ranges whose hashes prove that leaf `index` is in the tree of `size` leaves, in the proof's order.
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut proof = Vec::new();
    let mut range = 0..size;
    while range.end - range.start > 1 {
        let middle = range.start + left_subtree_size(range.end - range.start);
        if index < middle {
            proof.push(middle..range.end);
            range.end = middle;
        } else {
            proof.push(range.start..middle);
            range.start = middle;
        }
    }
    proof.reverse();
    proof
}

/// Ranges whose hashes prove that the tree of `old` leaves (at least 1) is a prefix of the tree of `size` leaves, in
/// the proof's order.
pub fn consistency_ranges(old: u64, size: u64) -> Vec<Range<u64>> {
    let mut proof = Vec::new();
    let mut range = 0..size;
    // Whether everything so far belongs to the old tree, whose root the verifier has.
    let mut whole = true;
    while range.end != old {
        let middle = range.start + left_subtree_size(range.end - range.start);
        if old <= middle {
            proof.push(middle..range.end);
            range.end = middle;
        } else {
            proof.push(range.start..middle);
            range.start = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(range);
    }
    proof.reverse();
    proof
}

/// Verify that `proof` leads from the leaf `hash` at `index` to `root` (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(hash: NodeHash, index: u64, size: u64, proof: &[NodeHash], root: &NodeHash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut made = hash;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            made = hash_node(sibling, &made);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            made = hash_node(&made, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && made == *root
}

/// Verify with `proof` that the tree of `old` leaves with `old_root` is a prefix of the tree of `size` leaves with
/// `root` (RFC 9162, 2.1.4.2).
pub fn verify_consistency(old: u64, size: u64, proof: &[NodeHash], old_root: &NodeHash, root: &NodeHash) -> bool {
    if old == 0 || old > size {
        return false;
    }
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    let mut path = proof.iter();
    let first = if old.is_power_of_two() { old_root } else { path.next().unwrap_or(old_root) };
    if proof.is_empty() {
        return false;
    }
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut made_old, mut made) = (*first, *first);
    for hash in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            made_old = hash_node(hash, &made_old);
            made = hash_node(hash, &made);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            made = hash_node(&made, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && made_old == *old_root && made == *root
}

/// Root of a tree that grows leaf by leaf; stores only its complete subtrees.
#[derive(Clone, Debug, Default)]
pub struct IncrementalTree {
    size: u64,
    /// Roots of the complete subtrees, largest first.
    parts: Vec<NodeHash>,
}

impl IncrementalTree {
    /// Append a leaf's hash.
    pub fn push(&mut self, leaf: NodeHash) {
        let mut hash = leaf;
        // The number of subtrees completed is the number of trailing one bits of the size.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.parts.pop() {
                hash = hash_node(&left, &hash);
            }
        }
        self.parts.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root over all leaves.
    pub fn root(&self) -> NodeHash {
        root_of_subtrees(&self.parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962's own words, by recursion over all leaves.
    fn mth(leaves: &[NodeHash]) -> NodeHash {
        match leaves {
            [] => empty_root(),
            [only] => *only,
            _ => {
                let (left, right) = leaves.split_at(left_subtree_size(leaves.len() as u64) as usize);
                hash_node(&mth(left), &mth(right))
            }
        }
    }

    fn leaves(count: u64) -> Vec<NodeHash> {
        (0..count).map(|at| hash_leaf(&at.to_be_bytes())).collect()
    }

    fn hashes(leaves: &[NodeHash], ranges: Vec<Range<u64>>) -> Vec<NodeHash> {
        ranges.into_iter().map(|range| mth(&leaves[range.start as usize..range.end as usize])).collect()
    }

    #[test]
    fn the_hashes_are_those_of_rfc_6962() {
        // The tree of certificate-transparency's own test: eight leaves of growing length.
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let leaves: Vec<NodeHash> = inputs.iter().map(|input| hash_leaf(&hex::decode(input).unwrap())).collect();
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (count, root) in (1..).zip(roots) {
            assert_eq!(hex::encode(mth(&leaves[..count])), root);
        }
        assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn every_proof_of_every_small_tree_holds_and_no_other() {
        let all = leaves(70);
        for size in 1..=70u64 {
            let tree = &all[..size as usize];
            let root = mth(tree);
            assert_eq!(root_of_subtrees(&hashes(&all, complete_subtrees(0..size))), root);
            for index in 0..size {
                let proof = hashes(&all, inclusion_ranges(index, size));
                assert!(verify_inclusion(tree[index as usize], index, size, &proof, &root), "{index} of {size}");
                for wrong in (0..size).filter(|other| *other != index) {
                    assert!(!verify_inclusion(tree[index as usize], wrong, size, &proof, &root), "{index} as {wrong}");
                    assert!(!verify_inclusion(tree[wrong as usize], index, size, &proof, &root));
                }
            }
            for old in 1..=size {
                let proof = hashes(&all, consistency_ranges(old, size));
                let old_root = mth(&all[..old as usize]);
                assert!(verify_consistency(old, size, &proof, &old_root, &root), "{old} to {size}");
                assert!(old == size || !verify_consistency(old, size, &proof, &root, &root));
                assert!(old == size || !verify_consistency(old, size, &proof, &old_root, &old_root));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_proof_with_a_flipped_bit_a_hash_too_many_or_too_few_does_not(
            size in 1u64..600, at in any::<u64>(), bit in 0usize..256, place in any::<usize>(), what in 0..3,
        ) {
            let all = leaves(size);
            let root = mth(&all);
            let spoil = |mut proof: Vec<NodeHash>| match what {
                0 if !proof.is_empty() => {
                    let count = proof.len();
                    proof[place % count][bit / 8] ^= 1 << (bit % 8);
                    Some(proof)
                }
                1 => { proof.insert(place % (proof.len() + 1), hash_leaf(b"more")); Some(proof) }
                2 if !proof.is_empty() => { let count = proof.len(); proof.remove(place % count); Some(proof) }
                _ => None,
            };
            let index = at % size;
            if let Some(proof) = spoil(hashes(&all, inclusion_ranges(index, size))) {
                prop_assert!(!verify_inclusion(all[index as usize], index, size, &proof, &root));
            }
            let old = at % size + 1;
            if let Some(proof) = spoil(hashes(&all, consistency_ranges(old, size))) {
                prop_assert!(!verify_consistency(old, size, &proof, &mth(&all[..old as usize]), &root));
            }
        }

        #[test]
        fn a_tree_that_grows_has_the_root_of_one_that_stands(size in 0u64..400) {
            let all = leaves(size);
            let mut growing = IncrementalTree::default();
            all.iter().for_each(|leaf| growing.push(*leaf));
            prop_assert_eq!((growing.size(), growing.root()), (size, mth(&all)));
            if size > 0 && size.is_power_of_two() {
                prop_assert_eq!(root_of_complete(all.clone()), mth(&all));
            }
        }
    }
}
