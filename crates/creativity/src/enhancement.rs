//! Enhancement of a capability: an algorithm's cycles on its own corpus, as background work.

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::{
    BackgroundWork, EndedWork, NewWork, WorkCaller, WorkContext, WorkFault, WorkFilter, WorkKind, WorkMachine,
    WorkStatus, WorkStep,
};
use am_core::{
    boxed,
    ids::{BackgroundTaskId, CreativeCapabilityId},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::{
    CreativityService,
    algorithms::{EnhancementAlgorithm, EnhancementOutcome, EnhancementRun},
    caller::CreativeCaller,
    capabilities::{own_capability, visible_capability},
    corpus::MAX_TEXTS,
    error::{CreativityError, Result},
    judge::{EmbeddingKind, Judge as _},
    measures::TextJudge,
    model::WorkRole,
    store,
};

/// The kind of background work.
const KIND: &str = "enhancement";
/// The largest number that JSON's numbers hold exactly everywhere.
pub(crate) const MAX_SEED: u64 = (1 << 53) - 1;

/// An enhancement to begin.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = EnhanceCreativityRequest)]
pub struct EnhancementRequest {
    /// `divergent_thinking` (default), `conceptual_blending`, `morphological_analysis`, `lateral_thinking` or `bisociation`.
    pub algorithm: Option<String>,
    /// Number of cycles, 1 to 1000. Default 100.
    #[schema(minimum = 1, maximum = 1000)]
    pub training_cycles: Option<u32>,
    /// Number that decides all choices, 0 to 9007199254740991: the same corpus and seed give the same result. Default 0.
    #[schema(minimum = 0)]
    pub seed: Option<u64>,
}

/// An enhancement: what was asked, how far it is, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = CreativityEnhancement)]
pub struct EnhancementDocument {
    /// Id of the background task that it is.
    pub task_id: BackgroundTaskId,
    /// Path of the task, with its events, and where it is paused and cancelled.
    pub task_url: String,
    /// Capability that is enhanced.
    pub capability_id: CreativeCapabilityId,
    /// Algorithm whose cycles it runs.
    pub algorithm: EnhancementAlgorithm,
    /// Number of cycles that were asked for.
    pub training_cycles: u32,
    /// Number that decides all choices.
    pub seed: u64,
    /// The representation of texts that scores are computed with.
    pub embedding: EmbeddingKind,
    /// State of the task.
    pub status: WorkStatus,
    /// Share of the cycles that are done, from 0 to 1; null before the first report.
    #[schema(required = true)]
    pub progress: Option<f64>,
    /// Measured gain: score after less score before, 0 where there is none; null until it has completed.
    #[schema(required = true)]
    pub gain: Option<f64>,
    /// What came of it; null until it has completed.
    #[schema(required = true)]
    pub outcome: Option<EnhancementOutcome>,
    /// Why it failed; null: it has not.
    #[schema(required = true)]
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended; null: it has not.
    #[schema(required = true)]
    pub completed_at: Option<Timestamp>,
    /// Why a figure is null, by its name.
    pub reasons: BTreeMap<String, String>,
}

/// What a task needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct EnhancementParameters {
    capability_id: CreativeCapabilityId,
    algorithm: EnhancementAlgorithm,
    cycles: u32,
    embedding: EmbeddingKind,
    /// The corpus as it was: SHA-256 of each text, in order.
    texts: Vec<String>,
}

fn document_of(task: BackgroundWork) -> Result<EnhancementDocument> {
    let unreadable =
        |error: serde_json::Error| CreativityError::Db(am_db::DatabaseError::InvalidValue(format!("task: {error}")));
    let parameters: EnhancementParameters = serde_json::from_value(task.parameters.clone()).map_err(unreadable)?;
    let outcome: Option<EnhancementOutcome> =
        task.result.clone().map(serde_json::from_value).transpose().map_err(unreadable)?;
    let mut reasons = BTreeMap::new();
    if outcome.is_none() {
        let why = if task.error.is_some() { "it ended without a result" } else { "it has not ended" };
        reasons.insert("gain".to_owned(), why.to_owned());
    }
    if task.progress.is_none() {
        reasons.insert("progress".to_owned(), "no cycle was reported yet".to_owned());
    }
    Ok(EnhancementDocument {
        task_url: format!("/api/v1/agents/performance/tasks/{}", task.id),
        capability_id: parameters.capability_id,
        algorithm: parameters.algorithm,
        training_cycles: parameters.cycles,
        seed: task.seed,
        embedding: parameters.embedding,
        status: task.status,
        progress: task.progress,
        gain: outcome.as_ref().map(|outcome| outcome.gain),
        outcome,
        error: task.error,
        created_at: task.created_at,
        completed_at: task.ended_at,
        task_id: task.id,
        reasons,
    })
}

