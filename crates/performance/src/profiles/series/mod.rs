//! Series of metrics: values as they came, and by minute, hour and day; trends and changes of them.

mod model;
pub(super) mod store;

use std::collections::BTreeMap;

use am_core::{boxed, ids::AgentId};
use am_db::{Connection, codec::Timestamp};
use am_performance_math::trend::{change_points, robust_slope};

pub(super) use self::model::SeriesBucket;
pub use self::model::{
    MetricChange, MetricSeries, MetricTrend, MetricWindow, ProfileAnalytics, SeriesOrder, SeriesPoint, SeriesResolution,
};
use super::{ProfileService, visible};
use crate::{
    agents::{PerformanceCaller, check_visible},
    error::Result,
};

/// Metrics of an answer that names none.
const MAX_METRICS: i64 = 20;
/// Days of a time that is looked at by the hour.
const HOURLY_DAYS: i64 = 14;
/// Times that a series is read at most, because values were counted meanwhile.
const MAX_READINGS: usize = 5;
/// Buckets that are read of one series.
const MAX_BUCKETS: i64 = 2500;

impl ProfileService {
    /// The series of a metric of an agent.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`](crate::PerformanceError::NotFound) for another's agent.
    #[boxed]
    pub async fn series(
        &self,
        caller: &PerformanceCaller,
        agent: &AgentId,
        order: SeriesOrder,
    ) -> Result<MetricSeries> {
        let mut conn = self.0.db.read_list().await?;
        check_visible(&mut conn, caller, agent).await?;
        let limit = i64::from(order.limit);
        let mut found = match order.resolution {
            SeriesResolution::Raw => {
                let named = (agent, order.metric.as_str());
                let values = store::raw_points(&mut conn, named, (order.from, order.to), limit + 1).await?;
                values.into_iter().map(|(at, value)| bucket_of(at, value)).collect()
            }
            _ => read_buckets(&mut conn, agent, &order).await?,
        };
        let next_from = found.get(order.limit as usize).map(|bucket: &SeriesBucket| bucket.begins_at);
        found.truncate(order.limit as usize);
        let points = found.into_iter().map(SeriesPoint::from).collect();
        let SeriesOrder { metric, from, to, resolution, .. } = order;
        Ok(MetricSeries { agent_id: agent.clone(), metric, resolution, from, to, points, next_from })
    }

