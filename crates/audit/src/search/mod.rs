//! Search of entries: by every filter, a page at a time, with bounded work.

mod store;

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    AuditError, AuditLog, Result,
    model::{EntrySource, EventType, SecurityLevel, verify_embedded_signature},
};
use am_core::{
    boxed,
    ids::{AuditId, ExecutionId, StepId, WorkflowId},
    strict_json::parse_strict_json,
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner::PrincipalName,
    page::TimeSpan,
};

/// Filter for entries. `None` members restrict nothing.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Type of the event.
    pub event_type: Option<EventType>,
    /// Id of the workflow concerned.
    pub workflow_id: Option<WorkflowId>,
    /// Id of the execution concerned; null if none.
    pub execution_id: Option<ExecutionId>,
    /// Id of the step concerned.
    pub step_id: Option<StepId>,
    /// Acting user, under every form that a row may hold.
    pub user: Option<Vec<String>>,
    /// Security level of the entry.
    pub security_level: Option<SecurityLevel>,
    /// Whether the entry requires investigation.
    pub requires_investigation: Option<bool>,
    /// Lowest risk score.
    pub risk_min: Option<i64>,
    /// Highest risk score.
    pub risk_max: Option<i64>,
    /// When the entry was made.
    pub created: TimeSpan,
}

impl AuditFilter {
    /// Whether the filter uses only members for which counters are kept.
    fn counted(&self) -> bool {
        self.workflow_id.is_none()
            && self.execution_id.is_none()
            && self.step_id.is_none()
            && self.user.is_none()
            && self.created.is_unbounded()
    }
}

/// Range of a search: start and length of the page.
#[derive(Clone, Debug)]
pub struct AuditPageRequest {
    /// Id of the entry after which the page begins; `None` begins at the first.
    pub after: Option<AuditId>,
    /// Whether the oldest entry comes first; otherwise the newest does.
    pub oldest_first: bool,
    /// Largest number of entries.
    pub limit: u32,
    /// Number of entries to skip.
    pub offset: u32,
}

/// A page of entries.
#[derive(Debug)]
pub struct SearchPage {
    /// Entries of the page.
    pub entries: Vec<AuditEntryView>,
    /// Total number of matches; `None` when they would have to be counted one by one.
    pub total: Option<u64>,
    /// Position after which the next page begins; `None` at the end. A page can be short or even empty and still have a
    /// next one: a search stops after reading 10 000 entries and leaves the rest to the next page.
    pub next: Option<(Timestamp, AuditId)>,
}

/// An entry in the form shown to clients.
#[derive(Clone, Debug, Serialize)]
pub struct AuditEntryView {
    /// Id: `audit_` and hex digits.
    pub id: AuditId,
    /// Type of the event.
    pub event_type: EventType,
    /// Time of the event.
    pub timestamp: Timestamp,
    /// Id of the workflow concerned; null if none.
    pub workflow_id: Option<WorkflowId>,
    /// Id of the execution concerned.
    pub execution_id: Option<ExecutionId>,
    /// Id of the step concerned; null if none.
    pub step_id: Option<StepId>,
    /// Principal of the acting user; null when unknown.
    pub user_id: Option<PrincipalName>,
    /// Security level of the entry.
    pub security_level: SecurityLevel,
    /// IP address of the client; null when unknown.
    pub ip_address: Option<String>,
    /// User agent stated by the client; null when it stated none.
    pub user_agent: Option<String>,
    /// Further data of the event.
    pub event_data: JsonText,
    /// State before the change; null if none.
    pub previous_state: JsonText,
    /// State after the change; null if none.
    pub new_state: JsonText,
    /// Risk score from 0 to 100.
    pub risk_score: i64,
    /// Whether the entry requires investigation.
    pub requires_investigation: bool,
    /// Notes of an investigation; null if none.
    pub investigation_notes: Option<String>,
    /// SHA-256 of the data's canonical form, in hex; null when it was not computed.
    pub cryptographic_hash: Option<String>,
    /// Whether the signature within the data is valid; null when there is none.
    pub signature_valid: Option<bool>,
    /// Time when the entry was written.
    pub created_at: Timestamp,
    /// Position in the Merkle log, from 1; null for an entry of the coordinator that is not sealed yet.
    pub log_sequence: Option<i64>,
    /// Leaf hash in the Merkle log, in hex; null before the entry is sealed.
    pub leaf_hash: Option<String>,
    /// Writer of the entry.
    pub source: EntrySource,
}

impl AuditEntryView {
    /// Verify the signature of a coordinator's entry, because the coordinator stores this column without checking.
    fn checked(mut self) -> Self {
        if self.source == EntrySource::Coordinator {
            let data = self.event_data.parse::<serde_json::Map<_, _>>().ok().flatten().unwrap_or_default();
            // A text with two meanings can't be what was signed.
            let text = self.event_data.get().map_or("null", |raw| raw.get());
            let has_one_meaning = parse_strict_json(text.as_bytes()).is_ok();
            self.signature_valid = verify_embedded_signature(&data).map(|good| good && has_one_meaning);
        }
        self
    }
}

/// Numbers of entries by several properties.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = AuditCounts)]
pub struct AuditCounts {
    /// Number of all entries.
    pub total: u64,
    /// Numbers by event type.
    pub by_event_type: BTreeMap<String, u64>,
    /// Numbers by risk band: low to 30, medium to 70, high to 90, critical above.
    pub by_risk: BTreeMap<&'static str, u64>,
    /// Numbers by security level.
    pub by_security_level: BTreeMap<String, u64>,
    /// Number of entries that require investigation.
    pub requires_investigation: u64,
    /// Mean risk score; `None` without entries.
    pub average_risk: Option<f64>,
}

/// Name of the band that a risk score belongs to: low, medium, high or critical.
pub fn risk_band(risk: i64) -> &'static str {
    match risk {
        ..=30 => "low",
        31..=70 => "medium",
        71..=90 => "high",
        _ => "critical",
    }
}

impl AuditLog {
    /// A page of the entries that match the filter.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn search(&self, filter: &AuditFilter, page: &AuditPageRequest) -> Result<SearchPage> {
        Ok(store::search(&mut *self.0.db.read_list().await?, filter, page).await?)
    }

    /// An entry by its id.
    ///
    /// # Errors
    /// Returns [`AuditError::NotFound`] when it does not exist.
    #[boxed]
    pub async fn get(&self, id: &AuditId) -> Result<AuditEntryView> {
        store::get(&mut *self.0.db.read().await?, id).await?.ok_or_else(|| AuditError::NotFound(id.clone()))
    }

    /// Numbers of entries, read from counters that are updated with each entry.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn counts(&self) -> Result<AuditCounts> {
        let rows = store::read_counters(&mut *self.0.db.read().await?).await?;
        let mut counts = AuditCounts::default();
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