impl CreativityService {
    /// Begin an enhancement of a capability on its own corpus.
    ///
    /// # Errors
    /// [`CreativityError::Invalid`] with all faults; [`CreativityError::NotFound`]; [`CreativityError::Conflict`] without a
    /// corpus that the algorithm can work on; [`CreativityError::Background`] when the caller has too many tasks.
    #[boxed]
    pub async fn enhance_capability(
        &self,
        caller: &CreativeCaller,
        id: &CreativeCapabilityId,
        request: EnhancementRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<EnhancementDocument>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let algorithm = EnhancementAlgorithm::parse(request.algorithm.as_deref().unwrap_or("divergent_thinking"))?;
        let cycles = request.training_cycles.unwrap_or(100);
        let seed = request.seed.unwrap_or(0);
        let mut faults = am_core::validation::Violations::default();
        faults.require((1..=1000).contains(&cycles), "training_cycles", "must be from 1 to 1000");
        faults.require(seed <= MAX_SEED, "seed", format!("must be at most {MAX_SEED}"));
        faults.finish().map_err(CreativityError::Invalid)?;
        let mut conn = self.0.db.read().await?;
        visible_capability(&mut conn, caller, id).await?;
        let mut works = store::works(&mut conn, id, WorkRole::Own, MAX_TEXTS).await?;
        drop(conn);
        works.reverse();
        if works.is_empty() {
            let text = "the capability has no corpus: POST works of the agent's own to its `corpus` first";
            return Err(CreativityError::Conflict(text.to_owned()));
        }
        let texts = works.iter().map(|work| work.sha256.clone()).collect();
        let corpus: Vec<String> = works.into_iter().map(|work| work.text).collect();
        // Whether the algorithm can work on it is said now, and not by a task that fails.
        let embedding = self
            .judged(move |judge| {
                EnhancementRun::start(algorithm, corpus, cycles, seed, judge)?;
                Ok(judge.embedding())
            })
            .await?;
        let parameters = EnhancementParameters { capability_id: id.clone(), algorithm, cycles, embedding, texts };
        let (this, caller, id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            own_capability(tx, &caller, &id, now).await?;
            let parameters = serde_json::to_value(&parameters)
                .map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
            let new = NewWork {
                id: this.0.tasks.new_id(),
                kind: KIND,
                owner_id: caller.principal.id(),
                subject: id.to_string(),
                parameters,
                seed,
                limited: !caller.is_admin,
            };
            let task = this.0.tasks.submit(tx, new, now).await?;
            document_of(task)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Return an enhancement of a capability.
    ///
    /// # Errors
    /// [`CreativityError::NotFound`].
    #[boxed]
    pub async fn enhancement(
        &self,
        caller: &CreativeCaller,
        id: &CreativeCapabilityId,
        task: &BackgroundTaskId,
    ) -> Result<EnhancementDocument> {
        visible_capability(&mut *self.0.db.read().await?, caller, id).await?;
        let found = self.0.tasks.get(&Self::all_seeing(caller), task).await;
        match found {
            Ok(task) if task.kind == KIND && task.subject == id.as_str() => document_of(task),
            Ok(_) | Err(am_background::WorkError::NotFound(_)) => Err(CreativityError::NotFound("Enhancement")),
            Err(error) => Err(error.into()),
        }
    }

    /// Return a page of a capability's enhancements, the newest first, and how many there are.
    ///
    /// # Errors
    /// [`CreativityError::NotFound`].
    #[boxed]
    pub async fn list_enhancements(
        &self,
        caller: &CreativeCaller,
        id: &CreativeCapabilityId,
        page: &PageRequest,
    ) -> Result<(Vec<EnhancementDocument>, i64)> {
        visible_capability(&mut *self.0.db.read().await?, caller, id).await?;
        let filter =
            WorkFilter { kind: Some(KIND.to_owned()), subject: Some(id.to_string()), status: Vec::new(), all: true };
        let (rows, total) = self.0.tasks.list(&Self::all_seeing(caller), &filter, page).await?;
        let rows: Vec<EnhancementDocument> = rows.into_iter().map(document_of).collect::<Result<_>>()?;
        Ok((rows, total))
    }

    /// Whoever may see a capability may see its enhancements, whichever principal began them.
    fn all_seeing(caller: &CreativeCaller) -> WorkCaller {
        WorkCaller { principal: caller.principal.clone(), is_admin: true }
    }
}

/// Enhancement as a kind of background work.
pub(crate) struct EnhancementKind {
    pub(crate) db: Database,
    pub(crate) audit: AuditLog,
    pub(crate) judge: TextJudge,
}

/// An enhancement under way.
struct EnhancementMachine {
    run: EnhancementRun,
    cycles: u32,
    judge: TextJudge,
}

/// A failure in words, or a failure of the database, after which it is tried again.
fn fault_of(error: CreativityError) -> WorkFault {
    match error {
        CreativityError::Db(error) => WorkFault::Db(error),
        error => WorkFault::Failed(error.to_string()),
    }
}

impl EnhancementKind {
    /// The texts that the task began with, in their order.
    async fn corpus(&self, parameters: &EnhancementParameters) -> Result<Vec<String>> {
        let mut conn = self.db.read().await?;
        let works = store::works(&mut conn, &parameters.capability_id, WorkRole::Own, MAX_TEXTS).await?;
        let mut by_hash: BTreeMap<String, String> = works.into_iter().map(|work| (work.sha256, work.text)).collect();
        let gone = || CreativityError::Conflict("a text of the corpus that it began with was removed".to_owned());
        parameters.texts.iter().map(|hash| by_hash.remove(hash).ok_or_else(gone)).collect()
    }
}

impl WorkKind for EnhancementKind {
    fn name(&self) -> &'static str {
        KIND
    }

    fn open(
        &self,
        context: &WorkContext,
        checkpoint: Option<&str>,
    ) -> std::result::Result<Box<dyn WorkMachine>, WorkFault> {
        let parameters: EnhancementParameters = context.parameters()?;
        if parameters.embedding != self.judge.embedding() {
            let text = "it began with another representation of texts than the service has now (TEXT_ENCODER_PATH), and its \
                        scores could not be compared: begin it anew";
            return Err(WorkFault::Failed(text.to_owned()));
        }
        let run = match checkpoint {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| WorkFault::Failed(format!("its checkpoint can't be read: {error}")))?,
            None => {
                let corpus = context.block_on(self.corpus(&parameters)).map_err(fault_of)?;
                let seed = context.task().seed;
                EnhancementRun::start(parameters.algorithm, corpus, parameters.cycles, seed, &self.judge)
                    .map_err(fault_of)?
            }
        };
        Ok(Box::new(EnhancementMachine { run, cycles: parameters.cycles, judge: self.judge.clone() }))
    }

