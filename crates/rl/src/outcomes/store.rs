//! Tables `am_act_outcomes` and `am_act_outcome_sums`.

use crate::{error::Result, interval::SampleSums};
use am_core::ids::PrincipalId;
use am_db::{Connection, Tx, codec::Timestamp, insert, sql};

/// Outcome of one call, to be stored.
pub(super) struct NewOutcome {
    pub(super) policy: String,
    pub(super) call_id: String,
    pub(super) version: u32,
    pub(super) reward: f64,
    pub(super) called_at: Timestamp,
    pub(super) reported_by: PrincipalId,
}

/// Read the reward of a call.
pub(super) async fn get_reward(conn: &mut Connection, policy: &str, call_id: &str) -> Result<Option<f64>> {
    let reward = sql!("SELECT reward FROM am_act_outcomes WHERE policy = $1 AND call_id = $2");
    Ok(reward.bind(policy).bind(call_id).fetch_optional_value(conn).await?)
}

/// Store an outcome.
pub(super) async fn insert(tx: &mut Tx, new: &NewOutcome, now: Timestamp) -> Result<()> {
    insert!("am_act_outcomes" {
        policy: &new.policy,
        call_id: &new.call_id,
        version: i64::from(new.version),
        reward: new.reward,
        called_at: new.called_at,
        reported_by: &new.reported_by,
        reported_at: now,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Delete outcomes of calls before `before`, at most 100. Their sums stay.
pub(super) async fn prune(tx: &mut Tx, before: Timestamp) -> Result<()> {
    sql!(
        "DELETE FROM am_act_outcomes WHERE (policy, call_id) IN
             (SELECT policy, call_id FROM am_act_outcomes WHERE called_at < $1 ORDER BY called_at LIMIT 100)",
    )
    .bind(before)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read the sums of the outcomes since `since`, by version.
pub(super) async fn sums(conn: &mut Connection, policy: &str, since: &str) -> Result<Vec<(u32, SampleSums)>> {
    let rows =
        sql!("SELECT version, count, mean, squares FROM am_act_outcome_sums WHERE policy = $1 AND serving_since = $2",);
    let rows: Vec<(i64, i64, f64, f64)> = rows.bind(policy).bind(since).fetch_all(conn).await?;
    let sums = rows.into_iter().map(|(version, count, mean, squares)| {
        (u32::try_from(version).unwrap_or_default(), SampleSums { count: count.unsigned_abs(), mean, squares })
    });
    Ok(sums.collect())
}

/// Save the sums of a version.
pub(super) async fn save_sums(tx: &mut Tx, policy: &str, since: &str, version: u32, sums: &SampleSums) -> Result<()> {
    insert!("am_act_outcome_sums" {
        policy: policy,
        serving_since: since,
        version: i64::from(version),
        count: sums.count.cast_signed(),
        mean: sums.mean,
        squares: sums.squares,
    } update on (policy, serving_since, version))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
