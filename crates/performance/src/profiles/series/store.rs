//! SQL of tables `am_profile_points`, `am_profile_buckets` and `am_profile_changes`.

use am_core::ids::AgentId;
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{Json, JsonText, Timestamp},
    insert, push_row, row, sql,
};

use super::model::{SeriesBucket, SeriesResolution};

/// Values that a read looks through for those of a series: some seconds of a service under load.
const MAX_UNCOUNTED: i64 = 20_000;

row! {
    SeriesBucket from "b." {
        begins_at,
        count,
        sum,
        min,
        max,
        sketch => Json::into_inner,
    }
}

/// A value as it came.
#[derive(Clone, Debug)]
pub(in crate::profiles) struct RawPoint {
    pub number: i64,
    pub agent_id: AgentId,
    pub metric: String,
    pub value: f64,
    pub happened_at: Timestamp,
}

/// Which bucket of which series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::profiles) struct BucketKey {
    pub agent: AgentId,
    pub metric: String,
    pub resolution: &'static str,
    pub begins_at: Timestamp,
}

/// The place up to which points are counted in buckets, or another of the worker's places.
pub(in crate::profiles) async fn place(conn: &mut Connection, name: &str) -> Result<i64> {
    sql!("SELECT place FROM am_profile_work WHERE name = $1").bind(name).fetch_value(conn).await
}

/// Move a place.
pub(in crate::profiles) async fn move_place(tx: &mut Tx, name: &str, place: i64) -> Result<()> {
    let moved = insert!("am_profile_work" { name: name, place: place } update on (name));
    moved.execute(tx.conn().await?).await?;
    Ok(())
}

/// The first values behind a place, in their order. They come as one value: each row by itself would be copied on its way from the
/// connection's thread.
pub(in crate::profiles) async fn points_after(conn: &mut Connection, place: i64, limit: i64) -> Result<Vec<RawPoint>> {
    let found = sql!(
        "SELECT {arrays {array p.number, p.agent_id, p.metric, {exact p.value}, p.happened_at}}
         FROM (SELECT number, agent_id, metric, value, happened_at FROM am_profile_points WHERE number > $1 ORDER BY number LIMIT $2)
             AS p",
    );
    let packed: String = found.bind(place).bind(limit).fetch_value(conn).await?;
    let fault = |error: &dyn std::fmt::Display| DatabaseError::InvalidValue(format!("am_profile_points: {error}"));
    let cells: Vec<(i64, AgentId, String, &str, &str)> =
        serde_json::from_str(&packed).map_err(|error| fault(&error))?;
    let point = |(number, agent_id, metric, value, happened_at): (i64, AgentId, String, &str, &str)| {
        let value = value.parse().map_err(|error| fault(&error))?;
        let happened_at = Timestamp::from_stored(happened_at).map_err(|error| fault(&error))?;
        Ok(RawPoint { number, agent_id, metric, value, happened_at })
    };
    let mut points = cells.into_iter().map(point).collect::<Result<Vec<_>>>()?;
    points.sort_unstable_by_key(|point| point.number);
    Ok(points)
}

/// The buckets of these keys that are stored, each with the place of its key.
pub(in crate::profiles) async fn stored_buckets(
    conn: &mut Connection,
    keys: &[&BucketKey],
) -> Result<Vec<(usize, SeriesBucket)>> {
    let cells: Vec<(&AgentId, &str, &str, String)> =
        keys.iter().map(|key| (&key.agent, key.metric.as_str(), key.resolution, key.begins_at.stored())).collect();
    let cells = serde_json::to_string(&cells).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    let found = sql!(
        "SELECT b.agent_id, b.metric, b.resolution, b.begins_at, b.count, b.sum, b.min, b.max, b.sketch
         FROM {records $1 agent_id:text metric:text resolution:text begins_at:timestamp} AS r
         {then} am_profile_buckets b ON b.agent_id = r.agent_id AND b.metric = r.metric AND b.resolution = r.resolution
             AND b.begins_at = r.begins_at",
    );
    let rows: Vec<KeyedBucket> = found.bind(cells).fetch_all(conn).await?;
    let place = |row: KeyedBucket| {
        let is_same = |key: &&BucketKey| {
            key.agent == row.agent_id
                && key.metric == row.metric
                && key.resolution == row.resolution
                && key.begins_at == row.begins_at
        };
        let at = keys.iter().position(is_same)?;
        let KeyedBucket { begins_at, count, sum, min, max, sketch, .. } = row;
        Some((at, SeriesBucket { begins_at, count, sum, min, max, sketch }))
    };
    Ok(rows.into_iter().filter_map(place).collect())
}

row! {
    /// A bucket with its key.
    struct KeyedBucket {
        agent_id: AgentId,
        metric: String,
        resolution: String,
        begins_at: Timestamp,
        count: i64,
        sum: f64,
        min: f64,
        max: f64,
        sketch: am_performance_math::quantile_sketch::QuantileSketch => Json::into_inner,
    }
}

/// Add the row of a bucket.
pub(in crate::profiles) fn push_bucket(rows: &mut RowBatch, key: &BucketKey, bucket: &SeriesBucket) -> Result<()> {
    let sketch =
        JsonText::from_value(&bucket.sketch).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    push_row!(rows, "am_profile_buckets" {
        agent_id: &key.agent,
        metric: &key.metric,
        resolution: key.resolution,
        begins_at: key.begins_at,
        count: bucket.count,
        sum: bucket.sum,
        min: bucket.min,
        max: bucket.max,
        sketch: sketch,
    } update on (agent_id, metric, resolution, begins_at));
    Ok(())
}

