//! SQL of the evidence of trust and of the scores computed from it.

use super::{AgentTrustAnswer, StoredScore, TrustRunRow, answer_of};
use crate::trust_graph::{PairEvidence, TrustSeeding};
use am_core::ids::{AgentId, PrincipalId};
use am_db::{
    Connection, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    insert, push_row, row, sql,
};

row! {
    /// The evidence of a pair.
    pub struct PairRow {
        pub rater: String,
        pub agent_id: String,
        pub paid: f64,
        pub satisfaction: f64,
        pub as_of: Timestamp,
        pub revision: i64,
    }
}

row! {
    StoredScore { agent_id, score, place, times_average, explanation, computed_at }
}

row! {
    TrustRunRow { seeding, rounds, residual, agents, revision, computed_at }
}

impl PairRow {
    /// What the pair is evidence of.
    pub fn evidence(&self) -> PairEvidence {
        PairEvidence { paid: self.paid, satisfaction: self.satisfaction, as_of: self.as_of.0 }
    }
}

/// Read the evidence of a pair.
pub async fn find_pair(conn: &mut Connection, rater: &PrincipalId, agent: &AgentId) -> Result<Option<PairRow>> {
    let found = sql!("SELECT ", PairRow::COLUMNS, " FROM am_market_trust_pairs WHERE rater = $1 AND agent_id = $2");
    found.bind(rater).bind(agent).fetch_optional(conn).await
}

/// Store the evidence of a pair under the next revision.
pub async fn save_pair(tx: &mut Tx, rater: &PrincipalId, agent: &AgentId, evidence: &PairEvidence) -> Result<()> {
    let conn = tx.conn().await?;
    let next = sql!("UPDATE am_market_counters SET value = value + 1 WHERE name = 'trust_pairs' RETURNING value");
    let revision: i64 = next.fetch_value(&mut *conn).await?;
    insert!("am_market_trust_pairs" {
        rater: rater,
        agent_id: agent,
        paid: evidence.paid,
        satisfaction: evidence.satisfaction,
        as_of: Timestamp(evidence.as_of),
        revision: revision,
    } update on (rater, agent_id))
    .execute(conn)
    .await?;
    Ok(())
}

/// Read pairs that changed after a revision, in the order of their last changes.
pub async fn changed_pairs(conn: &mut Connection, revision: i64, limit: i64) -> Result<Vec<PairRow>> {
    let pairs = sql!(
        "SELECT ",
        PairRow::COLUMNS,
        " FROM am_market_trust_pairs WHERE revision > $1 ORDER BY revision LIMIT $2",
    );
    pairs.bind(revision).bind(limit).fetch_all(conn).await
}

/// Add the row of a score to `rows`.
pub fn save_score(rows: &mut RowBatch, score: &StoredScore) {
    push_row!(rows, "am_market_trust_scores" {
        agent_id: &score.agent_id,
        score: score.score,
        place: score.place,
        times_average: score.times_average,
        explanation: &score.explanation,
        computed_at: score.computed_at,
    } update on (agent_id));
}

/// Store how the scores were computed.
pub async fn save_run(tx: &mut Tx, run: &TrustRunRow) -> Result<()> {
    insert!("am_market_trust_run" {
        id: 1i64,
        seeding: &run.seeding,
        rounds: run.rounds,
        residual: run.residual,
        agents: run.agents,
        revision: run.revision,
        computed_at: run.computed_at,
    } update on (id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Read how the scores were computed last.
pub async fn last_run(conn: &mut Connection) -> Result<Option<TrustRunRow>> {
    sql!("SELECT ", TrustRunRow::COLUMNS, " FROM am_market_trust_run WHERE id = 1").fetch_optional(conn).await
}

/// Read the score of an agent.
pub async fn find_score(conn: &mut Connection, agent: &AgentId) -> Result<Option<StoredScore>> {
    let found = sql!("SELECT ", StoredScore::COLUMNS, " FROM am_market_trust_scores WHERE agent_id = $1");
    found.bind(agent).fetch_optional(conn).await
}

/// Read the agents after one of them, the best first.
pub async fn ranked(conn: &mut Connection, after: Option<&StoredScore>, limit: i64) -> Result<Vec<AgentTrustAnswer>> {
    let scores = sql!(
        "SELECT ",
        StoredScore::COLUMNS,
        " FROM am_market_trust_scores WHERE true [AND (place, agent_id) > ($1, $2)] ORDER BY place, agent_id LIMIT $3",
    );
    let scores = scores.bind_some(after.map(|score| score.place)).bind_some(after.map(|score| &score.agent_id));
    let scores: Vec<StoredScore> = scores.bind(limit).fetch_all(conn).await?;
    Ok(scores.into_iter().map(|score| answer_of(&score, None)).collect())
}

/// The stored word of a way of seeding.
pub fn seeding_word(seeding: TrustSeeding) -> String {
    match serde_json::to_value(seeding) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A document as JSON text.
pub fn json_text(document: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(document).map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))
}
