//! Series of metrics as clients see them.

use am_core::ids::AgentId;
use am_db::codec::Timestamp;
use am_performance_math::quantile_sketch::QuantileSketch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

am_db::stored_enum! {
    /// How long a point of a series is.
    pub enum SeriesResolution {
        /// Each value by itself, kept for a day.
        Raw = "R" / "raw",
        /// Minutes, kept for 14 days.
        Minute = "M" / "minute",
        /// Hours, kept for 400 days.
        Hour = "H" / "hour",
        /// Days, kept for ten years.
        Day = "D" / "day",
    }
}

impl SeriesResolution {
    /// Resolutions of buckets.
    pub(in crate::profiles) const BUCKETS: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Seconds of a bucket.
    pub(in crate::profiles) fn seconds(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }

    /// Days for which its points are kept.
    pub(in crate::profiles) fn kept_days(self) -> i64 {
        match self {
            Self::Raw => 1,
            Self::Minute => 14,
            Self::Hour => 400,
            Self::Day => 3650,
        }
    }

    /// When the bucket of a moment begins.
    pub(in crate::profiles) fn begin(self, at: Timestamp) -> Timestamp {
        let seconds = self.seconds().max(1);
        let begin = at.0.timestamp().div_euclid(seconds) * seconds;
        Timestamp(chrono::DateTime::from_timestamp(begin, 0).unwrap_or(at.0))
    }
}

/// What series is asked for.
#[derive(Clone, Debug)]
pub struct SeriesOrder {
    /// Name of the metric.
    pub metric: String,
    /// Values not before this.
    pub from: Timestamp,
    /// Values before this.
    pub to: Timestamp,
    /// How long a point is.
    pub resolution: SeriesResolution,
    /// Points at most.
    pub limit: u32,
}

/// A point of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProfileSeriesPoint)]
pub struct SeriesPoint {
    /// When it begins; of a single value, when it came.
    pub at: Timestamp,
    /// Number of values.
    pub count: i64,
    /// Mean of the values.
    pub mean: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// Their median, within 1 %.
    pub median: f64,
    /// The value that 95 % do not exceed, within 1 %.
    pub p95: f64,
}

/// The series of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProfileSeries)]
pub struct MetricSeries {
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Name of the metric.
    pub metric: String,
    /// How long a point is.
    pub resolution: SeriesResolution,
    /// Begin of the time that was asked for.
    pub from: Timestamp,
    /// End of the time that was asked for.
    pub to: Timestamp,
    /// Points with values, the oldest first.
    pub points: Vec<SeriesPoint>,
    /// `from` of the points that follow; null: these are all.
    pub next_from: Option<Timestamp>,
}

/// A trend over a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct MetricTrend {
    /// Change an hour: the median of the slopes between all pairs of points (Theil-Sen).
    pub slope_per_hour: f64,
    /// Lower end of its 95 % interval; null: there are too few points.
    pub low: Option<f64>,
    /// Upper end; null as `low`.
    pub high: Option<f64>,
    /// Number of points, each the mean of an hour or a day.
    pub points: usize,
}

/// A change of a metric's mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct MetricChange {
    /// The hour or day from which the new mean holds.
    pub at: Timestamp,
    /// Mean before the change.
    pub before: f64,
    /// Mean after the change.
    pub after: f64,
}

/// What became of a metric over a time.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MetricWindow {
    /// Name of the metric.
    pub metric: String,
    /// Number of values.
    pub count: i64,
    /// Their mean; null: there is none.
    pub mean: Option<f64>,
    /// The smallest; null as `mean`.
    pub min: Option<f64>,
    /// The largest; null as `mean`.
    pub max: Option<f64>,
    /// Median, within 1 %; null as `mean`.
    pub p50: Option<f64>,
    /// The value that 90 % do not exceed, within 1 %; null as `mean`.
    pub p90: Option<f64>,
    /// The value that 95 % do not exceed, within 1 %; null as `mean`.
    pub p95: Option<f64>,
    /// The value that 99 % do not exceed, within 1 %; null as `mean`.
    pub p99: Option<f64>,
    /// Its trend; null: there are fewer than two points.
    pub trend: Option<MetricTrend>,
    /// Changes of its mean, the oldest first.
    pub changes: Vec<MetricChange>,
}

/// What became of an agent's metrics over a time.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ProfileAnalytics {
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Type of the agent.
    pub agent_type: String,
    /// Overall score; null: no metric was reported.
    pub overall_score: Option<f64>,
    /// Begin of the time, a whole hour, or a whole day for more than 14 days.
    pub from: Timestamp,
    /// End of the time.
    pub to: Timestamp,
    /// The metrics, by name: at most 20 where none is named.
    pub metrics: Vec<MetricWindow>,
}

/// A stored bucket of a series.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::profiles) struct SeriesBucket {
    pub begins_at: Timestamp,
    pub count: i64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub sketch: QuantileSketch,
}

impl SeriesBucket {
    /// A bucket without values.
    pub fn empty(begins_at: Timestamp) -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { begins_at, count: 0, sum: 0.0, min, max, sketch: QuantileSketch::default() }
    }

    /// Count a value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sketch.add(value);
    }

    /// Count what another bucket counts.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sketch.merge(&other.sketch);
    }

    /// The mean of its values, of which there is one at least.
    pub fn mean(&self) -> f64 {
        (self.sum / self.count as f64).clamp(self.min, self.max)
    }

    /// A quantile of its values, within their bounds.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        Some(self.sketch.quantile(share)?.clamp(self.min, self.max))
    }
}

impl From<SeriesBucket> for SeriesPoint {
    fn from(bucket: SeriesBucket) -> Self {
        let mean = bucket.mean();
        Self {
            at: bucket.begins_at,
            count: bucket.count,
            mean,
            min: bucket.min,
            max: bucket.max,
            median: bucket.quantile(0.5).unwrap_or(mean),
            p95: bucket.quantile(0.95).unwrap_or(mean),
        }
    }
}