/// The buckets of a series in a time, the oldest first.
pub(in crate::profiles) async fn buckets(
    conn: &mut Connection,
    (agent, metric): (&AgentId, &str),
    resolution: SeriesResolution,
    (from, to): (Timestamp, Timestamp),
    limit: i64,
) -> Result<Vec<SeriesBucket>> {
    let found = sql!(
        "SELECT ",
        SeriesBucket::COLUMNS,
        " FROM am_profile_buckets b WHERE b.agent_id = $1 AND b.metric = $2 AND b.resolution = $3
             AND b.begins_at >= $4 AND b.begins_at < $5 ORDER BY b.begins_at LIMIT $6",
    );
    let found = found.bind(agent).bind(metric).bind(resolution).bind(from).bind(to).bind(limit);
    found.fetch_all(conn).await
}

/// Values of a series that no bucket counts yet, of the first [`MAX_UNCOUNTED`] of all series.
pub(in crate::profiles) async fn uncounted(
    conn: &mut Connection,
    (agent, metric): (&AgentId, &str),
    place: i64,
) -> Result<Vec<(Timestamp, f64)>> {
    let found = sql!(
        "SELECT p.happened_at, p.value
         FROM (SELECT agent_id, metric, happened_at, value FROM am_profile_points WHERE number > $3 ORDER BY number LIMIT $4) AS p
         WHERE p.agent_id = $1 AND p.metric = $2",
    );
    found.bind(agent).bind(metric).bind(place).bind(MAX_UNCOUNTED).fetch_all(conn).await
}

/// Values of a series as they came, the oldest first.
pub(in crate::profiles) async fn raw_points(
    conn: &mut Connection,
    (agent, metric): (&AgentId, &str),
    (from, to): (Timestamp, Timestamp),
    limit: i64,
) -> Result<Vec<(Timestamp, f64)>> {
    let found = sql!(
        "SELECT happened_at, value FROM am_profile_points {by am_profile_points_series}
         WHERE agent_id = $1 AND metric = $2 AND happened_at >= $3 AND happened_at < $4 ORDER BY happened_at, number LIMIT $5",
    );
    found.bind(agent).bind(metric).bind(from).bind(to).bind(limit).fetch_all(conn).await
}

/// Names of an agent's metrics behind one, in order.
pub(in crate::profiles) async fn metrics_of(conn: &mut Connection, agent: &AgentId, limit: i64) -> Result<Vec<String>> {
    let found = sql!("SELECT metric FROM am_profile_metrics WHERE agent_id = $1 ORDER BY metric LIMIT $2");
    found.bind(agent).bind(limit).fetch_values(conn).await
}

/// Delete counted points that happened before a time, of the first ones; answers how many. What was written before that time happened
/// before it, so none that matters stands behind one that stays.
pub(in crate::profiles) async fn delete_points(
    tx: &mut Tx,
    before: Timestamp,
    counted: i64,
    limit: i64,
) -> Result<u64> {
    let deleted = sql!(
        "DELETE FROM am_profile_points WHERE number IN (SELECT p.number
             FROM (SELECT number, happened_at FROM am_profile_points WHERE number <= $2 ORDER BY number LIMIT $3) AS p
             WHERE p.happened_at < $1)",
    );
    deleted.bind(before).bind(counted).bind(limit).execute(tx.conn().await?).await
}

/// Delete buckets of a resolution that begin before a time; answers how many.
pub(in crate::profiles) async fn delete_buckets(
    tx: &mut Tx,
    resolution: SeriesResolution,
    before: Timestamp,
    limit: i64,
) -> Result<u64> {
    let deleted = sql!(
        "DELETE FROM am_profile_buckets WHERE (agent_id, metric, resolution, begins_at) IN (SELECT b.agent_id, b.metric, b.resolution,
             b.begins_at FROM am_profile_buckets b {by am_profile_buckets_age} WHERE b.resolution = $1 AND b.begins_at < $2 LIMIT $3)",
    );
    deleted.bind(resolution).bind(before).bind(limit).execute(tx.conn().await?).await
}

/// When the last change of a series that was told begins.
pub(in crate::profiles) async fn last_change(
    conn: &mut Connection,
    agent: &AgentId,
    metric: &str,
) -> Result<Option<Timestamp>> {
    let last = sql!(
        "SELECT changed_at FROM am_profile_changes WHERE agent_id = $1 AND metric = $2 ORDER BY changed_at DESC LIMIT 1",
    );
    last.bind(agent).bind(metric).fetch_optional_value(conn).await
}

/// Note that a change is told.
pub(in crate::profiles) async fn insert_change(
    tx: &mut Tx,
    (agent, metric): (&AgentId, &str),
    (changed_at, before, after): (Timestamp, f64, f64),
    now: Timestamp,
) -> Result<bool> {
    let change = insert!("am_profile_changes" {
        agent_id: agent,
        metric: metric,
        changed_at: changed_at,
        before: before,
        after: after,
        found_at: now,
    } "ON CONFLICT (agent_id, metric, changed_at) DO NOTHING");
    Ok(change.execute(tx.conn().await?).await? > 0)
}
