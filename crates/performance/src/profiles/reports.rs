//! Reports of metrics, taken in together where several wait: they often are of the same few agents.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use am_audit::AuditLog;
use am_core::{boxed, ids::AgentId};
use am_db::{
    DatabaseError, Tx,
    codec::{JsonText, Timestamp},
    grouped_write::GroupedWrite,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    MetricsReceipt, MetricsReport, ProfileService,
    checks::check_report,
    model::{HistoryEntry, ProfileMetrics, ProfileRecord, numbers},
    no_profile, profile_entry,
    score::{overall_score, trends},
    store::{self, ProfileValues},
};
use crate::{
    agents::{PerformanceCaller, check_owner},
    error::{PerformanceError, Result},
};

/// Entries of the history that the coordinator's row keeps: the series keep all.
const MAX_HISTORY: usize = 20;

/// What takes in reports.
pub(super) type MetricsGroup = GroupedWrite<SentMetrics, MetricsReceipt, PerformanceError>;

/// A report that waits to be taken in.
pub(super) struct SentMetrics {
    caller: PerformanceCaller,
    agent: AgentId,
    report: MetricsReport,
    now: Timestamp,
}

impl ProfileService {
    /// Take in metrics of an agent.
    ///
    /// # Errors
    /// As [`ProfileService::create`]; [`PerformanceError::NotFound`] where there is no profile.
    #[boxed]
    pub async fn report(
        &self,
        caller: &PerformanceCaller,
        agent: &AgentId,
        report: MetricsReport,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MetricsReceipt>> {
        check_report(&report)?;
        let (db, group) = (&self.0.db, &self.0.metrics_group);
        let sent = SentMetrics { caller: caller.clone(), agent: agent.clone(), report, now: self.now() };
        if once.is_none() {
            return Ok(IdempotentResult::fresh(db.write_grouped(group, sent).await?));
        }
        let (group, sent) = (group.clone(), Arc::new(sent));
        db.write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| group.run_one(tx, sent).await).await
    }
}

/// The group of reports.
pub(super) fn metrics_group(audit: AuditLog, taken: Counter) -> MetricsGroup {
    GroupedWrite::new(async move |tx: &mut Tx, sent: &[Arc<SentMetrics>]| take_in(tx, sent, &audit, &taken).await)
}

/// Take in reports, in their order.
async fn take_in(
    tx: &mut Tx,
    sent: &[Arc<SentMetrics>],
    audit: &AuditLog,
    taken: &Counter,
) -> Result<Vec<Result<MetricsReceipt>>> {
    let agents = sent.iter().map(|one| &one.agent);
    let found = store::find_all(tx.conn().await?, agents).await?;
    let mut profiles: BTreeMap<AgentId, OpenProfile> =
        found.into_iter().map(|record| (record.agent_id.clone(), OpenProfile::of(record))).collect();
    let (mut results, mut entries, mut values, mut changed) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    for SentMetrics { caller, agent, report, now } in sent.iter().map(AsRef::as_ref) {
        let profile = match visible_of(tx, caller, agent, profiles.get_mut(agent)).await {
            Ok(profile) => profile,
            Err(error) => {
                results.push(Err(error));
                continue;
            }
        };
        let metrics = &report.metrics;
        profile.take(metrics, &report.task_context, *now)?;
        let record = &mut profile.record;
        record.reports = Some(record.reports.unwrap_or(0) + 1);
        changed.insert(agent);
        let entry = profile_entry(agent, "metrics_reported", *now).by(&caller.principal).reported();
        entries.push(entry.data("metrics", json!(metrics.keys().collect::<Vec<_>>())));
        values.push(ProfileValues::reported(record, metrics, *now));
        results.push(Ok(MetricsReceipt {
            success: true,
            profile_id: record.profile_id.clone(),
            agent_id: record.agent_id.clone(),
            overall_score: Some(record.overall_score),
            performance_metrics: numbers(&record.performance_metrics),
            improvement_trends: numbers(&record.improvement_trends),
            updated_at: *now,
        }));
    }
    let mut rows = audit.rows(&entries);
    store::push_metrics(&mut rows, &values);
    let changed: Vec<ProfileRecord> =
        changed.into_iter().filter_map(|agent| profiles.remove(agent)).map(OpenProfile::close).collect();
    store::push_changed(&mut rows, changed.iter())?;
    rows.execute(tx).await?;
    let (taken, count) = (taken.clone(), entries.len() as u64);
    tx.after_commit(move || {
        taken.inc_by(count);
    });
    Ok(results)
}

