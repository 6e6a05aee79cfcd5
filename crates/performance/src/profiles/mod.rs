//! Profiles of agents: what they reported, and what was measured of what they did.

mod chart;
mod checks;
mod measured;
mod model;
mod reports;
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
    checks::check_draft,
    model::{ProfileRecord, numbers, words},
    reports::{MetricsGroup, OpenProfile, metrics_group},
    store::{PlacedProfile, ProfileValues, ScorePlace},
};
use crate::{
    agents::{PerformanceCaller, check_owner, check_visible, use_agent},
    error::{PerformanceError, Result},
};
use am_db::bulk_insert::RowBatch;

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
    /// What takes in reports of metrics.
    metrics_group: MetricsGroup,
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
        let metrics_group = metrics_group(audit.clone(), reports.clone());
        Self(Arc::new(ProfileInner { db, clock, ids, audit, miners, metrics_group, reports, facts, changes }))
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
                let mut profile = OpenProfile::of(record);
                profile.take(&draft.initial_metrics, &serde_json::Value::Null, now)?;
                record = profile.close();
                store::push_metrics(&mut rows, &[ProfileValues::reported(&record, &draft.initial_metrics, now)]);
            }
            let entry = profile_entry(&draft.agent_id, "created", now).by(&by.principal);
            me.0.audit.add_entry_rows(&mut rows, [entry.data("profile_id", json!(record.profile_id))]);
            store::save(tx, &record, true, rows).await?;
            let place = store::place_of(tx.conn().await?, &record.agent_type, record.overall_score).await?;
            Ok(document(record, place, now))
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
        let Some(PlacedProfile { record, place }) = store::find_placed(&mut conn, agent).await? else {
            return Err(no_profile(&mut conn, caller, agent).await);
        };
        check_owner(caller, agent, record.agent_owner.as_deref())?;
        let place = match place {
            Some(place) => place,
            None => store::place_of(&mut conn, &record.agent_type, record.overall_score).await?,
        };
        Ok(document(record, place, self.now()))
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

/// An entry of the log about an agent's profile.
fn profile_entry(agent: &AgentId, action: &str, now: Timestamp) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, now).of("profile", action).data("agent_id", json!(agent))
}

/// An agent's profile that the caller may see.
async fn visible(conn: &mut Connection, caller: &PerformanceCaller, agent: &AgentId) -> Result<ProfileRecord> {
    match store::find(conn, agent).await? {
        Some(record) => check_owner(caller, agent, record.agent_owner.as_deref()).map(|()| record),
        None => Err(no_profile(conn, caller, agent).await),
    }
}

/// Why an agent that has no profile is not shown to the caller.
async fn no_profile(conn: &mut Connection, caller: &PerformanceCaller, agent: &AgentId) -> PerformanceError {
    match check_visible(conn, caller, agent).await {
        Ok(()) => PerformanceError::NotFound(format!("Agent {agent} has no profile")),
        Err(error) => error,
    }
}

/// A profile as its readers see it.
fn document(record: ProfileRecord, place: ScorePlace, now: Timestamp) -> ProfileDocument {
    let performance_metrics = numbers(&record.performance_metrics);
    let score = (!performance_metrics.is_empty()).then_some(record.overall_score);
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
    found
}
