//! Offline verification of an export, from the file, public keys and checkpoints that were kept elsewhere.

use std::{collections::BTreeMap, io::BufRead};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{
    checkpoint::{LogCheckpoint, split_note},
    cosignature::{count_cosignatures, verify_cosignatures},
    export::{AuditExportLine, leaf_hash_of},
    key_entries::LogStatement,
    merkle::{IncrementalTree, NodeHash},
    model::{EntrySource, ExportedEntry},
};
use am_core::{
    crypto::{Ed25519PublicKey, NoteKey},
    ids::AuditId,
};

/// Report of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditVerificationReport {
    /// Whether everything is as it was signed.
    pub valid: bool,
    /// Number of entries read.
    pub entries: u64,
    /// Number of entries covered by a valid head.
    pub sealed: u64,
    /// Number of these entries that the coordinator wrote.
    pub by_coordinator: u64,
    /// Number of these entries that somebody reported over the API.
    pub reported: u64,
    /// Number of heads with a valid signature and root.
    pub heads: u64,
    /// Merkle root over all entries, in hex.
    pub root: String,
    /// Changes of the log's key.
    pub key_changes: Vec<KeyChange>,
    /// Restores of an older state. What the log said between the head that each names and the one that was lost is not
    /// part of it.
    pub restores: Vec<LogRestore>,
    /// Number of checkpoints kept elsewhere that are over entries which a restore lost: they can't be compared.
    pub lost_checkpoints: u64,
    /// Number of cosignatures in the heads, by whatever witness; only those of the given witnesses are verified.
    pub cosignatures: u64,
    /// What each of the given witnesses cosigned, in their order.
    pub cosigned: Vec<WitnessedSize>,
    /// First fault in the log's order; null when there is none.
    pub first_fault: Option<AuditFault>,
    /// Number of faults.
    pub faults: u64,
}

/// A change of the log's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// Position of the entry that tells of it, from 1.
    pub seq: u64,
    /// The key before, in hex; null: it was lost, so nothing but the operator's word connects both.
    pub from: Option<String>,
    /// The key after, in hex.
    pub to: String,
}

/// A restore of an older state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogRestore {
    /// Position of the entry that tells of it, from 1.
    pub seq: u64,
    /// The epoch that begins with it.
    pub epoch: u64,
    /// Size of the head that the log continues.
    pub restored_from: u64,
    /// Size of the last head that was lost.
    pub lost_until: u64,
    /// The operator's reason.
    pub reason: String,
}

/// What a witness cosigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WitnessedSize {
    /// Name of the witness.
    pub witness: String,
    /// Number of entries below the largest valid head that it cosigned; null: it cosigned none of them.
    pub size: Option<u64>,
}

/// A fault of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditFault {
    /// Position of the entry, from 1; for a head, the position after the last entry that is known to be good.
    pub seq: u64,
    /// Id of the entry, if it has one.
    pub audit_id: Option<AuditId>,
    /// Description of the fault.
    pub what: String,
}

/// Verify an export that starts at entry 1, line by line, with at least one public key of the log; keys that an entry
/// connects with it are accepted too. `kept` are checkpoints stored elsewhere: only they can prove that the end was cut
/// off, or that the whole log was rewritten with the key. Each of `witnesses` must have cosigned a head of the export; its
/// cosignatures are verified, others are counted.
///
/// # Errors
/// Fails when the file can't be read.
pub fn verify_export(
    export: impl BufRead,
    keys: &[Ed25519PublicKey],
    kept: &[String],
    witnesses: &[NoteKey],
) -> std::io::Result<AuditVerificationReport> {
    let mut check = ExportVerifier::new(keys, kept, witnesses);
    for (number, line) in (1..).zip(export.split(b'\n')) {
        let line = line?;
        if !line.is_empty() {
            check.line(number, &line);
        }
    }
    Ok(check.end())
}

/// A signature that is checked at the end, when all keys are known.
struct PendingSignature {
    note: String,
    /// Position that a fault is reported at.
    place: u64,
    /// Size of its head, unless it was kept elsewhere.
    size: Option<u64>,
    /// Whether the head is of the export and has the root of its entries.
    has_root: bool,
    whose: &'static str,
}

