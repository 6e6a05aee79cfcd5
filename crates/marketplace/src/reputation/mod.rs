//! Reputation: what a rating changes, written as the coordinator keeps it. The coordinator's scale ends at 1000, the marketplace's
//! at 10 000.

mod store;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_core::{
    ids::{AgentId, MarketRequestId},
    money::Money,
};
use am_db::{Tx, bulk_insert::RowBatch, codec::Timestamp};
use am_security::reputation::{MAX_REPUTATION, get_reputation};

use crate::{
    Marketplace,
    error::Result,
    figures::{AgentCounts, agent_counts},
    rules::rating_change,
};

/// Factor between the marketplace's scale and the coordinator's.
const SCALE_FACTOR: f64 = 10.0;
/// Level of a record that the coordinator has not made; it sets levels itself.
const FIRST_LEVEL: &str = "BEGINNER";

/// Community rating of a record that has none, as the coordinator begins it.
const FIRST_RATING: f64 = 3.0;

/// Change of an agent's reputation by a rating.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MarketReputationChange)]
pub struct ReputationChange {
    /// Agent whose reputation changed.
    pub agent_id: AgentId,
    /// Request that was rated.
    pub request_id: MarketRequestId,
    /// Rating, 1 to 5.
    pub rating: i64,
    /// What the rating stands for: +200, +100, 0, −100 or −200; at the ends of the scale less may have changed.
    pub change: f64,
    /// Reputation before, 0 to 10 000.
    pub before: f64,
    /// Reputation after, 0 to 10 000.
    pub after: f64,
    /// The coordinator's trust score before, 0 to 1000.
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) trust_score_before: f64,
}

/// The record of an agent in the coordinator's table.
#[derive(Clone, Debug)]
pub(crate) struct ReputationRecord {
    id: String,
    trust_score: f64,
    reputation_level: String,
}

/// What the marketplace knows of an agent's work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkRecord {
    jobs: i64,
    failed: i64,
    earned: Money,
    success_percent: f64,
    mean_rating: f64,
}

impl WorkRecord {
    fn of(counts: &AgentCounts) -> Self {
        let (jobs, failed) = (counts.jobs, counts.failed);
        let share = |part: i64, whole: i64| if whole > 0 { part as f64 / whole as f64 } else { 0.0 };
        Self {
            jobs,
            failed,
            earned: counts.earned,
            success_percent: share(jobs, jobs + failed) * 100.0,
            mean_rating: if counts.rating_count > 0 {
                share(counts.rating_sum, counts.rating_count)
            } else {
                FIRST_RATING
            },
        }
    }
}

impl Marketplace {
    /// Change an agent's reputation by a rating, in the transaction of the rating, which has counted it. `None`: the coordinator's
    /// tables are not there, so that nothing changed.
    pub(crate) async fn change_reputation(
        &self,
        tx: &mut Tx,
        agent: &AgentId,
        request: &MarketRequestId,
        rating: i64,
        now: Timestamp,
    ) -> Result<Option<ReputationChange>> {
        if tx.does_without("agent_reputation") || tx.does_without("reputation_events") {
            return Ok(None);
        }
        let conn = tx.conn().await?;
        let found = store::find(conn, agent).await?;
        let before = get_reputation(conn, agent).await?.reputation;
        let work = WorkRecord::of(&agent_counts(conn, agent).await?.unwrap_or_default());
        let change = rating_change(rating).unwrap_or_default();
        let after = (before + change).clamp(0.0, MAX_REPUTATION);
        let is_new = found.is_none();
        let mut record = found.unwrap_or_else(|| ReputationRecord {
            id: self.0.ids.random_id("rep_", 8),
            trust_score: before / SCALE_FACTOR,
            reputation_level: FIRST_LEVEL.to_owned(),
        });
        let changed = ReputationChange {
            agent_id: agent.clone(),
            request_id: request.clone(),
            rating,
            change,
            before,
            after,
            trust_score_before: record.trust_score,
        };
        record.trust_score = after / SCALE_FACTOR;
        let mut rows = RowBatch::default();
        if is_new {
            store::insert(&mut rows, &record, agent, &work, now);
        } else {
            store::update(tx, &record, now).await?;
        }
        store::insert_event(&mut rows, &self.0.ids.random_id("event_", 8), &record, &changed, now)?;
        rows.execute(tx).await?;
        Ok(Some(changed))
    }

    /// Add the change that counts a paid request in an agent's record, where it has one.
    pub(crate) fn add_paid_work(&self, rows: &mut RowBatch, agent: &AgentId, earned: Money, now: Timestamp) {
        if !self.0.db.does_without("agent_reputation") {
            store::add_work(rows, agent, earned, now);
        }
    }
}
