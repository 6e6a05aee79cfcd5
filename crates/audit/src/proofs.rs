//! Signed heads and Merkle proofs, for clients that do not trust the database.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AuditError, AuditLog, Result,
    checkpoint::{CheckpointError, LogCheckpoint},
    cosignature::HeadCosignature,
    cosigned_heads::{append_and_list, append_cosignatures},
    export::leaf_hash_of,
    merkle::{self, NodeHash},
    model::SignedTreeHead,
    store,
};
use am_core::{boxed, crypto::Ed25519PublicKey, ids::AuditId};
use am_db::{Connection, sql_value::SqlValue};

/// Proof that an entry is in the tree of a head (RFC 6962, 2.1.1).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = InclusionProof)]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// Id of the entry.
    pub audit_id: AuditId,
    /// Index of its leaf in the tree, from 0.
    pub leaf_index: u64,
    /// Leaf hash in base64.
    pub leaf_hash: String,
    /// Writer of the entry: `service`, `coordinator` or `reported`.
    pub source: String,
    /// Stored columns of the entry, in the order of the export: what the leaf hash is made of. Null: its row is gone, or the
    /// proof is of an earlier version, so that nothing connects `audit_id` and `source` with the leaf.
    #[serde(default)]
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    pub columns: Option<Vec<SqlValue>>,
    /// Hashes from the leaf to the root, in base64.
    pub proof: Vec<String>,
    /// Head that the proof leads to.
    pub head: SignedTreeHead,
}

/// Proof that the tree of one head is a prefix of another's (RFC 6962, 2.1.2).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ConsistencyProof)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyProof {
    /// Hashes of the proof, in base64.
    pub proof: Vec<String>,
    /// The smaller head.
    pub from: SignedTreeHead,
    /// The larger head.
    pub to: SignedTreeHead,
}

/// Reason why a proof was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A head of the proof was not accepted.
    #[error("the head: {0}")]
    Head(#[from] CheckpointError),
    /// A hash of the proof is not 32 bytes in base64.
    #[error("a hash is not 32 bytes in base64")]
    Malformed,
    /// The hashes do not lead to the head's root.
    #[error("its hashes do not lead to the root")]
    Mismatch,
    /// The size or the root beside a checkpoint is not the checkpoint's.
    #[error("the size or root that it shows is not its checkpoint's")]
    OtherHead,
    /// The entry that it shows does not make the leaf.
    #[error("the entry: {0}")]
    OtherEntry(String),
}

fn decode_hash(hash: &str) -> std::result::Result<NodeHash, ProofError> {
    STANDARD.decode(hash).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(ProofError::Malformed)
}

fn decode_hashes(proof: &[String]) -> std::result::Result<Vec<NodeHash>, ProofError> {
    proof.iter().map(|hash| decode_hash(hash)).collect()
}

/// The checkpoint of a head that is signed by one of `keys` and shows the checkpoint's size and root.
fn verified_head(head: &SignedTreeHead, keys: &[Ed25519PublicKey]) -> std::result::Result<LogCheckpoint, ProofError> {
    let checkpoint = LogCheckpoint::parse_verified_by(&head.checkpoint, keys)?;
    let same = checkpoint.size == head.size && hex::encode(checkpoint.root) == head.root;
    if same { Ok(checkpoint) } else { Err(ProofError::OtherHead) }
}

impl InclusionProof {
    /// Verify that the leaf is in the head's tree, that the head is signed by one of `keys`, and that the leaf is made of
    /// the entry that is shown. Without columns nothing says which entry the leaf is of.
    ///
    /// # Errors
    /// Returns the reason why the proof was not accepted.
    pub fn verify(&self, keys: &[Ed25519PublicKey]) -> std::result::Result<(), ProofError> {
        let head = verified_head(&self.head, keys)?;
        let (leaf, proof) = (decode_hash(&self.leaf_hash)?, decode_hashes(&self.proof)?);
        if let Some(columns) = &self.columns {
            let made = leaf_hash_of(&self.audit_id, &self.source, Some(columns)).map_err(ProofError::OtherEntry)?;
            if made != leaf {
                return Err(ProofError::OtherEntry("its columns are not those of the leaf".into()));
            }
        }
        let holds = merkle::verify_inclusion(leaf, self.leaf_index, head.size, &proof, &head.root);
        if holds { Ok(()) } else { Err(ProofError::Mismatch) }
    }
}

impl ConsistencyProof {
    /// Verify that the smaller head's tree is a prefix of the larger one's, and that both are of the same log and
    /// signed by one of `keys`.
    ///
    /// # Errors
    /// Returns the reason why the proof was not accepted.
    pub fn verify(&self, keys: &[Ed25519PublicKey]) -> std::result::Result<(), ProofError> {
        let [old, new] = [verified_head(&self.from, keys)?, verified_head(&self.to, keys)?];
        verify_growth(&old, &new, &self.proof)
    }
}