struct ExportVerifier {
    /// Keys that are trusted.
    keys: Vec<Ed25519PublicKey>,
    tree: IncrementalTree,
    /// Checkpoints stored elsewhere, by size; removed once they were compared.
    kept: BTreeMap<u64, Vec<LogCheckpoint>>,
    origin: Option<String>,
    pending: Vec<PendingSignature>,
    /// Changes of keys: the entry, the key before if it signed too, the key after.
    changes: Vec<(u64, Option<Ed25519PublicKey>, Ed25519PublicKey)>,
    /// Entries of restores with the key that signed each.
    restorers: Vec<(u64, Ed25519PublicKey)>,
    epoch: u64,
    witnesses: Vec<NoteKey>,
    report: AuditVerificationReport,
}

impl ExportVerifier {
    fn new(keys: &[Ed25519PublicKey], kept: &[String], witnesses: &[NoteKey]) -> Self {
        let cosigned = |key: &NoteKey| WitnessedSize { witness: key.name().to_owned(), size: None };
        let mut check = Self {
            keys: keys.to_vec(),
            tree: IncrementalTree::default(),
            kept: BTreeMap::new(),
            origin: None,
            pending: Vec::new(),
            changes: Vec::new(),
            restorers: Vec::new(),
            epoch: 1,
            witnesses: witnesses.to_vec(),
            report: AuditVerificationReport {
                cosigned: witnesses.iter().map(cosigned).collect(),
                ..AuditVerificationReport::default()
            },
        };
        for note in kept {
            match check.checkpoint(note) {
                Ok(head) => check.kept.entry(head.size).or_default().push(head),
                Err(what) => check.fault(1, None, format!("{KEPT}: {what}")),
            }
            let note = note.clone();
            check.pending.push(PendingSignature { note, place: 1, size: None, has_root: false, whose: KEPT });
        }
        check
    }

    fn fault(&mut self, seq: u64, audit_id: Option<&AuditId>, what: String) {
        self.report.faults += 1;
        // The first in the log's order, whenever it was found.
        if self.report.first_fault.as_ref().is_none_or(|first| seq < first.seq) {
            self.report.first_fault = Some(AuditFault { seq, audit_id: audit_id.cloned(), what });
        }
    }

    /// The checkpoint, whose signature is checked at the end.
    fn checkpoint(&mut self, note: &str) -> std::result::Result<LogCheckpoint, String> {
        let head = LogCheckpoint::parse(note).map_err(|error| error.to_string())?;
        let origin = self.origin.get_or_insert_with(|| head.origin.clone());
        if *origin == head.origin { Ok(head) } else { Err(format!("it is of another log, {:?}", head.origin)) }
    }

