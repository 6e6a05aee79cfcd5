//! Entries as they are searched: by every filter, a page at a time, in bounded work.

mod store;

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Audit, Error, Result,
    model::{EventType, SecurityLevel, Source, signature_valid},
};
use am_db::{
    codec::{Doc, Timestamp},
    owner::Owner,
};

/// Which entries to read; what is none restricts nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What happened.
    pub event_type: Option<EventType>,
    /// The workflow it concerns.
    pub workflow_id: Option<String>,
    /// The execution it concerns.
    pub execution_id: Option<String>,
    /// The step it concerns.
    pub step_id: Option<String>,
    /// Who did it, under every form that a row may hold.
    pub user: Option<Vec<String>>,
    /// How sensitive it is.
    pub security_level: Option<SecurityLevel>,
    /// Should somebody look?
    pub requires_investigation: Option<bool>,
    /// The least risk.
    pub risk_min: Option<i64>,
    /// The highest risk.
    pub risk_max: Option<i64>,
}

impl Filter {
    /// Is it only by what is counted?
    fn counted(&self) -> bool {
        self.workflow_id.is_none() && self.execution_id.is_none() && self.step_id.is_none() && self.user.is_none()
    }
}

/// Where a page begins, and how long it is.
#[derive(Clone, Debug)]
pub struct Page {
    /// After this entry.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
    /// Without the first so many.
    pub offset: u32,
}

/// A page of entries, newest first.
#[derive(Debug)]
pub struct Found {
    /// The entries.
    pub entries: Vec<Record>,
    /// How many there are in all; none: that would have to be counted one by one.
    pub total: Option<u64>,
    /// The entry after which the next page begins; none: there is no more. A page can be short, even empty, and have a next
    /// one: then so many entries were looked through (10 000) that the rest is left to it.
    pub next: Option<(Timestamp, String)>,
}

/// An entry as it is answered.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// `audit_` and hex digits.
    pub id: String,
    /// What happened.
    pub event_type: EventType,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The workflow it concerns.
    pub workflow_id: Option<String>,
    /// The execution it concerns.
    pub execution_id: Option<String>,
    /// The step it concerns.
    pub step_id: Option<String>,
    /// Who did it: a principal.
    pub user_id: Option<Owner>,
    /// How sensitive it is.
    pub security_level: SecurityLevel,
    /// The client's address.
    pub ip_address: Option<String>,
    /// What the client says it is.
    pub user_agent: Option<String>,
    /// What else is known.
    pub event_data: Doc,
    /// What was before.
    pub previous_state: Doc,
    /// What is now.
    pub new_state: Doc,
    /// 0 to 100.
    pub risk_score: i64,
    /// Should somebody look?
    pub requires_investigation: bool,
    /// What somebody wrote who looked.
    pub investigation_notes: Option<String>,
    /// SHA-256 of the data's canonical form.
    pub cryptographic_hash: Option<String>,
    /// Is the signature in the data good? None: there is none.
    pub signature_valid: Option<bool>,
    /// When it was written.
    pub created_at: Timestamp,
    /// Its place in the Merkle log; none: the coordinator wrote it, and it is not sealed yet.
    pub log_sequence: Option<i64>,
    /// Its leaf in the Merkle log, in hex.
    pub leaf_hash: Option<String>,
    /// Who wrote it.
    pub source: Source,
}

impl Record {
    /// What the coordinator says of a signature was never checked.
    fn checked(mut self) -> Self {
        if self.source == Source::Coordinator {
            let data = self.event_data.parse::<serde_json::Map<_, _>>().ok().flatten().unwrap_or_default();
            self.signature_valid = signature_valid(&data);
        }
        self
    }
}

/// How many entries there are, by what they are counted by.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// By what happened.
    pub by_event_type: BTreeMap<String, u64>,
    /// By risk: low to 30, medium to 70, high to 90, critical above.
    pub by_risk: BTreeMap<&'static str, u64>,
    /// By level.
    pub by_security_level: BTreeMap<String, u64>,
    /// Those that somebody should look at.
    pub requires_investigation: u64,
    /// The mean risk; none where there is no entry.
    pub average_risk: Option<f64>,
}

/// The band of a risk, as statistics name it.
pub fn risk_band(risk: i64) -> &'static str {
    match risk {
        ..=30 => "low",
        31..=70 => "medium",
        71..=90 => "high",
        _ => "critical",
    }
}

impl Audit {
    /// A page of the entries that match.
    ///
    /// # Errors
    /// As the database.
    pub async fn search(&self, filter: &Filter, page: &Page) -> Result<Found> {
        Ok(store::search(&mut *self.0.db.read().await?, filter, page).await?)
    }

    /// One entry.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: &str) -> Result<Record> {
        store::get(&mut *self.0.db.read().await?, id).await?.ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// How many entries there are, from counters that are kept as entries are written.
    ///
    /// # Errors
    /// As the database.
    pub async fn counts(&self) -> Result<Counts> {
        let rows = store::counts(&mut *self.0.db.read().await?).await?;
        let mut counts = Counts::default();
        for band in ["low", "medium", "high", "critical"] {
            counts.by_risk.insert(band, 0);
        }
        let mut risk = 0.0;
        for row in rows {
            counts.total += row.entries;
            risk += row.risk_score as f64 * row.entries as f64;
            *counts.by_event_type.entry(row.event_type).or_default() += row.entries;
            *counts.by_security_level.entry(row.security_level).or_default() += row.entries;
            *counts.by_risk.entry(risk_band(row.risk_score)).or_default() += row.entries;
            counts.requires_investigation += if row.requires_investigation { row.entries } else { 0 };
        }
        counts.average_risk = (counts.total > 0).then(|| risk / counts.total as f64);
        Ok(counts)
    }
}