/// A profile that the caller may see. Who may not see its agent is told that, and not whether it has one.
async fn visible_of<'a>(
    tx: &mut Tx,
    caller: &PerformanceCaller,
    agent: &AgentId,
    found: Option<&'a mut OpenProfile>,
) -> Result<&'a mut OpenProfile> {
    match found {
        Some(profile) => check_owner(caller, agent, profile.record.agent_owner.as_deref()).map(|()| profile),
        None => Err(no_profile(tx.conn().await?, caller, agent).await),
    }
}

/// A profile whose history is read, to take in reports: once for all that come together.
pub(super) struct OpenProfile {
    record: ProfileRecord,
    history: Vec<Box<RawValue>>,
    /// Metrics of the last report.
    last: ProfileMetrics,
}

impl OpenProfile {
    /// Read its history. One that can't be read begins anew.
    pub(super) fn of(record: ProfileRecord) -> Self {
        let stored = record.performance_history.as_deref().and_then(|text| JsonText::from_stored(text).ok());
        let history: Vec<Box<RawValue>> = stored.and_then(|text| text.parse().ok().flatten()).unwrap_or_default();
        let last: Option<Value> = history.last().and_then(|entry| serde_json::from_str(entry.get()).ok());
        let last = last.as_ref().and_then(|entry| entry.get("metrics")).map(numbers).unwrap_or_default();
        Self { record, history, last }
    }

    /// Take in reported metrics.
    ///
    /// # Errors
    /// When the report has no JSON form.
    pub(super) fn take(&mut self, metrics: &ProfileMetrics, context: &impl Serialize, now: Timestamp) -> Result<()> {
        let record = &mut self.record;
        let mut all = numbers(&record.performance_metrics);
        all.extend(metrics.iter().map(|(name, value)| (name.clone(), *value)));
        record.overall_score = overall_score(&all).unwrap_or(0.0);
        record.performance_metrics = json!(all);
        record.improvement_trends = json!(trends(&self.last, metrics));
        self.last.clone_from(metrics);
        let entry = HistoryEntry {
            timestamp: now.stored().replace(' ', "T"),
            metrics,
            overall_score: record.overall_score,
            context,
        };
        let fault = |error: serde_json::Error| DatabaseError::InvalidValue(error.to_string());
        self.history.push(to_raw_value(&entry).map_err(fault)?);
        // What was measured stands before what was reported.
        let work = record.measured.as_ref();
        let set = |column: &mut f64, name: &str, is_measured: bool| {
            if let Some(value) = metrics.get(name).filter(|_| !is_measured) {
                *column = *value;
            }
        };
        let throughput = work.is_some_and(|work| work.tasks > 0);
        set(&mut record.throughput, "throughput", throughput);
        set(&mut record.average_latency, "latency", work.is_some_and(|work| work.latency.count > 0));
        set(&mut record.cost_per_task, "cost_per_task", work.is_some_and(|work| work.cost_per_task().is_some()));
        record.last_assessed = Some(now);
        record.updated_at = now;
        Ok(())
    }

    /// The record with the last entries of its history.
    pub(super) fn close(mut self) -> ProfileRecord {
        let first = self.history.len().saturating_sub(MAX_HISTORY);
        let kept: Vec<&str> = self.history[first..].iter().map(|entry| entry.get()).collect();
        self.record.performance_history = Some(format!("[{}]", kept.join(",")));
        self.record
    }
}
