//! SQL of table `am_deployment_samples`.

use am_db::{Connection, FromRow as _, Result, Tx, bulk_insert::RowBatch, push_row, row, sql};

use super::series::{GRAINS, SampleGrain, SampleSums, sample_start};

row! {
    /// A sample's row.
    struct SampleRow {
        at: i64,
        requests: i64,
        errors: i64,
        response_seconds: f64,
        slowest_seconds: f64,
        cpu_seconds: f64,
        memory_bytes: f64,
        healthy: i64,
        instances: i64,
        looks: i64,
    }
}

impl From<SampleRow> for (i64, SampleSums) {
    fn from(row: SampleRow) -> Self {
        let sums = SampleSums {
            requests: row.requests,
            errors: row.errors,
            response_seconds: row.response_seconds,
            slowest_seconds: row.slowest_seconds,
            cpu_seconds: row.cpu_seconds,
            memory_bytes: row.memory_bytes,
            healthy: row.healthy,
            instances: row.instances,
            looks: row.looks,
        };
        (row.at, sums)
    }
}

/// Add what was measured at `at` (in seconds since 1970) to the sample of each grain, and remove what is kept no longer.
pub(crate) async fn add_sample(tx: &mut Tx, deployment: &str, at: i64, sums: &SampleSums) -> Result<()> {
    let mut rows = RowBatch::default();
    for grain in GRAINS {
        push_row!(rows, "am_deployment_samples" {
            deployment_id: deployment,
            grain: grain.seconds,
            at: sample_start(at, grain.seconds),
            requests: sums.requests,
            errors: sums.errors,
            response_seconds: sums.response_seconds,
            slowest_seconds: sums.slowest_seconds,
            cpu_seconds: sums.cpu_seconds,
            memory_bytes: sums.memory_bytes,
            healthy: sums.healthy,
            instances: sums.instances,
            looks: sums.looks,
        } "ON CONFLICT (deployment_id, grain, at) DO UPDATE SET
            requests = am_deployment_samples.requests + excluded.requests,
            errors = am_deployment_samples.errors + excluded.errors,
            response_seconds = am_deployment_samples.response_seconds + excluded.response_seconds,
            slowest_seconds = CASE WHEN excluded.slowest_seconds > am_deployment_samples.slowest_seconds
                THEN excluded.slowest_seconds ELSE am_deployment_samples.slowest_seconds END,
            cpu_seconds = am_deployment_samples.cpu_seconds + excluded.cpu_seconds,
            memory_bytes = am_deployment_samples.memory_bytes + excluded.memory_bytes,
            healthy = am_deployment_samples.healthy + excluded.healthy,
            instances = am_deployment_samples.instances + excluded.instances,
            looks = am_deployment_samples.looks + excluded.looks");
    }
    rows.execute(tx).await?;
    for grain in GRAINS {
        let old = sql!("DELETE FROM am_deployment_samples WHERE deployment_id = $1 AND grain = $2 AND at < $3");
        let old = old.bind(deployment).bind(grain.seconds).bind(at - grain.kept_seconds);
        old.execute(tx.conn().await?).await?;
    }
    Ok(())
}

/// The samples of a grain from a time on, the oldest first.
pub(crate) async fn samples_since(
    conn: &mut Connection,
    deployment: &str,
    grain: SampleGrain,
    since: i64,
) -> Result<Vec<(i64, SampleSums)>> {
    let found = sql!(
        "SELECT ",
        SampleRow::COLUMNS,
        " FROM am_deployment_samples WHERE deployment_id = $1 AND grain = $2 AND at >= $3 ORDER BY at",
    );
    let rows: Vec<SampleRow> = found.bind(deployment).bind(grain.seconds).bind(since).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}
