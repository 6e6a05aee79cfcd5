//! SQL of table `am_profile_feed`, and of the jobs whose ends it tells.

use am_core::ids::AgentId;
use am_db::{
    Connection, FromRow as _, Result, Tx,
    codec::{JsonOr, Timestamp},
    row, sql,
};
use serde_json::Value;

row! {
    /// What ended of an agent's work.
    #[derive(Clone, Debug)]
    pub(super) struct FeedRow {
        pub number: i64,
        pub source: String,
        pub agent_id: AgentId,
        pub succeeded: Option<bool>,
        pub seconds: Option<f64>,
        pub cost: Option<f64>,
        pub efficiency: Option<f64>,
        pub ended_at: Timestamp,
    }
}

row! {
    /// What the coordinator has of a job that ended.
    pub(super) struct FinishedJob {
        pub miner: Option<String> = "assigned_miner_id",
        receipt: Value => JsonOr::into_inner,
    }
}

impl FinishedJob {
    /// What its miner asked, in AIT; `None`: its receipt says nothing of it.
    pub(super) fn price(&self) -> Option<f64> {
        let price = self.receipt.get("price")?;
        let price = price.as_f64().or_else(|| price.as_str()?.trim().parse().ok());
        price.filter(|price| price.is_finite() && *price >= 0.0)
    }
}

/// A job that ended, while it is there.
pub(super) async fn finished_job(conn: &mut Connection, id: &str) -> Result<Option<FinishedJob>> {
    let found = sql!("SELECT ", FinishedJob::COLUMNS, " FROM job WHERE id = $1");
    found.bind(id).fetch_optional(conn).await
}

pub(super) async fn has_feed(conn: &mut Connection) -> Result<bool> {
    sql!("SELECT 1 FROM am_profile_feed ORDER BY number LIMIT 1").exists(conn).await
}

/// The first rows, in the order of their ends' commits.
pub(super) async fn feed(conn: &mut Connection, limit: i64) -> Result<Vec<FeedRow>> {
    let found = sql!("SELECT ", FeedRow::COLUMNS, " FROM am_profile_feed ORDER BY number LIMIT $1");
    found.bind(limit).fetch_all(conn).await
}

/// Delete rows that were taken in.
pub(super) async fn delete_feed(tx: &mut Tx, numbers: &[i64]) -> Result<()> {
    let deleted = sql!("DELETE FROM am_profile_feed WHERE number IN ($1)").bind_all(numbers.iter().copied());
    deleted.execute(tx.conn().await?).await?;
    Ok(())
}
