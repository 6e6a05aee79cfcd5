//! Profiles of agents: what they reported, and what was measured of what they did.

mod chart;
mod checks;
mod measured;
mod model;
mod score;
mod series;
mod store;
mod summary;
mod worker;

use std::{collections::BTreeMap, sync::Arc};

use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::AgentId,
};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner::PrincipalName,
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use serde_json::json;

pub use self::{
    chart::draw_series,
    measured::{MeasuredWork, SmoothedFigure},
    model::{MetricsReceipt, MetricsReport, ProfileDocument, ProfileDraft, ProfileFilter, RankedProfile},
    series::{
        MetricChange, MetricSeries, MetricTrend, MetricWindow, ProfileAnalytics, SeriesOrder, SeriesPoint,
        SeriesResolution,
    },
    summary::{PerformanceSummary, ScoreDistribution, SummaryOrder, TopPerformer},
};
use self::{
    checks::{check_draft, check_report},
    model::{HistoryEntry, ProfileRecord, numbers, words},
    score::{overall_score, trends},
    store::ScorePlace,
};
use crate::{
    agents::{PerformanceCaller, check_visible, use_agent},
    error::{PerformanceError, Result},
};
use am_db::bulk_insert::RowBatch;

/// Entries of the history that the coordinator's row keeps: the series keep all.
const MAX_HISTORY: usize = 20;

/// Profiles of agents. Cheap to clone.
#[derive(Clone)]
pub struct ProfileService(Arc<ProfileInner>);

/// How miners are named: by their principal where the coordinator stores an API key. Cheap to clone.
#[derive(Clone)]
pub struct MinerNames(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl MinerNames {
    /// Create it from the function that knows the keys.
    pub fn new(shown: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(shown))
    }

    fn shown(&self, miner: &str) -> String {
        (self.0)(miner)
    }
}

struct ProfileInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    miners: MinerNames,
    /// Reports of metrics that were taken in.
    reports: Counter,
    /// Ends of agents' work that were taken in.
    facts: Counter,
    /// Changes of metrics that were told.
    changes: Counter,
}