    /// What became of an agent's metrics, or of one of them, over a time.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`](crate::PerformanceError::NotFound) where there is no profile, or the agent is another's.
    #[boxed]
    pub async fn analytics(
        &self,
        caller: &PerformanceCaller,
        agent: &AgentId,
        metric: Option<String>,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<ProfileAnalytics> {
        let mut conn = self.0.db.read_list().await?;
        let record = visible(&mut conn, caller, agent).await?;
        let names = match metric {
            Some(metric) => vec![metric],
            None => store::metrics_of(&mut conn, agent, MAX_METRICS).await?,
        };
        let is_long = to.0 - from.0 > chrono::Duration::days(HOURLY_DAYS);
        let resolution = if is_long { SeriesResolution::Day } else { SeriesResolution::Hour };
        let from = resolution.begin(from);
        let mut metrics = Vec::with_capacity(names.len());
        for metric in names {
            let limit = u32::try_from(MAX_BUCKETS).unwrap_or(u32::MAX);
            let order = SeriesOrder { metric, from, to, resolution, limit };
            let found = read_buckets(&mut conn, agent, &order).await?;
            metrics.push(window_of(order.metric, &found));
        }
        let has_score = record.performance_metrics.as_object().is_some_and(|metrics| !metrics.is_empty());
        let overall_score = has_score.then_some(record.overall_score);
        let (agent_id, agent_type) = (record.agent_id, record.agent_type);
        Ok(ProfileAnalytics { agent_id, agent_type, overall_score, from, to, metrics })
    }
}

fn bucket_of(at: Timestamp, value: f64) -> SeriesBucket {
    let mut bucket = SeriesBucket::empty(at);
    bucket.add(value);
    bucket
}

/// The buckets of a series, one more than asked for, with values that the worker has not counted yet.
pub(super) async fn read_buckets(
    conn: &mut Connection,
    agent: &AgentId,
    order: &SeriesOrder,
) -> Result<Vec<SeriesBucket>> {
    let named = (agent, order.metric.as_str());
    let from = order.resolution.begin(order.from);
    let limit = i64::from(order.limit) + 1;
    let mut all: BTreeMap<Timestamp, SeriesBucket> = BTreeMap::new();
    for _ in 0..MAX_READINGS {
        let place = store::place(conn, "points").await?;
        let new = store::uncounted(conn, named, place).await?;
        let stored = store::buckets(conn, named, order.resolution, (from, order.to), limit).await?;
        all = stored.into_iter().map(|bucket| (bucket.begins_at, bucket)).collect();
        // Where values were counted in between, some of these may be in the buckets.
        if store::place(conn, "points").await? != place {
            continue;
        }
        for (at, value) in new {
            let begin = order.resolution.begin(at);
            if begin >= from && begin < order.to {
                all.entry(begin).or_insert_with(|| SeriesBucket::empty(begin)).add(value);
            }
        }
        break;
    }
    Ok(all.into_values().take(order.limit as usize + 1).collect())
}

/// The figures of a series' buckets.
fn window_of(metric: String, buckets: &[SeriesBucket]) -> MetricWindow {
    let mut all = SeriesBucket::empty(Timestamp(chrono::DateTime::UNIX_EPOCH));
    buckets.iter().for_each(|bucket| all.merge(bucket));
    let first = buckets.first().map(|bucket| bucket.begins_at);
    let hours = |at: Timestamp| first.map_or(0.0, |first| at.seconds_since(first) / 3600.0);
    let points: Vec<(f64, f64)> = buckets.iter().map(|bucket| (hours(bucket.begins_at), bucket.mean())).collect();
    let has_values = all.count > 0;
    let known = |value: f64| has_values.then_some(value);
    MetricWindow {
        metric,
        count: all.count,
        mean: if has_values { Some(all.mean()) } else { None },
        min: known(all.min),
        max: known(all.max),
        p50: all.quantile(0.5),
        p90: all.quantile(0.9),
        p95: all.quantile(0.95),
        p99: all.quantile(0.99),
        trend: robust_slope(&points).map(|slope| MetricTrend {
            slope_per_hour: slope.slope,
            low: slope.low,
            high: slope.high,
            points: slope.points,
        }),
        changes: changes_of(buckets),
    }
}

/// The changes of the mean of a series' buckets.
pub(super) fn changes_of(buckets: &[SeriesBucket]) -> Vec<MetricChange> {
    // The last ones count, and their indexes.
    let last = &buckets[buckets.len().saturating_sub(am_performance_math::trend::MAX_CHANGE_VALUES)..];
    let means: Vec<f64> = last.iter().map(SeriesBucket::mean).collect();
    let change = |change: am_performance_math::trend::ChangePoint| {
        Some(MetricChange { at: last.get(change.at)?.begins_at, before: change.before, after: change.after })
    };
    change_points(&means).into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(number: i64, values: &[f64]) -> SeriesBucket {
        let at = Timestamp(chrono::DateTime::from_timestamp(1_800_000_000 + number * 3600, 0).unwrap());
        let mut bucket = SeriesBucket::empty(SeriesResolution::Hour.begin(at));
        values.iter().for_each(|value| bucket.add(*value));
        bucket
    }

    #[test]
    fn a_window_has_the_figures_of_all_its_values() {
        let buckets: Vec<SeriesBucket> = (0..20).map(|at| hour(at, &[at as f64, at as f64 + 2.0])).collect();
        let window = window_of("latency".to_owned(), &buckets);
        assert_eq!((window.count, window.mean, window.min, window.max), (40, Some(10.5), Some(0.0), Some(21.0)));
        let trend = window.trend.unwrap();
        assert!((trend.slope_per_hour - 1.0).abs() < 1e-12 && trend.points == 20, "{trend:?}");
        assert!((window.p50.unwrap() - 10.5).abs() <= 0.7, "{window:?}");
        let empty = window_of("latency".to_owned(), &[]);
        assert_eq!((empty.count, empty.mean, empty.p99, empty.trend), (0, None, None, None));
    }

    #[test]
    fn a_change_begins_with_its_hour() {
        let buckets: Vec<SeriesBucket> =
            (0..24).map(|at| hour(at, &[if at < 12 { 1.0 } else { 9.0 } + (at % 3) as f64 * 0.1])).collect();
        let found = changes_of(&buckets);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].at, buckets[12].begins_at);
    }
}
