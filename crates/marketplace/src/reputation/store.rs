//! SQL of the coordinator's tables `agent_reputation` and `reputation_events`.

use super::{ReputationChange, ReputationRecord, WorkRecord};
use am_core::{ids::AgentId, money::Money};
use am_db::{
    Connection, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    push_change, push_row, row, sql,
};

/// Paid requests of agents, several of one where they are written together.
const PAID_WORK: &str = "{records $1 agent:text earned:numeric paid_at:timestamp}";

row! {
    ReputationRecord { id, trust_score, reputation_level }
}

/// Read the newest record of an agent.
pub(super) async fn find(conn: &mut Connection, agent: &AgentId) -> Result<Option<ReputationRecord>> {
    let found = sql!(
        "SELECT ",
        ReputationRecord::COLUMNS,
        " FROM agent_reputation WHERE agent_id = $1 ORDER BY updated_at DESC, id LIMIT 1",
    );
    found.bind(agent).fetch_optional(conn).await
}

/// Add a first record of an agent to `rows`; what the marketplace does not know of it is as the coordinator begins it.
pub(super) fn insert(
    rows: &mut RowBatch,
    record: &ReputationRecord,
    agent: &AgentId,
    work: &WorkRecord,
    now: Timestamp,
) {
    let empty = || JsonText::from_value(&[(); 0]).unwrap_or_else(|_| JsonText::none());
    push_row!(rows, "agent_reputation" {
        id: &record.id,
        agent_id: agent,
        trust_score: record.trust_score,
        reputation_level: &record.reputation_level,
        performance_rating: 3.0,
        reliability_score: 50.0,
        community_rating: work.mean_rating,
        total_earnings: work.earned,
        transaction_count: work.jobs,
        success_rate: work.success_percent,
        dispute_count: 0i64,
        dispute_won_count: 0i64,
        jobs_completed: work.jobs,
        jobs_failed: work.failed,
        average_response_time: 0.0,
        uptime_percentage: 0.0,
        geographic_region: "",
        service_categories: empty(),
        specialization_tags: empty(),
        created_at: now,
        updated_at: now,
        last_activity: now,
        reputation_history: empty(),
        achievements: empty(),
        certifications: empty(),
    });
}

/// Change the score of the record that is there.
pub(super) async fn update(tx: &mut Tx, record: &ReputationRecord, now: Timestamp) -> Result<()> {
    let change =
        sql!("UPDATE agent_reputation SET trust_score = $2, updated_at = $3, last_activity = $3 WHERE id = $1");
    change.bind(&record.id).bind(record.trust_score).bind(now).execute(tx.conn().await?).await?;
    Ok(())
}

/// Add the change that counts a paid request in an agent's newest record, if it has one, to what others have counted there.
pub(super) fn add_work(rows: &mut RowBatch, agent: &AgentId, earned: Money, now: Timestamp) {
    push_change!(
        rows,
        (agent, earned, now),
        "UPDATE agent_reputation SET
             total_earnings = total_earnings + (SELECT sum(w.earned) FROM ", PAID_WORK, " AS w WHERE w.agent = agent_reputation.agent_id),
             transaction_count = transaction_count + (SELECT count(*) FROM ", PAID_WORK, " AS w WHERE w.agent = agent_reputation.agent_id),
             jobs_completed = jobs_completed + (SELECT count(*) FROM ", PAID_WORK, " AS w WHERE w.agent = agent_reputation.agent_id),
             updated_at = (SELECT max(w.paid_at) FROM ", PAID_WORK, " AS w WHERE w.agent = agent_reputation.agent_id),
             last_activity = (SELECT max(w.paid_at) FROM ", PAID_WORK, " AS w WHERE w.agent = agent_reputation.agent_id)
         WHERE id IN (SELECT (SELECT id FROM agent_reputation WHERE agent_id = w.agent ORDER BY updated_at DESC, id LIMIT 1)
             FROM ", PAID_WORK, " AS w)"
    );
}

/// Add the event of a change to `rows`.
pub(super) fn insert_event(
    rows: &mut RowBatch,
    id: &str,
    record: &ReputationRecord,
    change: &ReputationChange,
    now: Timestamp,
) -> Result<()> {
    let data =
        serde_json::json!({"source": "marketplace", "rating": change.rating, "reputation_change": change.change});
    let data = JsonText::from_value(&data).map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
    push_row!(rows, "reputation_events" {
        id: id,
        agent_id: &record.id,
        event_type: "community_feedback",
        event_subtype: "marketplace_rating",
        impact_score: record.trust_score - change.trust_score_before,
        trust_score_before: change.trust_score_before,
        trust_score_after: record.trust_score,
        reputation_level_before: &record.reputation_level,
        reputation_level_after: &record.reputation_level,
        related_transaction_id: &change.request_id,
        event_data: data,
        verification_status: "verified",
        occurred_at: now,
        processed_at: now,
    });
    Ok(())
}
