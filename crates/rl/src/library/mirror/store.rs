//! Table `rl_configurations`, which the coordinator owns: one row per policy, for the coordinator's readers.

use serde_json::{Value, json};

use crate::{
    error::{Result, corrupt_json_error},
    library::model::NewVersion,
    network::PolicyActions,
};
use am_core::ids::AgentId;
use am_db::{
    Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    push_row, sql,
};

/// The coordinator's table. Its later versions have none; the service does without it then, and readiness tells so.
const MIRROR_TABLE: &str = "rl_configurations";

/// Return a numeric setting of the training run that made a version, under any of its names.
fn training_setting(new: &NewVersion, names: &[&str]) -> Option<f64> {
    let settings = new.training.as_ref()?.get("settings")?;
    names.iter().find_map(|name| settings.get(name)?.as_f64())
}

fn json_text(value: &Value) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| corrupt_json_error("rl_configurations", error))
}

/// Insert or update a policy's row after version `version` was published. `id` is the id of a new row.
///
/// A row that the coordinator made under the same name is left alone; the metadata, which this service writes with
/// every policy, tells them apart. Figures that a version lacks are stored as the coordinator's defaults, because its
/// columns are NOT NULL.
pub async fn upsert_configuration(tx: &mut Tx, id: &str, version: u32, new: &NewVersion, now: Timestamp) -> Result<()> {
    if tx.does_without(MIRROR_TABLE) {
        return Ok(());
    }
    let layers = json!(new.form.hidden);
    let activations = json!(vec!["relu"; new.form.hidden.len()]);
    let actions = match &new.form.actions {
        PolicyActions::Continuous { low, high, .. } => {
            json!(low.iter().zip(high).map(|(low, high)| json!([low, high])).collect::<Vec<_>>())
        }
        PolicyActions::Discrete { .. } | PolicyActions::Scores { .. } => json!(new.action_names),
    };
    let curve = new.training.as_ref().and_then(|training| training.get("curve")).and_then(Value::as_array);
    let rewards: Vec<&Value> = curve.into_iter().flatten().filter_map(|point| point.get("mean_return")).collect();
    let horizon = new.training.as_ref().and_then(|training| training.get("horizon")).and_then(Value::as_i64);
    let episodes = new.training.as_ref().and_then(|training| training.get("episodes")).and_then(Value::as_i64);
    let trained = matches!(new.source, "trained" | "learned").then_some(now);
    let meta = json!({"policy": new.name, "version": version, "sha256": new.file.sha256, "source": new.source});
    let deterministic = matches!(new.form.algorithm.as_str(), "rainbow_dqn" | "dqn");
    let mut rows = RowBatch::default();
    push_row!(rows, "rl_configurations" {
        id: id,
        config_id: &new.name,
        agent_id: &new.name,
        environment_type: new.environment.as_deref().unwrap_or("unknown").chars().take(50).collect::<String>(),
        algorithm: &new.form.algorithm,
        learning_rate: training_setting(new, &["learning_rate"]).unwrap_or(0.001),
        discount_factor: training_setting(new, &["gamma"]).unwrap_or(0.99),
        exploration_rate: training_setting(new, &["epsilon", "entropy"]).unwrap_or(0.1),
        batch_size: training_setting(new, &["batch"]).map_or(64, |batch| batch as i64),
        network_layers: json_text(&layers)?,
        activation_functions: json_text(&activations)?,
        max_episodes: episodes.unwrap_or(0),
        max_steps_per_episode: horizon.unwrap_or(0),
        save_frequency: 100i64,
        reward_history: json_text(&json!(rewards))?,
        success_rate_history: "[]",
        policy_type: if deterministic { "deterministic" } else { "stochastic" },
        action_space: json_text(&actions)?,
        state_space: json_text(&json!(new.state_names))?,
        status: "ready",
        training_progress: 1.0,
        deployment_performance: json_text(&new.scores.clone().unwrap_or_else(|| json!({})))?,
        created_at: now,
        updated_at: now,
        trained_at: trained,
        rl_profile_meta_data: json_text(&meta)?,
        training_logs: "[]",
    } update on (config_id)
        except (id, agent_id, save_frequency, success_rate_history, status, created_at, trained_at, training_logs)
        ", status = CASE WHEN rl_configurations.status = 'deployed' THEN 'deployed' ELSE excluded.status END,
             trained_at = coalesce(excluded.trained_at, rl_configurations.trained_at)
         WHERE CAST(rl_configurations.rl_profile_meta_data AS VARCHAR) LIKE ('{\"policy\":\"' || excluded.config_id || '\",%')");
    Ok(rows.execute(tx).await?)
}

/// Mark a policy as deployed in production, or as no longer deployed.
pub async fn set_deployed(tx: &mut Tx, name: &str, deployed: bool, now: Timestamp) -> Result<()> {
    if tx.does_without(MIRROR_TABLE) {
        return Ok(());
    }
    sql!(
        "UPDATE rl_configurations SET status = $2, deployed_at = CASE WHEN $3 THEN $4 ELSE deployed_at END, updated_at = $4
         WHERE config_id = $1 AND CAST(rl_profile_meta_data AS VARCHAR) LIKE ('{\"policy\":\"' || $1 || '\",%')",
    )
    .bind(name)
    .bind(if deployed { "deployed" } else { "ready" })
    .bind(deployed)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Store the agent that owns a policy.
pub async fn set_agent(tx: &mut Tx, name: &str, agent_id: &AgentId) -> Result<()> {
    if tx.does_without(MIRROR_TABLE) {
        return Ok(());
    }
    sql!(
        "UPDATE rl_configurations SET agent_id = $2
         WHERE config_id = $1 AND CAST(rl_profile_meta_data AS VARCHAR) LIKE ('{\"policy\":\"' || $1 || '\",%')",
    )
    .bind(name)
    .bind(agent_id)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
