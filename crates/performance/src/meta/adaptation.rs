//! Adaptation of a model to a task.

use std::collections::BTreeMap;

use am_core::{boxed, crypto::sha256_hex, validation::Violations};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_rl::{
    meta_learning::{LearningTask, MetaAlgorithm, MetaModel, TaskAdaptation, check_support},
    training::TrainingError,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{
    MetaService,
    draft::checked_name,
    model::MetaModelStatus,
    model::{AdaptationReport, AdaptationRequest, MetaModelDocument, MetaModelRecord},
    ready_file, store, visible,
};
use crate::{
    PerformanceCaller,
    error::{PerformanceError, Result},
};

/// The task that is adapted to.
enum AdaptedTask {
    Sent { task: Box<LearningTask>, on_support: bool },
    Drawn(u64),
}

/// Read the task and the name for the result, for a model.
fn checked(request: AdaptationRequest, model: &MetaModel) -> Result<(AdaptedTask, Option<String>)> {
    let mut violations = Violations::default();
    let save_as = request.save_as.as_deref().map(|name| checked_name(name, "save_as", &mut violations));
    let task = match (request.support, request.query, request.draw) {
        (Some(support), query, None) => {
            let on_support = query.is_none();
            let task = LearningTask { support, query: query.unwrap_or_default() };
            check_support(&task, !on_support, model.shape(), &mut violations);
            Some(AdaptedTask::Sent { task: Box::new(task), on_support })
        }
        (None, None, Some(seed)) => {
            let text = "is for models of a family: this one learnt from tasks that were sent, so send support";
            violations.require(model.family().is_some(), "draw", text);
            Some(AdaptedTask::Drawn(seed))
        }
        (None, ..) => {
            violations.add("support", "is missing: send support, or draw alone");
            None
        }
        (Some(_), _, Some(_)) => {
            violations.add("draw", "stands beside support: send one of the two");
            None
        }
    };
    let task = violations.finish_with(task).map_err(PerformanceError::Invalid)?;
    Ok((task, save_as))
}

fn failed(error: TrainingError) -> PerformanceError {
    match error {
        TrainingError::Diverged { .. } => PerformanceError::Conflict(
            "diverged",
            "The steps diverged on this task: scale its numbers, or take fewer steps".to_owned(),
        ),
        other => PerformanceError::Unavailable(format!("The model can't be used: {other}")),
    }
}

/// What was reached, as it is told.
fn report(
    model_id: &str,
    algorithm: MetaAlgorithm,
    on_support: bool,
    reached: &TaskAdaptation,
) -> Option<AdaptationReport> {
    let curve = reached.curve.clone();
    let steps = curve.losses.len().checked_sub(1)?;
    let prototypes = algorithm == MetaAlgorithm::PrototypicalNetworks;
    let loss_after = *curve.losses.last()?;
    let loss_before = curve.losses.first().copied().filter(|_| !prototypes);
    let score_before = curve.scores.first().copied().flatten().filter(|_| !prototypes);
    let score_after = curve.scores.last().copied().flatten();
    let mut reasons = BTreeMap::new();
    let mut explain = |name: &str, missing: bool, text: &str| {
        if missing {
            reasons.insert(name.to_owned(), text.to_owned());
        }
    };
    let no_before = "Prototypes answer nothing before they have seen examples";
    let equal = "The wanted numbers are all equal";
    explain("loss_before", prototypes, no_before);
    explain("improvement", prototypes, no_before);
    explain("score_before", score_before.is_none(), if prototypes { no_before } else { equal });
    explain("score_after", score_after.is_none(), equal);
    Some(AdaptationReport {
        model_id: model_id.to_owned(),
        adaptation_steps: steps as u64,
        loss_before,
        loss_after,
        score_before,
        score_after,
        improvement: loss_before.map(|before| before - loss_after),
        measured_on_support: on_support,
        curve,
        reasons,
        adapted_sha256: sha256_hex(&reached.weights),
        saved: None,
    })
}

impl MetaService {
    /// Adapt a model to a task by this many steps; the model stays as it is. With `save_as` the result is kept as a model of its own.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] for a task of another shape; [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] for
    /// a model that is not ready, and for steps that diverge.
    #[boxed]
    pub async fn adapt(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        steps: u64,
        request: AdaptationRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AdaptationReport>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let (record, file) = {
            let mut conn = self.0.db.read().await?;
            let record = visible(&mut conn, caller, id).await?;
            let file = ready_file(&mut conn, &record).await?;
            (record, file)
        };
        let computed = tokio::task::spawn_blocking(move || {
            let model = MetaModel::read(&file).map_err(failed)?;
            let (task, save_as) = checked(request, &model)?;
            let (reached, on_support) = match task {
                AdaptedTask::Sent { task, on_support } => (Some(model.adapt_to(&task, steps)), on_support),
                AdaptedTask::Drawn(seed) => (model.adapt_to_drawn(seed, steps).transpose(), false),
            };
            let reached = reached.ok_or(PerformanceError::Interrupted)?.map_err(failed)?;
            Ok::<_, PerformanceError>((model.algorithm(), on_support, reached, save_as))
        });
        let (algorithm, on_support, reached, save_as) =
            computed.await.map_err(|_panicked| PerformanceError::Interrupted)??;
        let told = report(&record.id, algorithm, on_support, &reached).ok_or(PerformanceError::Interrupted)?;
        let (me, caller, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let entry = me.entry(&caller.principal, "adapted", &record, now);
            me.0.audit.append(tx, vec![entry.data("steps", json!(told.adaptation_steps))]).await?;
            let saved = match save_as {
                Some(name) => Some(me.save(tx, &caller, &record, name, &reached, now).await?),
                None => None,
            };
            Ok(AdaptationReport { saved, ..told })
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Keep an adapted model.
    async fn save(
        &self,
        tx: &mut Tx,
        caller: &PerformanceCaller,
        origin: &MetaModelRecord,
        name: String,
        reached: &TaskAdaptation,
        now: Timestamp,
    ) -> Result<MetaModelDocument> {
        let owner = caller.principal.id();
        let sha256 = sha256_hex(&reached.weights);
        store::insert_file(tx, &sha256, &BASE64_STANDARD.encode(&reached.weights)).await?;
        let version = store::next_version(tx.conn().await?, &owner, &name).await?;
        let model = MetaModelRecord {
            id: self.new_id(),
            owner_id: owner,
            name,
            version,
            status: MetaModelStatus::Ready,
            task_id: None,
            origin_id: Some(origin.id.clone()),
            sha256: Some(sha256),
            measures: None,
            training_time: None,
            error: None,
            created_at: now,
            updated_at: now,
            trained_at: Some(now),
            ..origin.clone()
        };
        store::put(tx, &model).await?;
        let entry = self.entry(&caller.principal, "saved", &model, now);
        self.0.audit.append(tx, vec![entry.data("origin_id", json!(origin.id))]).await?;
        Ok(MetaModelDocument::of(model, Vec::new()))
    }
}
