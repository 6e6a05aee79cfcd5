//! Compilation of a definition's jq programs and schemas, as a check, in worker processes: neither has a bound of time or
//! memory that follows from its length.

use am_core::boxed;
use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    evaluation::{JqError, JqSettings},
    pool::JqPool,
};
use am_core::validation::{FieldPath, Violation};
use am_jq_worker::protocol::TaskKind;

/// A text of a definition that is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SourceText {
    /// A jq program.
    Program(Arc<str>),
    /// A JSON Schema.
    Schema(Arc<str>),
}

/// Compiles texts in workers of its own, so that it does not wait for running programs. Clones share the workers.
#[derive(Clone)]
pub struct TextChecker {
    workers: JqPool,
    /// Time limit of all texts of one definition together.
    timeout: Duration,
    memory_mb: u64,
}

impl TextChecker {
    /// Create the checker on `workers`, which were started with `settings`.
    pub fn new(workers: JqPool, settings: &JqSettings) -> Self {
        Self { workers, timeout: settings.timeout, memory_mb: settings.memory_mb }
    }

    /// Compile the texts of one definition, each with its place, and return the faults. Equal texts are compiled once. The
    /// time limit holds for all together, and what comes after the text that exceeds it is not compiled.
    ///
    /// # Errors
    /// [`JqError::NoWorker`] and [`JqError::PoolClosed`], which are no faults of the texts.
    #[boxed]
    pub async fn check(&self, texts: Vec<(FieldPath, SourceText)>) -> Result<Vec<Violation>, JqError> {
        let (mut known, mut faults, mut seconds) = (HashSet::new(), Vec::new(), 0.0);
        for (path, source) in texts {
            if !known.insert(source.clone()) {
                continue;
            }
            let (task, text, what) = match source {
                SourceText::Program(text) => (TaskKind::CompileJq, text, "program"),
                SourceText::Schema(text) => (TaskKind::CompileSchema, text, "schema"),
            };
            match self.workers.compile(task, text).await {
                Ok(taken) => seconds += taken,
                Err(JqError::Program(message)) => faults.push(Violation::new(path.clone(), message)),
                Err(JqError::Timeout { .. }) => seconds = f64::INFINITY,
                Err(JqError::Crashed) => {
                    let message = format!("compiling the {what} takes more than {} MiB of memory", self.memory_mb);
                    faults.push(Violation::new(path.clone(), message));
                }
                Err(error) => return Err(error),
            }
            let limit = self.timeout.as_secs_f64();
            if seconds > limit {
                let message = format!("compiling the {what}, with those before it, takes longer than {limit} s");
                faults.push(Violation::new(path, message));
                return Ok(faults);
            }
        }
        Ok(faults)
    }

    /// End the workers; see [`JqPool::shutdown`].
    #[boxed]
    pub async fn shutdown(&self) {
        self.workers.shutdown().await;
    }
}
