//! SQL of tables `am_meta_models`, `am_meta_weights`, `am_meta_aliases`, and the coordinator's `meta_learning_models`.

use am_core::ids::PrincipalId;
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    bulk_insert::RowBatch,
    codec::{Json, JsonOr, JsonText, Timestamp},
    insert,
    page::PageRequest,
    push_row, row, sql,
};
use serde_json::json;

use super::model::{MODEL_TYPE, MetaModelFilter, MetaModelRecord};

/// The coordinator's table. Its later versions may have none; the service does without it then.
const MIRROR_TABLE: &str = "meta_learning_models";

row! {
    MetaModelRecord from "m." {
        id,
        owner_id,
        name,
        version,
        meta_strategy,
        status,
        base_algorithms => Json::into_inner,
        adaptation_targets => Json::into_inner,
        plan => Json::into_inner,
        task_id,
        origin_id,
        sha256,
        measures => JsonOr::into_inner,
        training_time,
        error,
        created_at,
        updated_at,
        trained_at,
    }
}

fn text(value: &impl serde::Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

pub(super) async fn get(conn: &mut Connection, id: &str) -> Result<Option<MetaModelRecord>> {
    sql!("SELECT ", MetaModelRecord::COLUMNS, " FROM am_meta_models m WHERE m.id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// A version of an owner's name.
pub(super) async fn get_version(
    conn: &mut Connection,
    owner: &PrincipalId,
    name: &str,
    version: i64,
) -> Result<Option<MetaModelRecord>> {
    let found = sql!(
        "SELECT ",
        MetaModelRecord::COLUMNS,
        " FROM am_meta_models m WHERE m.owner_id = $1 AND m.name = $2 AND m.version = $3",
    );
    found.bind(owner).bind(name).bind(version).fetch_optional(conn).await
}

/// What an alias of an owner's name stands for.
pub(super) async fn get_alias(
    conn: &mut Connection,
    owner: &PrincipalId,
    name: &str,
    alias: &str,
) -> Result<Option<String>> {
    sql!("SELECT model_id FROM am_meta_aliases WHERE owner_id = $1 AND name = $2 AND alias = $3")
        .bind(owner)
        .bind(name)
        .bind(alias)
        .fetch_optional_value(conn)
        .await
}

/// Aliases of models, by alias.
pub(super) async fn aliases(conn: &mut Connection, models: &[String]) -> Result<Vec<(String, String)>> {
    if models.is_empty() {
        return Ok(Vec::new());
    }
    sql!("SELECT model_id, alias FROM am_meta_aliases WHERE model_id IN ($1)").bind_all(models).fetch_all(conn).await
}

pub(super) async fn list(
    conn: &mut Connection,
    owner: Option<PrincipalId>,
    filter: &MetaModelFilter,
    page: &PageRequest,
) -> Result<(Vec<MetaModelRecord>, Option<i64>)> {
    let rows = sql!(
        "SELECT ",
        MetaModelRecord::COLUMNS,
        " FROM am_meta_models m WHERE true [AND m.owner_id = $1] [AND m.status = $2] [AND m.meta_strategy = $3]
           [AND m.name = $4] {page m. $5}",
    );
    let rows = rows.bind_some(owner.clone()).bind_some(filter.status).bind_some(filter.meta_strategy);
    let rows = rows.bind_some(filter.name.clone()).bind_page(page).fetch_all(conn).await?;
    let Some(owner) = owner else { return Ok((rows, None)) };
    let total = sql!(
        "SELECT count(*) FROM am_meta_models WHERE owner_id = $1 [AND status = $2] [AND meta_strategy = $3]
           [AND name = $4] {span $5}",
    );
    let total = total.bind(owner).bind_some(filter.status).bind_some(filter.meta_strategy);
    Ok((rows, Some(total.bind_some(filter.name.clone()).bind_span(page.created).fetch_value(conn).await?)))
}

/// The next version of an owner's name.
pub(super) async fn next_version(conn: &mut Connection, owner: &PrincipalId, name: &str) -> Result<i64> {
    let last = sql!("SELECT coalesce(max(version), 0) FROM am_meta_models WHERE owner_id = $1 AND name = $2");
    let last: i64 = last.bind(owner).bind(name).fetch_value(conn).await?;
    Ok(last + 1)
}

/// Store a model, or write over it, in both tables. Figures that are not known are the coordinator's defaults in its table, whose
/// columns are NOT NULL.
pub(super) async fn put(tx: &mut Tx, model: &MetaModelRecord) -> Result<()> {
    let mirrored = !tx.does_without(MIRROR_TABLE);
    let mut rows = RowBatch::default();
    push_row!(rows, "am_meta_models" {
        id: &model.id,
        owner_id: &model.owner_id,
        name: &model.name,
        version: model.version,
        meta_strategy: model.meta_strategy,
        status: model.status,
        base_algorithms: text(&model.base_algorithms)?,
        adaptation_targets: text(&model.adaptation_targets)?,
        plan: text(&model.plan)?,
        task_id: model.task_id.clone(),
        origin_id: model.origin_id.clone(),
        sha256: model.sha256.clone(),
        measures: text(&model.measures)?,
        training_time: model.training_time,
        error: model.error.clone(),
        created_at: model.created_at,
        updated_at: model.updated_at,
        trained_at: model.trained_at,
    } update on (id) except (owner_id, name, version, created_at));
    if mirrored {
        let measures = model.measures.as_ref();
        let share = |found: Option<f64>| found.unwrap_or_default();
        let family = json!({"family": model.plan.family, "sent_tasks": model.plan.sent_tasks});
        let meta = json!({"settings": model.plan.settings, "seed": model.plan.seed, "sha256": model.sha256});
        push_row!(rows, "meta_learning_models" {
            id: &model.id,
            model_id: &model.id,
            model_name: &model.name,
            model_type: MODEL_TYPE,
            model_version: format!("{}.0.0", model.version),
            base_algorithms: text(&model.base_algorithms)?,
            meta_strategy: model.meta_strategy,
            adaptation_targets: text(&model.adaptation_targets)?,
            training_tasks: "[]",
            task_distributions: text(&family)?,
            meta_features: "[]",
            meta_accuracy: share(measures.and_then(|measures| measures.meta_accuracy)),
            adaptation_speed: share(measures.and_then(|measures| measures.adaptation_speed)),
            generalization_ability: share(measures.and_then(|measures| measures.generalization_ability)),
            training_time: model.training_time,
            computational_cost: measures.map(|measures| measures.processor_seconds),
            memory_requirement: measures.map(|measures| measures.memory_bytes as f64 / 1e6),
            gpu_requirement: false,
            status: model.status,
            deployment_count: 0i64,
            success_rate: 0.0f64,
            created_at: model.created_at,
            updated_at: model.updated_at,
            trained_at: model.trained_at,
            model_profile_meta_data: text(&meta)?,
            training_logs: "[]",
        } update on (model_id) except (id, model_name, model_type, created_at, deployment_count, success_rate));
    }
    rows.execute(tx).await
}

/// Keep a file; equal ones are kept once.
pub(super) async fn insert_file(tx: &mut Tx, sha256: &str, base64: &str) -> Result<()> {
    let kept = insert!("am_meta_weights" { sha256: sha256, file: base64 } "ON CONFLICT (sha256) DO NOTHING");
    kept.execute(tx.conn().await?).await?;
    Ok(())
}

/// A kept file in base64.
pub(super) async fn file(conn: &mut Connection, sha256: &str) -> Result<Option<String>> {
    sql!("SELECT file FROM am_meta_weights WHERE sha256 = $1").bind(sha256).fetch_optional_value(conn).await
}

/// Let an alias stand for a model.
pub(super) async fn put_alias(tx: &mut Tx, model: &MetaModelRecord, alias: &str, now: Timestamp) -> Result<()> {
    let put = insert!("am_meta_aliases" {
        owner_id: &model.owner_id,
        name: &model.name,
        alias: alias,
        model_id: &model.id,
        moved_at: now,
    } update on (owner_id, name, alias));
    put.execute(tx.conn().await?).await?;
    Ok(())
}

/// Remove an alias that stands for a model. Returns false where it does not.
pub(super) async fn delete_alias(tx: &mut Tx, model: &MetaModelRecord, alias: &str) -> Result<bool> {
    let gone = sql!("DELETE FROM am_meta_aliases WHERE owner_id = $1 AND name = $2 AND alias = $3 AND model_id = $4");
    let gone = gone.bind(&model.owner_id).bind(&model.name).bind(alias).bind(&model.id);
    Ok(gone.execute(tx.conn().await?).await? > 0)
}
