//! Table `rl_configurations`, which the coordinator owns: a row for each policy, so that its readers see what there is.

use serde_json::{Value, json};

use crate::{
    error::{Result, unreadable},
    library::model::NewVersion,
    network::Actions,
};
use am_db::{
    Tx,
    codec::{Doc, Timestamp},
};

/// A setting of the run that made a version, by any of its names.
fn setting(new: &NewVersion, names: &[&str]) -> Option<f64> {
    let settings = new.training.as_ref()?.get("settings")?;
    names.iter().find_map(|name| settings.get(name)?.as_f64())
}

fn doc(value: &Value) -> Result<Doc> {
    Doc::of(value).map_err(|error| unreadable("rl_configurations", error))
}

/// Version `version` of a policy has come: write the policy's row, or write it over. `id` is a new row's.
///
/// A row of the coordinator's own that is called so stays as it is: the meta data, which we write with the policy first,
/// tell which is whose. Numbers that a version has none of are the coordinator's own defaults, since its columns take no null.
pub async fn published(tx: &mut Tx, id: &str, version: u32, new: &NewVersion, now: Timestamp) -> Result<()> {
    let layers = json!(new.form.hidden);
    let activations = json!(vec!["relu"; new.form.hidden.len()]);
    let actions = match &new.form.actions {
        Actions::Continuous { low, high, .. } => {
            json!(low.iter().zip(high).map(|(low, high)| json!([low, high])).collect::<Vec<_>>())
        }
        Actions::Discrete { .. } | Actions::Scores { .. } => json!(new.action_names),
    };
    let curve = new.training.as_ref().and_then(|training| training.get("curve")).and_then(Value::as_array);
    let rewards: Vec<&Value> = curve.into_iter().flatten().filter_map(|point| point.get("mean_return")).collect();
    let horizon = new.training.as_ref().and_then(|training| training.get("horizon")).and_then(Value::as_i64);
    let episodes = new.training.as_ref().and_then(|training| training.get("episodes")).and_then(Value::as_i64);
    let trained = matches!(new.source, "trained" | "learned").then_some(now);
    let meta = json!({"policy": new.name, "version": version, "sha256": new.file.sha256, "source": new.source});
    sqlx::query(
        "INSERT INTO rl_configurations (id, config_id, agent_id, environment_type, algorithm, learning_rate, discount_factor,
             exploration_rate, batch_size, network_layers, activation_functions, max_episodes, max_steps_per_episode, save_frequency,
             reward_history, success_rate_history, policy_type, action_space, state_space, status, training_progress,
             deployment_performance, created_at, updated_at, trained_at, rl_profile_meta_data, training_logs)
         VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 100, ?13, '[]', ?14, ?15, ?16, 'ready', 1.0, ?17, ?18, ?18, ?19,
             ?20, '[]')
         ON CONFLICT (config_id) DO UPDATE SET environment_type = excluded.environment_type, algorithm = excluded.algorithm,
             learning_rate = excluded.learning_rate, discount_factor = excluded.discount_factor,
             exploration_rate = excluded.exploration_rate, batch_size = excluded.batch_size,
             network_layers = excluded.network_layers, activation_functions = excluded.activation_functions,
             max_episodes = excluded.max_episodes, max_steps_per_episode = excluded.max_steps_per_episode,
             reward_history = excluded.reward_history, policy_type = excluded.policy_type, action_space = excluded.action_space,
             state_space = excluded.state_space, status = CASE WHEN rl_configurations.status = 'deployed' THEN 'deployed' ELSE excluded.status END, training_progress = 1.0,
             deployment_performance = excluded.deployment_performance, updated_at = excluded.updated_at,
             trained_at = coalesce(excluded.trained_at, trained_at), rl_profile_meta_data = excluded.rl_profile_meta_data
         WHERE rl_configurations.rl_profile_meta_data LIKE ('{\"policy\":\"' || ?2 || '\",%')",
    )
    .bind(id)
    .bind(&new.name)
    .bind(new.environment.as_deref().unwrap_or("unknown").chars().take(50).collect::<String>())
    .bind(&new.form.algorithm)
    .bind(setting(new, &["learning_rate"]).unwrap_or(0.001))
    .bind(setting(new, &["gamma"]).unwrap_or(0.99))
    .bind(setting(new, &["epsilon", "entropy"]).unwrap_or(0.1))
    .bind(setting(new, &["batch"]).map_or(64, |batch| batch as i64))
    .bind(doc(&layers)?)
    .bind(doc(&activations)?)
    .bind(episodes.unwrap_or(0))
    .bind(horizon.unwrap_or(0))
    .bind(doc(&json!(rewards))?)
    .bind(if matches!(new.form.algorithm.as_str(), "rainbow_dqn" | "dqn") { "deterministic" } else { "stochastic" })
    .bind(doc(&actions)?)
    .bind(doc(&json!(new.state_names))?)
    .bind(doc(&new.scores.clone().unwrap_or_else(|| json!({})))?)
    .bind(now)
    .bind(trained)
    .bind(doc(&meta)?)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// A policy serves in production, or does no more.
pub async fn deployed(tx: &mut Tx, name: &str, deployed: bool, now: Timestamp) -> Result<()> {
    sqlx::query(
        "UPDATE rl_configurations SET status = ?2, deployed_at = CASE WHEN ?3 THEN ?4 ELSE deployed_at END, updated_at = ?4
         WHERE config_id = ?1 AND rl_profile_meta_data LIKE ('{\"policy\":\"' || ?1 || '\",%')",
    )
    .bind(name)
    .bind(if deployed { "deployed" } else { "ready" })
    .bind(deployed)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// The agent of a policy that is an agent's own.
pub async fn belongs_to(tx: &mut Tx, name: &str, agent_id: &str) -> Result<()> {
    sqlx::query(
        "UPDATE rl_configurations SET agent_id = ?2
         WHERE config_id = ?1 AND rl_profile_meta_data LIKE ('{\"policy\":\"' || ?1 || '\",%')",
    )
    .bind(name)
    .bind(agent_id)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
