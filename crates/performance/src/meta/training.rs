//! The training of a model as background work.

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::{EndedWork, WorkContext, WorkFault, WorkKind, WorkMachine, WorkStatus, WorkStep};
use am_core::crypto::sha256_hex;
use am_db::{Database, DatabaseError, Tx};
use am_rl::{
    meta_learning::{MetaMeasures, MetaPlan, MetaTrainer},
    training::TrainingError,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{model::MetaModelStatus, store};

/// Name of the kind of work.
pub(super) const TRAINING_KIND: &str = "meta_training";
/// Seconds after which a piece of work ends, with the iteration that is under way.
const PIECE_SECONDS: f64 = 0.02;

/// What a training gives to the transaction that ends it.
#[derive(Serialize, Deserialize)]
struct TrainingResult {
    model_id: String,
    sha256: String,
    measures: MetaMeasures,
}

/// Trainings of models.
pub(super) struct MetaTraining {
    pub(super) db: Database,
    pub(super) audit: AuditLog,
}

/// A training under way.
struct TrainingMachine {
    db: Database,
    trainer: MetaTrainer,
}

fn fault(error: TrainingError) -> WorkFault {
    WorkFault::Failed(error.to_string())
}

impl WorkKind for MetaTraining {
    fn name(&self) -> &'static str {
        TRAINING_KIND
    }

    fn open(&self, context: &WorkContext, checkpoint: Option<&str>) -> Result<Box<dyn WorkMachine>, WorkFault> {
        let plan: MetaPlan = context.parameters()?;
        let trainer = match checkpoint {
            None => MetaTrainer::new(plan),
            Some(text) => {
                let file = BASE64_STANDARD.decode(text);
                let file = file.map_err(|error| WorkFault::Failed(format!("the checkpoint can't be read: {error}")))?;
                MetaTrainer::restored(plan, &file)
            }
        };
        Ok(Box::new(TrainingMachine { db: self.db.clone(), trainer: trainer.map_err(fault)? }))
    }

    fn settle<'a>(&'a self, tx: &'a mut Tx, ended: &'a EndedWork) -> BoxFuture<'a, am_db::Result<()>> {
        Box::pin(self.record_end(tx, ended))
    }
}

impl MetaTraining {
    async fn record_end(&self, tx: &mut Tx, ended: &EndedWork) -> am_db::Result<()> {
        let Some(mut model) = store::get(tx.conn().await?, &ended.task.subject).await? else { return Ok(()) };
        let before = model.status;
        model.status = match ended.status {
            WorkStatus::Completed => MetaModelStatus::Ready,
            WorkStatus::Cancelled => MetaModelStatus::Cancelled,
            _ => MetaModelStatus::Failed,
        };
        if let Some(result) = &ended.result {
            let result = TrainingResult::deserialize(result);
            let result = result.map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
            model.sha256 = Some(result.sha256);
            model.measures = Some(result.measures);
            model.training_time = Some(ended.seconds);
            model.trained_at = Some(ended.now);
        }
        model.error.clone_from(&ended.error);
        model.updated_at = ended.now;
        store::put(tx, &model).await?;
        let entry = AuditEntry::new(EventType::WorkflowUpdated, ended.now).of("meta_model", "trained");
        let entry = entry.on_behalf_of(&model.owner_id).data("model_id", json!(model.id));
        let entry = entry.change(Some(json!({"status": before})), Some(json!({"status": model.status})));
        self.audit.append(tx, vec![entry]).await
    }
}

impl WorkMachine for TrainingMachine {
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault> {
        if self.trainer.done() < self.trainer.total() {
            let until = context.seconds() + PIECE_SECONDS;
            while self.trainer.done() < self.trainer.total() && context.seconds() < until {
                self.trainer.advance(1).map_err(fault)?;
            }
            let note = self.trainer.last_point().map(|point| json!(point));
            return Ok(WorkStep::Progress { done: self.trainer.done(), total: self.trainer.total(), note });
        }
        let trained = self.trainer.finish().map_err(fault)?;
        let sha256 = sha256_hex(&trained.weights);
        // Before the end is recorded: a process that dies between the two writes the same file again.
        let (hash, text) = (sha256.clone(), BASE64_STANDARD.encode(&trained.weights));
        let kept = self.db.write(async move |tx: &mut Tx| store::insert_file(tx, &hash, &text).await);
        context.block_on(kept)?;
        let model_id = context.task().subject.clone();
        let result: Value = serde_json::to_value(TrainingResult { model_id, sha256, measures: trained.measures })
            .map_err(|error| WorkFault::Failed(error.to_string()))?;
        Ok(WorkStep::Done(result))
    }

    fn checkpoint(&self) -> Result<String, WorkFault> {
        Ok(BASE64_STANDARD.encode(self.trainer.save().map_err(fault)?))
    }
}