impl ProfileService {
    /// Create the service; `miners` names those whose jobs end.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog, miners: MinerNames) -> Self {
        let (reports, facts, changes) = (Counter::default(), Counter::default(), Counter::default());
        Self(Arc::new(ProfileInner { db, clock, ids, audit, miners, reports, facts, changes }))
    }

    /// Register the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let inner = &self.0;
        registry.register("profile_reports", "Reports of metrics that were taken in", inner.reports.clone());
        registry.register("profile_facts", "Ends of agents' work that were taken into profiles", inner.facts.clone());
        registry.register("profile_changes", "Changes of metrics that were told", inner.changes.clone());
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    fn new_id(&self) -> String {
        self.0.ids.next("perf_", 12)
    }

    fn entry(&self, agent: &AgentId, action: &str, now: Timestamp) -> AuditEntry {
        AuditEntry::new(EventType::WorkflowUpdated, now).of("profile", action).data("agent_id", json!(agent))
    }

    /// Create the profile of an agent.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; [`PerformanceError::NotFound`] for another's agent;
    /// [`PerformanceError::Conflict`] where it has a profile.
    #[boxed]
    pub async fn create(
        &self,
        caller: &PerformanceCaller,
        draft: ProfileDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<ProfileDocument>> {
        check_draft(&draft)?;
        let (me, by, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let owner = use_agent(tx, &by, &draft.agent_id, now).await?;
            if store::find(tx.conn().await?, &draft.agent_id).await?.is_some() {
                let text = format!("Agent {} has a profile already", draft.agent_id);
                return Err(PerformanceError::Conflict("profile_exists", text));
            }
            let named = (draft.agent_id.clone(), draft.agent_type.clone());
            let mut record = store::new_record(me.new_id(), named, Some(owner.into_string()), now);
            let mut rows = RowBatch::default();
            if !draft.initial_metrics.is_empty() {
                apply(&mut record, &draft.initial_metrics, &serde_json::Value::Null, now);
                push_values(&mut rows, &record, draft.initial_metrics, now);
            }
            let entry = me.entry(&draft.agent_id, "created", now).by(&by.principal);
            me.0.audit.add_entry_rows(&mut rows, [entry.data("profile_id", json!(record.profile_id))]);
            store::save(tx, &record, true, rows).await?;
            document(tx.conn().await?, record, now).await
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// The profile of an agent.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`] where there is none, or the agent is another's.
    #[boxed]
    pub async fn get(&self, caller: &PerformanceCaller, agent: &AgentId) -> Result<ProfileDocument> {
        let mut conn = self.0.db.read().await?;
        let record = visible(&mut conn, caller, agent).await?;
        document(&mut conn, record, self.now()).await
    }

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
        let (me, by, agent, now) = (self.clone(), caller.clone(), agent.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let mut record = visible(tx.conn().await?, &by, &agent).await?;
            let MetricsReport { metrics, task_context } = report;
            apply(&mut record, &metrics, &json!(task_context), now);
            record.reports = Some(record.reports.unwrap_or(0) + 1);
            let entry = me.entry(&agent, "metrics_reported", now).by(&by.principal).reported();
            let entry = entry.data("metrics", json!(metrics.keys().collect::<Vec<_>>()));
            let mut rows = me.0.audit.rows(&[entry]);
            push_values(&mut rows, &record, metrics, now);
            store::save(tx, &record, false, rows).await?;
            let counted = me.0.reports.clone();
            tx.after_commit(move || {
                counted.inc();
            });
            let performance_metrics = numbers(&record.performance_metrics);
            Ok(MetricsReceipt {
                success: true,
                profile_id: record.profile_id,
                agent_id: record.agent_id,
                overall_score: Some(record.overall_score),
                performance_metrics,
                improvement_trends: numbers(&record.improvement_trends),
                updated_at: now,
            })
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// A page of the ranking: all profiles with a score for an admin, else the caller's; and how many there are, where that is known.
    ///
    /// # Errors
    /// As the database.
    #[boxed]
    pub async fn ranking(
        &self,
        caller: &PerformanceCaller,
        filter: &ProfileFilter,
    ) -> Result<(Vec<RankedProfile>, Option<i64>)> {
        let mut conn = self.0.db.read_list().await?;
        let after = match &filter.page.after {
            Some((_, agent)) => store::score_of(&mut conn, agent).await?.map(|score| (score, agent.clone())),
            None => None,
        };
        let bounds = (i64::from(filter.page.limit), i64::from(filter.page.offset));
        let owner = (!caller.is_admin).then(|| caller.principal.id());
        let kind = filter.agent_type.as_deref();
        let rows = store::ranking(&mut conn, owner.as_ref(), kind, after, bounds).await?;
        let total = if owner.is_none() { Some(store::count_ranked(&mut conn, kind).await?) } else { None };
        Ok((rows, total))
    }

    /// How many profiles have a score.
    ///
    /// # Errors
    /// As the database.
    #[boxed]
    pub async fn count(&self) -> Result<i64> {
        Ok(store::count_ranked(&mut *self.0.db.read_vital().await?, None).await?)
    }
}

/// An agent's profile that the caller may see.
async fn visible(conn: &mut Connection, caller: &PerformanceCaller, agent: &AgentId) -> Result<ProfileRecord> {
    check_visible(conn, caller, agent).await?;
    let missing = || PerformanceError::NotFound(format!("Agent {agent} has no profile"));
    store::find(conn, agent).await?.ok_or_else(missing)
}

/// Take reported metrics into a profile.
fn apply(record: &mut ProfileRecord, metrics: &BTreeMap<String, f64>, context: &serde_json::Value, now: Timestamp) {
    let mut all = numbers(&record.performance_metrics);
    all.extend(metrics.iter().map(|(name, value)| (name.clone(), *value)));
    record.overall_score = overall_score(&all).unwrap_or(0.0);
    record.performance_metrics = json!(all);
    let mut history: Vec<serde_json::Value> = record.performance_history.as_array().cloned().unwrap_or_default();
    let before = history.last().and_then(|entry| entry.get("metrics")).map(numbers).unwrap_or_default();
    record.improvement_trends = json!(trends(&before, metrics));
    history.push(json!(HistoryEntry {
        timestamp: now.stored().replace(' ', "T"),
        metrics: metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
        overall_score: json!(record.overall_score),
        context: context.clone(),
    }));
    let first = history.len().saturating_sub(MAX_HISTORY);
    record.performance_history = history.split_off(first).into();
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
}

/// The rows of values that were reported, and of the score that they gave.
fn push_values(rows: &mut RowBatch, record: &ProfileRecord, metrics: BTreeMap<String, f64>, now: Timestamp) {
    let mut values = metrics;
    values.insert("overall_score".to_owned(), record.overall_score);
    let owner = record.owner_id.as_deref().unwrap_or_default();
    store::push_metrics(rows, (&record.agent_id, owner), &values, now);
}

/// A profile as its readers see it.
async fn document(conn: &mut Connection, record: ProfileRecord, now: Timestamp) -> Result<ProfileDocument> {
    let performance_metrics = numbers(&record.performance_metrics);
    let score = (!performance_metrics.is_empty()).then_some(record.overall_score);
    let place = store::place_of(conn, &record.agent_type, record.overall_score).await?;
    let ScorePlace { ranked, better } = place;
    let work = record.measured.as_ref();
    let reported = |name: &str| performance_metrics.get(name).copied();
    let mut found = ProfileDocument {
        owner_id: record
            .owner_id
            .as_deref()
            .filter(|owner| !owner.is_empty())
            .map(|owner| PrincipalName::from_stored(owner).as_str().into()),
        overall_score: score,
        learning_strategies: words(&record.learning_strategies),
        specialization_areas: words(&record.specialization_areas),
        expertise_levels: numbers(&record.expertise_levels),
        resource_efficiency: numbers(&record.resource_efficiency),
        cost_per_task: work.and_then(MeasuredWork::cost_per_task).or_else(|| reported("cost_per_task")),
        throughput: work.and_then(|work| work.throughput(now)).or_else(|| reported("throughput")),
        average_latency: work.and_then(|work| work.latency.smoothed).or_else(|| reported("latency")),
        last_assessed: record.last_assessed,
        created_at: record.created_at,
        updated_at: record.updated_at,
        improvement_trends: numbers(&record.improvement_trends),
        ranking_position: score.map(|_| better + 1),
        percentile_rank: score.filter(|_| ranked > 0).map(|_| 100.0 * (ranked - better) as f64 / ranked as f64),
        ranked_profiles: ranked,
        reports: record.reports.unwrap_or(0),
        measured: record.measured,
        reasons: BTreeMap::new(),
        profile_id: record.profile_id,
        agent_id: record.agent_id,
        agent_type: record.agent_type,
        performance_metrics,
    };
    let mut explain = |missing: bool, name: &str, why: &str| {
        if missing {
            found.reasons.insert(name.to_owned(), why.to_owned());
        }
    };
    let unscored = "no metric was reported";
    explain(score.is_none(), "overall_score", unscored);
    explain(score.is_none(), "ranking_position", unscored);
    explain(score.is_none(), "percentile_rank", unscored);
    explain(
        found.cost_per_task.is_none(),
        "cost_per_task",
        "no priced assignment ended, nothing was spent, and none was reported",
    );
    explain(found.throughput.is_none(), "throughput", "no task has ended, and none was reported");
    explain(found.average_latency.is_none(), "average_latency", "no timed task has ended, and no latency was reported");
    explain(
        found.measured.is_none(),
        "measured",
        "no assignment, request, spending or measured allocation of the agent has ended",
    );
    Ok(found)
}
