//! The worker of profiles: takes in what ended of agents' work, counts values by minute, hour and day, tells changes, and removes
//! what is old. Each round's place moves in the transaction of its effect, so that nothing counts twice or not at all.

mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use am_core::{ambient::sleep_or_cancelled, ids::AgentId};
use am_db::{Connection, Tx, bulk_insert::RowBatch, codec::Timestamp, owner::is_principal};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::store::FeedRow;
use super::{
    MeasuredWork, ProfileService,
    measured::WorkFact,
    model::{ProfileRecord, numbers},
    profile_entry,
    series::{
        self, MetricChange, SeriesBucket, SeriesOrder, SeriesResolution,
        store::{self as series_store, RawPoint},
    },
    store::{self as profile_store, ProfileValues},
};
use crate::{agents::use_miner, error::Result};

/// Time between two rounds where nothing waits.
const ROUND_INTERVAL: Duration = Duration::from_millis(500);
/// Rounds after which old values are looked for: every five minutes.
const CLEAN_ROUNDS: u32 = 600;
/// Source of the ends of jobs.
const JOB_SOURCE: &str = "job";
/// Type of the profiles of miners.
const MINER_TYPE: &str = "miner";
/// Ends of work of one transaction.
const FEED_BATCH: i64 = 200;
/// Values of one transaction.
const POINT_BATCH: i64 = 1000;
/// Rows that are deleted in one transaction.
const DELETE_BATCH: i64 = 1000;
/// Days whose hours are looked at for changes.
const CHANGE_DAYS: i64 = 14;
/// Hours around a change that was told, within which it is the same one.
const SAME_CHANGE_HOURS: i64 = 3;

