//! Table `am_learning`.

use sqlx::Row as _;

use super::model::Learner;
use crate::{
    error::{Result, unreadable},
    training::Mode,
};
use am_db::{Connection, Tx};

fn stored(mode: Mode) -> &'static str {
    match mode {
        Mode::Reinforcement => "reinforcement",
        Mode::Transfer => "transfer",
        Mode::Meta => "meta",
    }
}

/// One agent.
pub async fn get(conn: &mut Connection, agent_id: &str) -> Result<Option<Learner>> {
    let row = sqlx::query(
        "SELECT agent_id, owner_id, policy, mode, learning_rate, feedback_source, created_at, updated_at
         FROM am_learning WHERE agent_id = ?1",
    )
    .bind(agent_id)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mode: String = row.try_get(3)?;
    let mode = [Mode::Reinforcement, Mode::Transfer, Mode::Meta].into_iter().find(|known| stored(*known) == mode);
    Ok(Some(Learner {
        agent_id: row.try_get(0)?,
        owner_id: row.try_get(1)?,
        policy: row.try_get(2)?,
        mode: mode.ok_or_else(|| unreadable("am_learning.mode", "no known mode"))?,
        learning_rate: row.try_get(4)?,
        feedback_source: row.try_get(5)?,
        created_at: row.try_get(6)?,
        updated_at: row.try_get(7)?,
    }))
}

/// Store an agent, or write it over.
pub async fn put(tx: &mut Tx, learner: &Learner) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_learning (agent_id, owner_id, policy, mode, learning_rate, feedback_source, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (agent_id) DO UPDATE SET mode = excluded.mode, learning_rate = excluded.learning_rate,
             feedback_source = excluded.feedback_source, updated_at = excluded.updated_at",
    )
    .bind(&learner.agent_id)
    .bind(&learner.owner_id)
    .bind(&learner.policy)
    .bind(stored(learner.mode))
    .bind(learner.learning_rate)
    .bind(&learner.feedback_source)
    .bind(learner.created_at)
    .bind(learner.updated_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
