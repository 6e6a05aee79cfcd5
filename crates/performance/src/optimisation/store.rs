//! SQL of tables `performance_optimizations`, `am_optimisations` and `am_tuned_settings`.

use am_core::ids::AgentId;
use am_db::{
    Connection, Database, DatabaseError, FromRow as _, Result, Tx, agent_list,
    bulk_insert::RowBatch,
    codec::{JsonOr, JsonText, Timestamp},
    insert,
    kept_list::{AgentPages, AgentRowFilter},
    page::PageRequest,
    push_row, row, sql, update,
};
use serde_json::{Map, Value};

use super::model::{OptimisationRecord, OptimizationMetric, TunedSettings};

row! {
    OptimisationRecord from "r." {
        id,
        optimization_id,
        agent_id,
        optimization_type,
        target_metric,
        performance_improvement,
        resource_savings,
        cost_savings,
        overall_efficiency_gain,
        optimization_duration,
        iterations_required,
        status,
        created_at,
        updated_at,
        completed_at,
        owner_id = "a.owner_id",
        task_id = "a.task_id",
        tuned = "a.tuned",
        target = "a.target",
        budget = "a.budget" => JsonOr::into_inner,
        outcome = "a.outcome" => JsonOr::into_inner,
        error = "a.error",
        replaced = "a.replaced" => JsonOr::into_inner,
        applied_at = "a.applied_at",
        rolled_back_at = "a.rolled_back_at",
    }
}