impl ProfileService {
    /// Take in what agents did, until the service stops.
    pub async fn work(self, stop: CancellationToken) {
        let mut rounds = 0;
        loop {
            match self.round(rounds % CLEAN_ROUNDS == 0).await {
                Ok(true) => {}
                Ok(false) => {
                    rounds += 1;
                    if !sleep_or_cancelled(&stop, ROUND_INTERVAL).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "profiles could not take in what agents did; it will be tried again");
                    if !sleep_or_cancelled(&stop, ROUND_INTERVAL * 4).await {
                        return;
                    }
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }

    /// One round; whether a whole batch was there, so that more waits. Where there was less, the next round comes later: under load
    /// there is always something, and a transaction for each few rows costs what they are worth.
    async fn round(&self, is_clean: bool) -> Result<bool> {
        let adopted = self.adopt().await?;
        let fed = self.take_feed().await?;
        let counted = self.count_points().await?;
        if is_clean {
            self.clean().await?;
        }
        Ok(adopted || fed || counted)
    }

    /// Give profiles that the coordinator made their rows here.
    async fn adopt(&self) -> Result<bool> {
        let mut conn = self.0.db.read().await?;
        let place = series_store::place(&mut conn, "coordinator").await?;
        let found = profile_store::made_by_others(&mut conn, place, FEED_BATCH).await?;
        drop(conn);
        let Some((last, _)) = found.last().cloned() else { return Ok(false) };
        let is_full = found.len() == FEED_BATCH as usize;
        self.0
            .db
            .write(async move |tx: &mut Tx| {
                for (_, agent) in found {
                    if profile_store::is_kept(tx.conn().await?, &agent).await? {
                        continue;
                    }
                    let Some(mut record) = profile_store::find(tx.conn().await?, &agent).await? else { continue };
                    let owner = profile_store::registered(tx.conn().await?, &agent).await?;
                    record.owner_id = owner.map(|(owner, _)| owner);
                    let mut rows = RowBatch::default();
                    profile_store::push_beside(&mut rows, &record)?;
                    let mut values = numbers(&record.performance_metrics);
                    if !values.is_empty() {
                        values.insert("overall_score".to_owned(), record.overall_score);
                    }
                    let (agent, at) = (record.agent_id, record.updated_at);
                    let owner = record.owner_id.unwrap_or_default();
                    profile_store::push_metrics(&mut rows, &[ProfileValues { agent, owner, metrics: values, at }]);
                    rows.execute(tx).await?;
                }
                series_store::move_place(tx, "coordinator", last).await?;
                Ok(is_full)
            })
            .await
    }

    /// Take in ends of work. Their rows are deleted in the same transaction.
    async fn take_feed(&self) -> Result<bool> {
        if !store::has_feed(&mut *self.0.db.read().await?).await? {
            return Ok(false);
        }
        let me = self.clone();
        let taken = self
            .0
            .db
            .write(async move |tx: &mut Tx| {
                let feed = store::feed(tx.conn().await?, FEED_BATCH).await?;
                let mut by_agent: BTreeMap<AgentId, Vec<FeedRow>> = BTreeMap::new();
                let numbers: Vec<i64> = feed.iter().map(|row| row.number).collect();
                for mut row in feed {
                    if row.source == JOB_SOURCE && !me.name_miner(tx, &mut row).await? {
                        continue;
                    }
                    by_agent.entry(row.agent_id.clone()).or_default().push(row);
                }
                for (agent, rows) in by_agent {
                    me.take_facts(tx, &agent, rows).await?;
                }
                store::delete_feed(tx, &numbers).await?;
                am_core::crash_point!("profiles.before_commit");
                Ok::<_, crate::PerformanceError>(numbers.len())
            })
            .await?;
        am_core::crash_point!("profiles.after_commit");
        self.0.facts.inc_by(taken as u64);
        Ok(taken == FEED_BATCH as usize)
    }

    /// Let the end of a job, which names the job, name the miner that did it, and what it asked. Returns false where there is no such
    /// miner, or where its name is another's.
    async fn name_miner(&self, tx: &mut Tx, row: &mut FeedRow) -> Result<bool> {
        let Some(job) = store::finished_job(tx.conn().await?, &row.agent_id).await? else { return Ok(false) };
        let Some(miner) = job.miner.as_deref().filter(|miner| !miner.is_empty()) else { return Ok(false) };
        row.agent_id = self.0.miners.shown(miner).into();
        row.cost = if row.succeeded == Some(true) { job.price() } else { None };
        use_miner(tx, &row.agent_id, self.now()).await
    }

    /// Take in ends of an agent's work. An agent without a profile gets one.
    async fn take_facts(&self, tx: &mut Tx, agent: &AgentId, facts: Vec<FeedRow>) -> Result<()> {
        let now = self.now();
        let found = profile_store::find(tx.conn().await?, agent).await?;
        let is_new = found.is_none();
        let mut record = match found {
            Some(record) => record,
            None if facts.iter().any(|fact| fact.source == JOB_SOURCE) => {
                let owner = is_principal(agent).then(|| agent.to_string());
                profile_store::new_record(self.new_id(), (agent.clone(), MINER_TYPE.to_owned()), owner, now)
            }
            None => self.own_record(tx.conn().await?, agent, now).await?,
        };
        let mut rows = RowBatch::default();
        let owner = record.owner_id.clone().unwrap_or_default();
        let mut work = record.measured.take().unwrap_or_default();
        let mut measured = Vec::new();
        for row in facts {
            let at = row.ended_at;
            let fact = WorkFact {
                source: row.source,
                succeeded: row.succeeded,
                seconds: row.seconds,
                cost: row.cost,
                efficiency: row.efficiency,
                at,
            };
            let metrics = work.add(&fact).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            measured.push(ProfileValues { agent: agent.clone(), owner: owner.clone(), metrics, at });
        }
        profile_store::push_metrics(&mut rows, &measured);
        set_measured(&mut record, work, now);
        if is_new {
            let entry = profile_entry(agent, "created", now).on_behalf_of(&owner);
            self.0.audit.add_entry_rows(&mut rows, [entry.data("profile_id", json!(record.profile_id))]);
        }
        Ok(profile_store::save(tx, &record, is_new, rows).await?)
    }

    /// The record of an agent that has no profile yet.
    async fn own_record(&self, conn: &mut Connection, agent: &AgentId, now: Timestamp) -> Result<ProfileRecord> {
        let (owner, kind) = profile_store::registered(conn, agent).await?.unzip();
        let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "hermes".to_owned());
        Ok(profile_store::new_record(self.new_id(), (agent.clone(), kind), owner, now))
    }

    /// Count values in buckets of minutes, hours and days; tell what has changed where an hour begins. Whether as many as one
    /// transaction counts were there.
    async fn count_points(&self) -> Result<bool> {
        let mut conn = self.0.db.read().await?;
        let place = series_store::place(&mut conn, "points").await?;
        // Points do not change, so they are read and added up before the write begins.
        let points = series_store::points_after(&mut conn, place, POINT_BATCH).await?;
        drop(conn);
        let Some(last) = points.last().map(|point| point.number) else { return Ok(false) };
        let is_full = points.len() == POINT_BATCH as usize;
        let added = buckets_of(points);
        let begun = self
            .0
            .db
            .write(async move |tx: &mut Tx| {
                if series_store::place(tx.conn().await?, "points").await? != place {
                    // Another process counted them.
                    return Ok(BTreeSet::new());
                }
                let keys: Vec<&series_store::BucketKey> = added.keys().collect();
                let stored = series_store::stored_buckets(tx.conn().await?, &keys).await?;
                let stored: BTreeMap<usize, SeriesBucket> = stored.into_iter().collect();
                let (mut rows, mut begun) = (RowBatch::default(), BTreeSet::new());
                for (at, (key, new)) in added.iter().enumerate() {
                    let mut bucket = new.clone();
                    match stored.get(&at) {
                        Some(before) => bucket.merge(before),
                        None if key.resolution == SeriesResolution::Hour.stored() => {
                            begun.insert((key.agent.clone(), key.metric.clone(), key.begins_at));
                        }
                        None => {}
                    }
                    series_store::push_bucket(&mut rows, key, &bucket)?;
                }
                rows.execute(tx).await?;
                series_store::move_place(tx, "points", last).await?;
                Ok::<_, crate::PerformanceError>(begun)
            })
            .await?;
        for (agent, metric, hour) in begun {
            self.tell_change(&agent, &metric, hour).await?;
        }
        Ok(is_full)
    }

    /// Tell the last change of a series' hours before this one, if it was not told.
    async fn tell_change(&self, agent: &AgentId, metric: &str, hour: Timestamp) -> Result<()> {
        let mut conn = self.0.db.read().await?;
        let order = SeriesOrder {
            metric: metric.to_owned(),
            from: Timestamp(hour.0 - chrono::Duration::days(CHANGE_DAYS)),
            to: hour,
            resolution: SeriesResolution::Hour,
            limit: 1000,
        };
        let buckets = series::read_buckets(&mut conn, agent, &order).await?;
        let Some(change) = series::changes_of(&buckets).pop() else { return Ok(()) };
        let told = series_store::last_change(&mut conn, agent, metric).await?;
        let same = chrono::Duration::hours(SAME_CHANGE_HOURS);
        if told.is_some_and(|told| change.at.0 <= told.0 + same) {
            return Ok(());
        }
        let owner = profile_store::find(&mut conn, agent).await?.and_then(|record| record.owner_id);
        drop(conn);
        let MetricChange { at, before, after } = change;
        let now = self.now();
        let entry = profile_entry(agent, "changed", now).on_behalf_of(owner.as_deref().unwrap_or_default());
        let entry = entry
            .data("owner_id", json!(owner))
            .data("metric", json!(metric))
            .data("changed_at", json!(at))
            .data("before", json!(before))
            .data("after", json!(after))
            .data("reason", json!(format!("{metric}: {before:.4} before, {after:.4} from {at} on")));
        let (me, agent, metric) = (self.clone(), agent.clone(), metric.to_owned());
        let work = async move |tx: &mut Tx| {
            if series_store::insert_change(tx, (&agent, &metric), (at, before, after), now).await? {
                me.0.audit.append(tx, vec![entry]).await?;
                me.0.changes.inc();
            }
            Ok(())
        };
        self.0.db.write(work).await
    }

    /// Delete what is older than it is kept.
    async fn clean(&self) -> Result<()> {
        let now = self.now();
        let limit =
            move |resolution: SeriesResolution| Timestamp(now.0 - chrono::Duration::days(resolution.kept_days()));
        loop {
            let work = async move |tx: &mut Tx| {
                let counted = series_store::place(tx.conn().await?, "points").await?;
                let raw = limit(SeriesResolution::Raw);
                let mut most = series_store::delete_points(tx, raw, counted, DELETE_BATCH).await?;
                for resolution in SeriesResolution::BUCKETS {
                    let deleted = series_store::delete_buckets(tx, resolution, limit(resolution), DELETE_BATCH).await?;
                    most = most.max(deleted);
                }
                Ok::<_, crate::PerformanceError>(most)
            };
            if self.0.db.write(work).await? < DELETE_BATCH.cast_unsigned() {
                return Ok(());
            }
        }
    }
}

/// Values as buckets of each resolution.
fn buckets_of(points: Vec<RawPoint>) -> BTreeMap<series_store::BucketKey, SeriesBucket> {
    let mut buckets = BTreeMap::new();
    for point in points {
        for resolution in SeriesResolution::BUCKETS {
            let begins_at = resolution.begin(point.happened_at);
            let key = series_store::BucketKey {
                agent: point.agent_id.clone(),
                metric: point.metric.clone(),
                resolution: resolution.stored(),
                begins_at,
            };
            buckets.entry(key).or_insert_with(|| SeriesBucket::empty(begins_at)).add(point.value);
        }
    }
    buckets
}

/// Take measured work into a profile's figures.
fn set_measured(record: &mut ProfileRecord, work: MeasuredWork, now: Timestamp) {
    if let Some(rate) = work.throughput(now) {
        record.throughput = rate;
    }
    if let Some(latency) = work.latency.smoothed {
        record.average_latency = latency;
    }
    if let Some(cost) = work.cost_per_task() {
        record.cost_per_task = cost;
    }
    if let Some(efficiency) = work.efficiency.smoothed {
        let mut shares = record.resource_efficiency.as_object().cloned().unwrap_or_default();
        shares.insert("allocation".to_owned(), json!(efficiency));
        record.resource_efficiency = shares.into();
    }
    record.measured = Some(work);
    record.last_assessed = Some(now);
    record.updated_at = now;
}
