//! The log as a file of JSON lines, and its verification offline, by nothing but the file, the key and what heads were
//! kept elsewhere.

use std::{collections::BTreeMap, io::BufRead};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    Audit, Result,
    checkpoint::Checkpoint,
    leaf,
    merkle::{Growing, Hash},
    model::Source,
    store,
};
use am_core::crypto::PublicKey;
use am_db::{Connection, raw::Raw};

/// An entry as it is exported: what the log says of it, and every column as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Its place, from 1.
    pub seq: u64,
    /// The entry's id, as the log has it.
    pub audit_id: String,
    /// Its leaf, in hex, as the log has it.
    pub leaf_hash: String,
    /// Who wrote it: service or coordinator.
    pub source: String,
    /// The columns of `agent_audit_logs` in their order; none: the row is gone.
    pub columns: Option<Vec<Raw>>,
}

/// A line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Entry(Exported),
    Head { checkpoint: String },
}

/// Entries that are read at once.
const PAGE: i64 = 500;

/// Reads an export from the database, piece by piece, so that no snapshot is held for long.
pub struct Export {
    audit: Audit,
    /// The last entry that was given out.
    after: u64,
    until: u64,
    /// Heads up to this size were given out.
    headed: u64,
}

impl Audit {
    /// Everything from entry `first` (1: from the beginning) to the last signed head; each head after the entries it is
    /// over.
    ///
    /// # Errors
    /// As the database.
    pub async fn export(&self, first: u64) -> Result<Export> {
        let head = store::head_until(&mut *self.0.db.read().await?, u64::MAX).await?;
        let after = first.saturating_sub(1);
        Ok(Export { audit: self.clone(), after, until: head.map_or(0, |head| head.size), headed: after })
    }
}

impl Export {
    /// The next lines, each ended; none: that was all.
    ///
    /// # Errors
    /// As the database.
    pub async fn next(&mut self) -> Result<Option<String>> {
        let mut conn = self.audit.0.db.read().await?;
        lines(&mut conn, &mut self.after, &mut self.headed, self.until).await
    }
}

pub(super) async fn lines(
    conn: &mut Connection,
    after: &mut u64,
    headed: &mut u64,
    until: u64,
) -> Result<Option<String>> {
    let left = until.saturating_sub(*after);
    let entries = store::exported(conn, *after, PAGE.min(left.cast_signed())).await?;
    let heads = match entries.last() {
        Some(last) => {
            store::heads(conn, *headed, PAGE).await?.into_iter().filter(|head| head.size <= last.seq).collect()
        }
        // Entries may have been taken out: what was signed over them is given out all the same.
        None => store::heads(conn, *headed, PAGE).await?,
    };
    let mut text = String::new();
    let mut put = |line: &Line| {
        // Texts, numbers and nothing always have a JSON form.
        text.push_str(&serde_json::to_string(line).unwrap_or_default());
        text.push('\n');
    };
    let mut heads = heads.into_iter().peekable();
    for entry in entries {
        *after = entry.seq;
        put(&Line::Entry(entry));
        while let Some(head) = heads.next_if(|head| head.size <= *after) {
            *headed = head.size;
            put(&Line::Head { checkpoint: head.checkpoint });
        }
    }
    for head in heads {
        *headed = head.size;
        put(&Line::Head { checkpoint: head.checkpoint });
    }
    Ok((!text.is_empty()).then_some(text))
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Is everything as it was signed?
    pub valid: bool,
    /// Entries that were read.
    pub entries: u64,
    /// Entries that a good head is over.
    pub sealed: u64,
    /// Of these, how many the coordinator wrote.
    pub by_coordinator: u64,
    /// Heads whose signature and root are good.
    pub heads: u64,
    /// The root over all entries, in hex.
    pub root: String,
    /// The first fault; none: there is none.
    pub first_fault: Option<FaultFound>,
    /// How many faults there are.
    pub faults: u64,
}

/// A fault of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultFound {
    /// The entry's place, from 1; of a head, the last entry that is known to be good and one.
    pub seq: u64,
    /// The entry, where it has an id.
    pub audit_id: Option<String>,
    /// What is wrong.
    pub what: String,
}

/// Verify an export from entry 1 on, line by line. `kept` are checkpoints that were kept elsewhere: only they can show that
/// the end was cut off, or all of it written anew with the key.
///
/// # Errors
/// When the file can't be read.
pub fn verify(export: impl BufRead, key: &PublicKey, kept: &[String]) -> std::io::Result<Report> {
    let mut check = Check::new(key, kept);
    for (number, line) in (1..).zip(export.split(b'\n')) {
        let line = line?;
        if !line.is_empty() {
            check.line(number, &line);
        }
    }
    Ok(check.end())
}

