//! Queries of the table `am_learning`.

use super::model::Learner;
use crate::{
    error::{Result, corrupt_json_error},
    training::LearningMode,
};
use am_core::ids::{AgentId, PrincipalId};
use am_db::{Connection, FromRow as _, Tx, codec::Timestamp, insert, row, sql};

row! {
    /// A row of `am_learning`.
    struct LearnerRow {
        agent_id: AgentId,
        owner_id: PrincipalId,
        policy: String,
        mode: String,
        learning_rate: f64,
        feedback_source: Option<String>,
        created_at: Timestamp,
        updated_at: Timestamp,
    }
}

fn mode_name(mode: LearningMode) -> &'static str {
    match mode {
        LearningMode::Reinforcement => "reinforcement",
        LearningMode::Transfer => "transfer",
        LearningMode::Meta => "meta",
    }
}

/// Read one agent.
pub async fn get(conn: &mut Connection, agent_id: &AgentId) -> Result<Option<Learner>> {
    let row = sql!("SELECT ", LearnerRow::COLUMNS, " FROM am_learning WHERE agent_id = $1").bind(agent_id);
    let Some(row) = row.fetch_optional::<LearnerRow>(conn).await? else { return Ok(None) };
    let mode = [LearningMode::Reinforcement, LearningMode::Transfer, LearningMode::Meta]
        .into_iter()
        .find(|known| mode_name(*known) == row.mode);
    Ok(Some(Learner {
        agent_id: row.agent_id,
        owner_id: row.owner_id,
        policy: row.policy,
        mode: mode.ok_or_else(|| corrupt_json_error("am_learning.mode", "no known mode"))?,
        learning_rate: row.learning_rate,
        feedback_source: row.feedback_source,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }))
}

/// Insert or replace an agent.
pub async fn put(tx: &mut Tx, learner: &Learner) -> Result<()> {
    insert!("am_learning" {
        agent_id: &learner.agent_id,
        owner_id: &learner.owner_id,
        policy: &learner.policy,
        mode: mode_name(learner.mode),
        learning_rate: learner.learning_rate,
        feedback_source: &learner.feedback_source,
        created_at: learner.created_at,
        updated_at: learner.updated_at,
    } update on (agent_id) except (owner_id, policy, created_at))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