/// Verify that the tree of `old` (at least one entry) is a prefix of the one of `new`, and that both are of the same log; `proof`
/// has hashes in base64. Whoever signed the heads is not verified.
///
/// # Errors
/// Returns the reason why the proof was not accepted.
pub fn verify_growth(
    old: &LogCheckpoint,
    new: &LogCheckpoint,
    proof: &[String],
) -> std::result::Result<(), ProofError> {
    let proof = decode_hashes(proof)?;
    let holds = merkle::verify_consistency(old.size, new.size, &proof, &old.root, &new.root);
    if holds && old.origin == new.origin { Ok(()) } else { Err(ProofError::Mismatch) }
}

impl AuditLog {
    /// The last signed head, with the cosignatures over it in its checkpoint and by themselves; `None` when no entry was written yet.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn head(&self) -> Result<Option<(SignedTreeHead, Vec<HeadCosignature>)>> {
        let mut conn = self.0.db.read().await?;
        let Some(mut head) = store::head_until(&mut conn, u64::MAX).await? else { return Ok(None) };
        let cosignatures = append_and_list(&mut conn, &mut head).await?;
        Ok(Some((head, cosignatures)))
    }

    /// Heads over more than `after` entries, smallest first, with the cosignatures over them.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn heads(&self, after: u64, limit: u32) -> Result<Vec<SignedTreeHead>> {
        let mut conn = self.0.db.read().await?;
        let mut heads = store::heads(&mut conn, after, i64::from(limit)).await?;
        append_cosignatures(&mut conn, &mut heads).await?;
        Ok(heads)
    }

    /// Prove that an entry is in the tree of the head over `size` entries; `None` takes the last head.
    ///
    /// # Errors
    /// Returns [`AuditError::NotFound`], [`AuditError::NotSealed`] or [`AuditError::HeadNotFound`].
    #[boxed]
    pub async fn inclusion(&self, audit_id: &AuditId, size: Option<u64>) -> Result<InclusionProof> {
        let mut conn = self.0.db.read().await?;
        let head = find_head(&mut conn, size).await?.ok_or_else(|| AuditError::NotSealed(audit_id.clone()))?;
        let Some(found) = store::find_position(&mut conn, audit_id).await? else {
            let unsealed = store::entry_exists(&mut conn, audit_id).await?;
            return Err(if unsealed { AuditError::NotSealed } else { AuditError::NotFound }(audit_id.clone()));
        };
        let seq = found.seq;
        if seq > head.size {
            return Err(AuditError::NotSealed(audit_id.clone()));
        }
        let proof = encode_range_hashes(&mut conn, merkle::inclusion_ranges(seq - 1, head.size)).await?;
        let leaf_hash = STANDARD.encode(hex::decode(found.leaf_hash).unwrap_or_default());
        let exported = store::read_exported(&mut conn, seq - 1, 1).await?.into_iter().next();
        let columns = exported.filter(|entry| entry.seq == seq).and_then(|entry| entry.columns);
        let (audit_id, source) = (audit_id.clone(), found.source);
        Ok(InclusionProof { audit_id, leaf_index: seq - 1, leaf_hash, source, columns, proof, head })
    }

    /// Prove that the tree of the head over `from` entries is a prefix of the one over `to`; `None` takes the last
    /// head.
    ///
    /// # Errors
    /// Returns [`AuditError::HeadNotFound`] when no head has one of the sizes.
    #[boxed]
    pub async fn consistency(&self, from: u64, to: Option<u64>) -> Result<ConsistencyProof> {
        let mut conn = self.0.db.read().await?;
        let old = find_head(&mut conn, Some(from)).await?.ok_or(AuditError::HeadNotFound(from))?;
        let new = find_head(&mut conn, to).await?.ok_or(AuditError::HeadNotFound(to.unwrap_or(0)))?;
        if new.size < old.size {
            return Err(AuditError::HeadNotFound(new.size));
        }
        let proof = consistency_hashes(&mut conn, old.size, new.size).await?;
        Ok(ConsistencyProof { proof, from: old, to: new })
    }
}

/// Hashes in base64 that prove that the tree over `old` entries is a prefix of the one over `size`. Nothing needs to be proved of
/// no entry, and of the same ones.
pub(super) async fn consistency_hashes(conn: &mut Connection, old: u64, size: u64) -> Result<Vec<String>> {
    let ranges = if old == 0 { Vec::new() } else { merkle::consistency_ranges(old, size) };
    encode_range_hashes(conn, ranges).await
}

/// The head over exactly `size` entries, with the cosignatures over it; with `None` the last head.
async fn find_head(conn: &mut Connection, size: Option<u64>) -> Result<Option<SignedTreeHead>> {
    let mut found = store::head_until(conn, size.unwrap_or(u64::MAX)).await?;
    append_cosignatures(conn, found.as_mut_slice()).await?;
    match size {
        Some(size) if found.as_ref().is_none_or(|head| head.size != size) => Err(AuditError::HeadNotFound(size)),
        _ => Ok(found),
    }
}

async fn encode_range_hashes(conn: &mut Connection, ranges: Vec<std::ops::Range<u64>>) -> Result<Vec<String>> {
    let mut proof = Vec::with_capacity(ranges.len());
    for range in ranges {
        proof.push(STANDARD.encode(store::range_hash(conn, range).await?));
    }
    Ok(proof)
}