    fn settle<'a>(&'a self, tx: &'a mut Tx, ended: &'a EndedWork) -> BoxFuture<'a, am_db::Result<()>> {
        let settled = async move {
            let (WorkStatus::Completed, Some(result)) = (ended.status, &ended.result) else { return Ok(()) };
            let unreadable = |error: serde_json::Error| am_db::DatabaseError::InvalidValue(format!("task: {error}"));
            let parameters: EnhancementParameters =
                serde_json::from_value(ended.task.parameters.clone()).map_err(unreadable)?;
            let outcome: EnhancementOutcome = serde_json::from_value(result.clone()).map_err(unreadable)?;
            let rate = (outcome.gain / f64::from(parameters.cycles)).clamp(0.0, 1.0);
            store::store_learning_rate(tx, &parameters.capability_id, rate, ended.now).await?;
            let entry = AuditEntry::new(EventType::WorkflowUpdated, ended.now).of("creative_capability", "enhanced");
            let entry = entry.on_behalf_of(&ended.task.owner_id).data("capability_id", json!(parameters.capability_id));
            let entry = entry.data("task_id", json!(ended.task.id)).data("gain", json!(outcome.gain));
            self.audit.append(tx, vec![entry]).await
        };
        settled.boxed()
    }
}

impl WorkMachine for EnhancementMachine {
    fn advance(&mut self, _: &WorkContext) -> std::result::Result<WorkStep, WorkFault> {
        if !self.run.is_done() {
            self.run.advance(&self.judge).map_err(fault_of)?;
            let (done, total) = (u64::from(self.run.cycles_done()), u64::from(self.cycles));
            return Ok(WorkStep::Progress { done, total, note: None });
        }
        let outcome = self.run.outcome(&self.judge).map_err(fault_of)?;
        let result = serde_json::to_value(outcome).map_err(|error| WorkFault::Failed(error.to_string()))?;
        Ok(WorkStep::Done(result))
    }

    fn checkpoint(&self) -> std::result::Result<String, WorkFault> {
        serde_json::to_string(&self.run).map_err(|error| WorkFault::Failed(error.to_string()))
    }
}
