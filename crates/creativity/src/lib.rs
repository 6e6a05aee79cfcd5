//! Creativity of agents: what they can, measures of what they make, its enhancement, ideas, and synthesis across domains.

pub mod algorithms;
mod caller;
mod capabilities;
mod corpus;
mod encoding;
mod enhancement;
mod error;
mod evaluation;
mod ideas;
pub mod ideation;
mod judge;
mod language_model;
pub mod measures;
mod metrics;
mod model;
mod problem_terms;
mod seeded_choice;
mod store;
pub mod synthesis;

use std::{path::Path, sync::Arc};

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::BackgroundTasks;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::CreativityConfig,
};
use am_db::{Database, codec::Timestamp};
use am_rl::text_encoder::{EncoderError, TextEncoder};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

pub use caller::CreativeCaller;
pub use corpus::{CorpusBatch, CorpusReport, CorpusRole, CorpusText};
pub use enhancement::{EnhancementDocument, EnhancementRequest};
pub use error::{CreativityError, Result};
pub use evaluation::EvaluationRequest;
pub use ideas::{IdeaSource, IdeationAnswer, IdeationRequest, SynthesisAnswer, SynthesisRequest};
pub use judge::{CreationScore, EmbeddingKind, Judge, ReferenceSet, TextEmbedding, cosine};
pub use model::{
    CapabilityDocument, CapabilityDraft, CreationEvaluation, CreativeFigures, FigureOrigin, WorkDocument, WorkRole,
};

use crate::{
    encoding::EncodedTexts, enhancement::EnhancementKind, language_model::LanguageModel, measures::TextJudge,
    metrics::CreativityMetrics,
};

/// The service of creativity. Cheap to clone.
#[derive(Clone)]
pub struct CreativityService(Arc<CreativityInner>);

struct CreativityInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    tasks: BackgroundTasks,
    judge: TextJudge,
    encoder: Option<TextEncoder>,
    llm: Option<LanguageModel>,
    metrics: CreativityMetrics,
    /// Computations at a time, so that requests leave processors to all else.
    turns: Semaphore,
}

/// Why the service can't be built.
#[derive(Debug, thiserror::Error)]
pub enum CreativityStartError {
    /// The files of the sentence encoder are not there.
    #[error("TEXT_ENCODER_PATH: {0}")]
    Encoder(#[from] EncoderError),
    /// The client of the language model can't be built.
    #[error("CREATIVITY_LLM_URL: {0}")]
    Client(#[from] reqwest::Error),
}

impl CreativityService {
    /// Create the service, and register enhancement as a kind of background work.
    ///
    /// # Errors
    /// A configured sentence encoder whose files are not there; a client that can't be built.
    pub fn new(
        (db, clock, ids): (Database, Clock, IdGenerator),
        audit: AuditLog,
        tasks: BackgroundTasks,
        config: &CreativityConfig,
    ) -> std::result::Result<Self, CreativityStartError> {
        let metrics = CreativityMetrics::default();
        let open = |path: &Path| TextEncoder::open(path, config.encoder_idle, metrics.encoder_loads.clone());
        let encoder = config.encoder_path.as_deref().map(open).transpose()?;
        let judge = match &encoder {
            Some(encoder) => TextJudge::new(Arc::new(EncodedTexts(encoder.clone()))),
            None => TextJudge::hashed(),
        };
        let llm = LanguageModel::from_config(config)?;
        let kind = EnhancementKind { db: db.clone(), audit: audit.clone(), judge: judge.clone() };
        tasks.register_kind(Arc::new(kind));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let turns = Semaphore::new(cores.div_ceil(2));
        Ok(Self(Arc::new(CreativityInner { db, clock, ids, audit, tasks, judge, encoder, llm, metrics, turns })))
    }

    /// Register the metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// End the sentence encoder's thread.
    pub fn stop(&self) {
        if let Some(encoder) = &self.0.encoder {
            encoder.stop();
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// An audit entry of what the caller does with a resource.
    fn entry(
        &self,
        caller: &CreativeCaller,
        event: EventType,
        resource: &str,
        action: &str,
        now: Timestamp,
    ) -> AuditEntry {
        AuditEntry::new(event, now).of(resource, action).by(&caller.principal)
    }

    /// Do work that judges texts, off the asynchronous threads.
    async fn judged<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Judge) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _turn = self.0.turns.acquire().await.map_err(|_| CreativityError::Interrupted)?;
        let judge = self.0.judge.clone();
        tokio::task::spawn_blocking(move || work(&judge)).await.map_err(|_| CreativityError::Interrupted)?
    }
}