struct Check<'a> {
    key: &'a PublicKey,
    tree: Growing,
    /// Roots of kept heads by size, until they are met.
    kept: BTreeMap<u64, Vec<Hash>>,
    origin: Option<String>,
    report: Report,
}

impl<'a> Check<'a> {
    fn new(key: &'a PublicKey, kept: &[String]) -> Self {
        let mut check =
            Self { key, tree: Growing::default(), kept: BTreeMap::new(), origin: None, report: Report::default() };
        for note in kept {
            match check.believed(note) {
                Ok(head) => check.kept.entry(head.size).or_default().push(head.root),
                Err(what) => check.fault(1, None, format!("a checkpoint that was kept elsewhere: {what}")),
            }
        }
        check
    }

    fn fault(&mut self, seq: u64, audit_id: Option<&str>, what: String) {
        self.report.faults += 1;
        // The first in the log's order, whenever it was noticed.
        if self.report.first_fault.as_ref().is_none_or(|first| seq < first.seq) {
            self.report.first_fault = Some(FaultFound { seq, audit_id: audit_id.map(str::to_owned), what });
        }
    }

    fn believed(&mut self, note: &str) -> std::result::Result<Checkpoint, String> {
        let head = Checkpoint::verified(note, self.key).map_err(|error| error.to_string())?;
        let origin = self.origin.get_or_insert_with(|| head.origin.clone());
        if *origin == head.origin { Ok(head) } else { Err(format!("it is of another log, {:?}", head.origin)) }
    }

    fn line(&mut self, number: u64, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Line::Entry(entry)) => self.entry(&entry),
            Ok(Line::Head { checkpoint }) => self.head(&checkpoint),
            Err(_) => self.fault(self.tree.size() + 1, None, format!("line {number} is neither an entry nor a head")),
        }
    }

    fn entry(&mut self, entry: &Exported) {
        let seq = self.tree.size() + 1;
        let id = Some(entry.audit_id.as_str());
        if entry.seq != seq {
            self.fault(seq, id, format!("entry {seq} is missing or out of its place; entry {} stands here", entry.seq));
        }
        let leaf = leaf_of(entry);
        match &leaf {
            Err(what) => self.fault(seq, id, what.clone()),
            Ok(leaf) if hex::encode(leaf) != entry.leaf_hash => {
                self.fault(seq, id, "its columns are not those that were sealed".into());
            }
            Ok(_) => {}
        }
        self.report.by_coordinator += u64::from(entry.source == Source::Coordinator.word());
        // What was sealed is what roots are over; a row that was changed is one fault, and not one for each head after it.
        let sealed = <[u8; 32]>::try_from(hex::decode(&entry.leaf_hash).unwrap_or_default());
        self.tree.push(sealed.or(leaf.map_err(drop)).unwrap_or_default());
        if let Some(roots) = self.kept.remove(&self.tree.size()) {
            for root in roots {
                self.root(&root, "a checkpoint that was kept elsewhere");
            }
        }
    }

    fn head(&mut self, note: &str) {
        let place = self.report.sealed + 1;
        match self.believed(note) {
            Err(what) => self.fault(place, None, format!("a signed head: {what}")),
            Ok(head) if head.size != self.tree.size() => {
                let (size, here) = (head.size, self.tree.size());
                let what =
                    format!("a head over {size} entries stands after entry {here}: entries are missing or were added");
                self.fault(here.min(size) + 1, None, what);
            }
            Ok(head) => self.root(&head.root, "a signed head"),
        }
    }

    fn root(&mut self, root: &Hash, whose: &str) {
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
    }

    fn end(mut self) -> Report {
        let size = self.tree.size();
        if let Some((kept, _)) = self.kept.last_key_value() {
            let kept = *kept;
            self.fault(
                size + 1,
                None,
                format!("entries {} to {kept} are missing: a checkpoint over them was kept elsewhere", size + 1),
            );
        }
        if self.report.sealed < size && self.report.first_fault.is_none() {
            let what = format!("no head is over entries {} to {size}", self.report.sealed + 1);
            self.fault(self.report.sealed + 1, None, what);
        }
        self.report.entries = size;
        self.report.root = hex::encode(self.tree.root());
        self.report.valid = self.report.first_fault.is_none();
        self.report
    }
}

fn leaf_of(entry: &Exported) -> std::result::Result<Hash, String> {
    let columns = entry.columns.as_ref().ok_or("its row is gone")?;
    if columns.len() != leaf::COLUMNS.len() {
        return Err(format!("it has {} columns instead of {}", columns.len(), leaf::COLUMNS.len()));
    }
    if columns[0].text() != Some(&entry.audit_id) {
        return Err("its row has another id than was sealed".into());
    }
    let source = Source::from_word(&entry.source).ok_or_else(|| format!("its source {:?} is none", entry.source))?;
    Ok(leaf::hash(source, columns))
}