    fn line(&mut self, number: u64, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(AuditExportLine::Entry(entry)) => self.entry(&entry),
            Ok(AuditExportLine::Head { checkpoint }) => self.head(&checkpoint),
            Err(_) => self.fault(self.tree.size() + 1, None, format!("line {number} is neither an entry nor a head")),
        }
    }

    fn entry(&mut self, entry: &ExportedEntry) {
        let seq = self.tree.size() + 1;
        let id = Some(&entry.audit_id);
        if entry.seq != seq {
            self.fault(seq, id, format!("entry {seq} is missing or out of its place; entry {} stands here", entry.seq));
        }
        let leaf = leaf_hash_of(&entry.audit_id, &entry.source, entry.columns.as_deref());
        match &leaf {
            Err(what) => self.fault(seq, id, what.clone()),
            Ok(leaf) if hex::encode(leaf) != entry.leaf_hash => {
                self.fault(seq, id, "its columns are not those that were sealed".into());
            }
            Ok(_) => self.statement(seq, entry),
        }
        self.report.by_coordinator += u64::from(entry.source == EntrySource::Coordinator.word());
        self.report.reported += u64::from(entry.source == EntrySource::Reported.word());
        // Roots are computed over the sealed hashes, so that a changed row is one fault and not another one for each
        // later head.
        let sealed = <[u8; 32]>::try_from(hex::decode(&entry.leaf_hash).unwrap_or_default());
        self.tree.push(sealed.or(leaf.map_err(drop)).unwrap_or_default());
        for head in self.kept.remove(&self.tree.size()).unwrap_or_default() {
            if self.is_lost(&head) {
                self.report.lost_checkpoints += 1;
            } else {
                self.check_root(&head.root, KEPT);
            }
        }
    }

    /// What the service's own entry says of the log itself.
    fn statement(&mut self, seq: u64, entry: &ExportedEntry) {
        let own = entry.source == EntrySource::Service.word();
        let data = entry.columns.as_ref().and_then(|columns| columns.get(EVENT_DATA)?.text());
        match data.filter(|_| own).and_then(LogStatement::read) {
            None => {}
            Some(LogStatement::KeyRotated { old, new }) => self.change_key(seq, Some(old), new),
            Some(LogStatement::KeyReplaced { new }) => self.change_key(seq, None, new),
            Some(LogStatement::Restored { by, epoch, head_size, lost_size, reason }) => {
                self.restorers.push((seq, by));
                self.epoch = epoch;
                let restore = LogRestore { seq, epoch, restored_from: head_size, lost_until: lost_size, reason };
                self.report.restores.push(restore);
            }
        }
    }

    fn change_key(&mut self, seq: u64, old: Option<Ed25519PublicKey>, new: Ed25519PublicKey) {
        let change = KeyChange { seq, from: old.as_ref().map(Ed25519PublicKey::to_hex), to: new.to_hex() };
        self.report.key_changes.push(change);
        self.changes.push((seq, old, new));
    }

    /// Whether a restore lost what the checkpoint is over.
    fn is_lost(&self, head: &LogCheckpoint) -> bool {
        let lost = |restore: &LogRestore| {
            head.epoch < restore.epoch && head.size > restore.restored_from && head.size <= restore.lost_until
        };
        self.report.restores.iter().any(lost) && (head.size != self.tree.size() || self.tree.root() != head.root)
    }

    fn head(&mut self, note: &str) {
        let place = self.report.sealed + 1;
        let mut has_root = false;
        match self.checkpoint(note) {
            Err(what) => return self.fault(place, None, format!("a signed head: {what}")),
            Ok(head) if head.size != self.tree.size() => {
                let (size, here) = (head.size, self.tree.size());
                let what =
                    format!("a head over {size} entries stands after entry {here}: entries are missing or were added");
                self.fault(here.min(size) + 1, None, what);
            }
            Ok(head) if head.epoch != self.epoch => {
                let what = format!("a signed head is of epoch {}, the entries before it of {}", head.epoch, self.epoch);
                self.fault(place, None, what);
            }
            Ok(head) => has_root = self.check_root(&head.root, "a signed head"),
        }
        let (note, size) = (note.to_owned(), Some(self.tree.size()));
        self.pending.push(PendingSignature { note, place, size, has_root, whose: "a signed head" });
    }

    /// Compare the root of all entries so far; answers whether it is the same.
    fn check_root(&mut self, root: &NodeHash, whose: &str) -> bool {
        let (good, size) = (self.report.sealed + 1, self.tree.size());
        if self.tree.root() == *root {
            self.report.heads += 1;
            self.report.sealed = size;
        } else {
            let (said, made) = (STANDARD.encode(root), STANDARD.encode(self.tree.root()));
            let what =
                format!("the leaves of entries {good} to {size} are not those of {whose} ({said}, they make {made})");
            self.fault(good, None, what);
        }
        self.tree.root() == *root
    }

    /// Trust the keys that changes connect with trusted ones, forwards and backwards.
    fn trust_connected_keys(&mut self) {
        loop {
            let known = self.keys.len();
            for (_, old, new) in &self.changes {
                let Some(old) = old else { continue };
                match (self.keys.contains(old), self.keys.contains(new)) {
                    (true, false) => self.keys.push(new.clone()),
                    (false, true) => self.keys.push(old.clone()),
                    _ => {}
                }
            }
            if self.keys.len() == known {
                return;
            }
        }
    }

    /// Keys that may sign a head over `size` entries: a change takes all others their place.
    fn keys_for(&self, size: Option<u64>) -> Vec<&Ed25519PublicKey> {
        let Some(size) = size else { return self.keys.iter().collect() };
        let before = self.changes.iter().rev().find(|(seq, ..)| *seq <= size);
        let after = self.changes.iter().find(|(seq, ..)| *seq > size);
        let may = |key: &&Ed25519PublicKey| match (before, after) {
            (Some((_, _, new)), _) => *key == new,
            (None, Some((_, Some(old), _))) => *key == old,
            (None, _) => true,
        };
        self.keys.iter().filter(may).collect()
    }

    fn check_signatures(&mut self) {
        self.trust_connected_keys();
        for pending in std::mem::take(&mut self.pending) {
            let signed = LogCheckpoint::parse_verified_by(&pending.note, self.keys_for(pending.size));
            if let Err(error) = &signed {
                self.fault(pending.place, None, format!("{}: {error}", pending.whose));
            }
            self.check_cosignatures(&pending, signed.is_ok());
        }
        for (seq, by) in std::mem::take(&mut self.restorers) {
            if !self.keys.contains(&by) {
                self.fault(seq, None, "the entry of a restore is not signed by the log's key".into());
            }
        }
    }

    /// Verify what the given witnesses cosigned. A head counts for them if it is the log's own and has the root of its entries.
    fn check_cosignatures(&mut self, pending: &PendingSignature, is_signed: bool) {
        let Some((text, signatures)) = split_note(&pending.note) else { return };
        if pending.size.is_some() {
            self.report.cosignatures += count_cosignatures(signatures);
        }
        let counted = pending.size.filter(|_| is_signed && pending.has_root);
        let found = self.witnesses.iter().map(|key| verify_cosignatures(text, signatures, key));
        for (place, found) in found.collect::<Vec<_>>().into_iter().enumerate() {
            let cosigned = &mut self.report.cosigned[place];
            match found {
                Ok(found) if found.is_empty() => {}
                Ok(_) => cosigned.size = cosigned.size.max(counted),
                Err(error) => {
                    let what = format!("{}: the cosignature of {}: {error}", pending.whose, cosigned.witness);
                    self.fault(pending.place, None, what);
                }
            }
        }
    }

    fn end(mut self) -> AuditVerificationReport {
        self.check_signatures();
        let size = self.tree.size();
        let left: Vec<LogCheckpoint> = std::mem::take(&mut self.kept).into_values().flatten().collect();
        let (lost, missing): (Vec<_>, Vec<_>) = left.into_iter().partition(|head| self.is_lost(head));
        self.report.lost_checkpoints += lost.len() as u64;
        if let Some(kept) = missing.last() {
            let what =
                format!("entries {} to {} are missing: a checkpoint over them was kept elsewhere", size + 1, kept.size);
            self.fault(size + 1, None, what);
        }
        if size == 0 {
            self.fault(1, None, "there is no entry: an empty file proves nothing".into());
        }
        if self.report.sealed < size && self.report.first_fault.is_none() {
            let what = format!("no head is over entries {} to {size}", self.report.sealed + 1);
            self.fault(self.report.sealed + 1, None, what);
        }
        let missing = self.report.cosigned.iter().find(|cosigned| cosigned.size.is_none());
        if let (Some(missing), None) = (missing, &self.report.first_fault) {
            let what = format!("the witness {} has cosigned none of the heads with this key", missing.witness);
            self.fault(1, None, what);
        }
        self.report.entries = size;
        self.report.root = hex::encode(self.tree.root());
        self.report.valid = self.report.first_fault.is_none();
        self.report
    }
}

/// Place of `event_data` among the columns of an entry.
const EVENT_DATA: usize = 10;
/// What faults call a checkpoint that the caller passed.
const KEPT: &str = "a checkpoint that was kept elsewhere";