fn json(value: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// Store an optimisation that is asked for.
pub(super) async fn insert(tx: &mut Tx, made: &OptimisationRecord, known: &Value) -> Result<()> {
    let mut rows = RowBatch::default();
    let none = json(&Map::new())?;
    push_row!(rows, "performance_optimizations" {
        id: &made.id,
        optimization_id: &made.optimization_id,
        agent_id: &made.agent_id,
        optimization_type: &made.optimization_type,
        target_metric: &made.target_metric,
        baseline_performance: json(known)?,
        baseline_resources: none.clone(),
        baseline_cost: 0.0,
        optimization_parameters: json(&made.budget)?,
        optimization_algorithm: "tpe_successive_halving",
        search_space: none.clone(),
        optimized_performance: none.clone(),
        optimized_resources: none.clone(),
        optimized_cost: 0.0,
        performance_improvement: 0.0,
        resource_savings: 0.0,
        cost_savings: 0.0,
        overall_efficiency_gain: 0.0,
        optimization_duration: made.optimization_duration,
        iterations_required: 0,
        convergence_achieved: false,
        status: &made.status,
        applied_at: made.applied_at,
        rollback_available: false,
        created_at: made.created_at,
        updated_at: made.updated_at,
        completed_at: made.completed_at,
        optimization_profile_meta_data: none.clone(),
        performance_logs: none,
    });
    push_row!(rows, "am_optimisations" {
        id: &made.id,
        owner_id: made.owner_id.clone().unwrap_or_default(),
        task_id: made.task_id.clone().unwrap_or_default(),
        tuned: made.tuned,
        target: made.target.clone().unwrap_or_default(),
        budget: json(&made.budget)?,
    });
    rows.execute(tx).await
}

/// Store what came of an optimisation.
pub(super) async fn save_end(tx: &mut Tx, now: &OptimisationRecord) -> Result<()> {
    let outcome = now.outcome.clone().unwrap_or_default();
    let row = update!("performance_optimizations" {
        optimized_performance: json(&outcome.best_score)?,
        performance_improvement: now.performance_improvement,
        resource_savings: now.resource_savings,
        cost_savings: now.cost_savings,
        overall_efficiency_gain: now.overall_efficiency_gain,
        optimization_duration: now.optimization_duration,
        iterations_required: now.iterations_required,
        convergence_achieved: outcome.convergence_achieved,
        status: &now.status,
        updated_at: now.updated_at,
        completed_at: now.completed_at,
    } where "id = $1" (&now.id));
    row.execute(tx.conn().await?).await?;
    let own = update!("am_optimisations" {
        outcome: json(&now.outcome)?,
        error: &now.error,
        ended_at: now.completed_at,
    } where "id = $1" (&now.id));
    own.execute(tx.conn().await?).await?;
    Ok(())
}

/// Store that the best settings were applied, or taken back.
pub(super) async fn save_applied(tx: &mut Tx, now: &OptimisationRecord) -> Result<()> {
    let available = now.applied_at.is_some() && now.rolled_back_at.is_none();
    let row = update!("performance_optimizations" {
        applied_at: now.applied_at,
        rollback_available: available,
        updated_at: now.updated_at,
    } where "id = $1" (&now.id));
    row.execute(tx.conn().await?).await?;
    let own = update!("am_optimisations" {
        replaced: json(&now.replaced)?,
        applied_at: now.applied_at,
        rolled_back_at: now.rolled_back_at,
    } where "id = $1" (&now.id));
    own.execute(tx.conn().await?).await?;
    Ok(())
}

const JOINED: &str = " LEFT JOIN am_optimisations a ON a.id = r.id ";

/// Read one optimisation.
pub(super) async fn get(conn: &mut Connection, optimization_id: &str) -> Result<Option<OptimisationRecord>> {
    let found = sql!(
        "SELECT ",
        OptimisationRecord::COLUMNS,
        " FROM performance_optimizations r",
        JOINED,
        "WHERE r.optimization_id = $1",
    );
    found.bind(optimization_id).fetch_optional(conn).await
}

static PAGES: AgentPages = agent_list! {
    Optimisations, OptimisationRecord of "performance_optimizations" with JOINED, listed in "am_optimisation_list",
    figure "r.target_metric"
};

/// A page of an agent's optimisations, newest first, and their number.
pub(super) async fn list(
    db: &Database,
    conn: &mut Connection,
    (agent, state, metric): (&AgentId, Option<&str>, Option<OptimizationMetric>),
    page: &PageRequest,
) -> Result<(Vec<OptimisationRecord>, i64)> {
    let filter = AgentRowFilter { agent, state, figure: metric.map(OptimizationMetric::stored) };
    db.read_agent_page(conn, &PAGES, filter, page).await
}

/// Settings as they are stored.
type SettingsText = JsonOr<Option<Map<String, Value>>>;

/// Settings that trainings of a policy begin with.
pub(super) async fn tuned_settings(
    conn: &mut Connection,
    (policy, algorithm, environment): (&str, &str, &str),
) -> Result<Option<TunedSettings>> {
    let found = sql!(
        "SELECT settings, optimization_id FROM am_tuned_settings WHERE policy = $1 AND algorithm = $2 AND environment = $3",
    );
    let found = found.bind(policy).bind(algorithm).bind(environment).fetch_optional(conn).await?;
    let found: Option<(SettingsText, String)> = found;
    Ok(found.and_then(|(settings, optimization_id)| {
        Some(TunedSettings { settings: settings.into_inner()?, optimization_id })
    }))
}

/// Set what trainings of a policy begin with.
pub(super) async fn put_tuned_settings(
    tx: &mut Tx,
    (policy, algorithm, environment): (&str, &str, &str),
    tuned: &TunedSettings,
    now: Timestamp,
) -> Result<()> {
    let put = insert!("am_tuned_settings" {
        policy: policy,
        algorithm: algorithm,
        environment: environment,
        settings: json(&tuned.settings)?,
        optimization_id: &tuned.optimization_id,
        updated_at: now,
    } update on (policy, algorithm, environment));
    put.execute(tx.conn().await?).await?;
    Ok(())
}

/// Let trainings of a policy begin with the algorithm's defaults again.
pub(super) async fn delete_tuned_settings(
    tx: &mut Tx,
    (policy, algorithm, environment): (&str, &str, &str),
) -> Result<()> {
    let deleted = sql!("DELETE FROM am_tuned_settings WHERE policy = $1 AND algorithm = $2 AND environment = $3");
    deleted.bind(policy).bind(algorithm).bind(environment).execute(tx.conn().await?).await?;
    Ok(())
}
