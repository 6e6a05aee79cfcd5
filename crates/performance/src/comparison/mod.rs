//! Comparison of policies' versions: by the evaluations that their trainings recorded, over the seeds of trainings that were alike; or
//! by new evaluations in the same episodes, as background work.

mod figures;
mod model;
mod work;

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::{BackgroundTasks, BackgroundWork, NewWork};
use am_core::{
    ambient::Clock,
    boxed,
    validation::{FieldPath, PathSegment, Violations},
};
use am_db::{
    Database, DatabaseError, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_rl::{
    PolicyReference, RlError,
    library::{PolicyLibrary, VersionRecord},
    runs::{EvaluationScores, TrainingRuns, score_weights},
};
use serde_json::{Value, json};

pub use self::model::{
    ComparedMeasure, ComparedVersion, ComparisonDraft, ComparisonMethod, ComparisonVerdict, SeedScore,
    VersionComparison, VersionDifference,
};
use self::{
    figures::{KnownScores, report_of},
    model::ComparisonOrder,
    work::{COMPARISON_KIND, ComparisonWork},
};
use crate::{
    agents::PerformanceCaller,
    error::{PerformanceError, Result},
};

/// Versions of one comparison.
pub const COMPARED_VERSIONS: RangeInclusive<usize> = 2..=10;
/// Seeds of the episodes of a comparison.
const SEEDS: RangeInclusive<usize> = 2..=20;
/// Episodes of each evaluation of a comparison: a cancellation waits for it.
const EPISODES: RangeInclusive<usize> = 1..=200;
/// Episodes by default.
const DEFAULT_EPISODES: usize = 20;

/// The service for comparisons. Cheap to clone.
#[derive(Clone)]
pub struct ComparisonService(Arc<ComparisonInner>);

struct ComparisonInner {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    tasks: BackgroundTasks,
    library: PolicyLibrary,
    training: TrainingRuns,
}

/// The evaluation that a version was stored with; `None`: it has none of whole episodes.
fn recorded(scores: Option<&Value>) -> Option<EvaluationScores> {
    serde_json::from_value(scores?.clone()).ok()
}

/// Environment and parameters of a version's recorded evaluation.
fn evaluated_in(record: &VersionRecord) -> Option<(&str, Option<&Value>)> {
    recorded(record.scores.as_ref())?;
    let parameters = record.training.as_ref().and_then(|training| training.get("parameters"));
    Some((record.environment.as_deref()?, parameters.filter(|parameters| !parameters.is_null())))
}

impl ComparisonService {
    /// The service of policies in `library`, whose new evaluations are background work. Its kind of work is made known here.
    pub fn new(
        (db, clock): (Database, Clock),
        audit: AuditLog,
        tasks: BackgroundTasks,
        (library, training): (PolicyLibrary, TrainingRuns),
    ) -> Self {
        tasks.register_kind(Arc::new(ComparisonWork { library: library.clone(), training: training.clone() }));
        Self(Arc::new(ComparisonInner { db, clock, audit, tasks, library, training }))
    }

    /// Read versions, each once.
    async fn versions(&self, references: &[PolicyReference]) -> Result<Vec<VersionRecord>> {
        let mut found: Vec<VersionRecord> = Vec::with_capacity(references.len());
        for reference in references {
            let record = self.0.library.version(reference).await?;
            if found.iter().all(|known| known.reference != record.reference) {
                found.push(record);
            }
        }
        Ok(found)
    }

    /// Compare versions by what their trainings recorded. They are compared in the environment of the first one that has an evaluation.
    ///
    /// # Errors
    /// A version that does not exist.
    #[boxed]
    pub async fn compare(&self, references: &[PolicyReference]) -> Result<VersionComparison> {
        let records = self.versions(references).await?;
        let place = records.iter().find_map(evaluated_in);
        let mut known = Vec::with_capacity(records.len());
        for record in &records {
            known.push(self.known(record, place).await?);
        }
        let (environment, parameters) = place.unzip();
        Ok(report_of(&known, environment.map(str::to_owned), parameters.flatten().cloned()))
    }

    /// What is recorded of a version in an environment, with the seeds of trainings like its own.
    async fn known(&self, record: &VersionRecord, place: Option<(&str, Option<&Value>)>) -> Result<KnownScores> {
        let reference = record.reference.clone();
        let none = |reason: String| KnownScores {
            reference: reference.clone(),
            own: None,
            seeds: Vec::new(),
            is_paired: false,
            reason: Some(reason),
        };
        let Some(own) = recorded(record.scores.as_ref()) else {
            return Ok(none(format!(
                "it has no recorded evaluation in whole episodes, being {}: POST rl/compare makes one",
                record.source
            )));
        };
        if evaluated_in(record) != place {
            let text = "it was evaluated in another environment, or with other parameters: POST rl/compare evaluates all in one";
            return Ok(none(text.to_owned()));
        }
        let alike = self.0.library.trained_alike(record).await?;
        let seeds = alike.into_iter().filter_map(|one| Some((one.seed, one.reference, recorded(one.scores.as_ref())?)));
        let mut seeds: Vec<(u64, String, EvaluationScores)> = seeds.collect();
        if seeds.len() < 2 {
            seeds.clear();
        }
        Ok(KnownScores { reference, own: Some(own), seeds, is_paired: false, reason: None })
    }

    /// Evaluate versions in the same episodes, with several seeds, in the background; the task's result is a [`VersionComparison`].
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; a version that does not exist; a quota of background work.
    #[boxed]
    pub async fn evaluate(
        &self,
        caller: &PerformanceCaller,
        draft: ComparisonDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<BackgroundWork>> {
        let order = self.checked(draft).await?;
        let (me, by, now) = (self.clone(), caller.clone(), Timestamp(self.0.clock.now()));
        let work = async move |tx: &mut Tx| {
            let parameters =
                serde_json::to_value(&order).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
            let new = NewWork {
                id: me.0.tasks.new_id(),
                kind: COMPARISON_KIND,
                owner_id: by.principal.id(),
                subject: order.versions[0].clone(),
                parameters,
                seed: order.seeds[0],
                limited: !by.is_admin,
            };
            let task = me.0.tasks.submit(tx, new, now).await?;
            let entry =
                AuditEntry::new(EventType::WorkflowUpdated, now).by(&by.principal).of("comparison", "requested");
            me.0.audit.append(tx, vec![entry.data("task_id", json!(task.id))]).await?;
            Ok::<_, PerformanceError>(task)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Check what is asked, name each version by its number, and find the environment.
    async fn checked(&self, draft: ComparisonDraft) -> Result<ComparisonOrder> {
        let mut violations = Violations::default();
        let mut references = Vec::new();
        for (at, text) in draft.versions.iter().enumerate() {
            let place = FieldPath::from([PathSegment::from("versions"), at.into()]);
            match text.parse::<PolicyReference>() {
                Ok(reference) => references.push(reference),
                Err(error) => violations.add(place, error.to_string()),
            }
        }
        let count = draft.versions.len();
        let text = format!("has {} to {} versions", COMPARED_VERSIONS.start(), COMPARED_VERSIONS.end());
        violations.require(COMPARED_VERSIONS.contains(&count), "versions", text);
        let seeds = draft.seeds.unwrap_or_else(|| (0..5).collect());
        let text = format!("has {} to {} seeds", SEEDS.start(), SEEDS.end());
        violations.require(SEEDS.contains(&seeds.len()), "seeds", text);
        let repeated = seeds.iter().enumerate().any(|(at, seed)| seeds[..at].contains(seed));
        violations.require(!repeated, "seeds", "has a seed twice");
        violations.require_within(draft.episodes, &EPISODES, "episodes");
        violations.finish().map_err(PerformanceError::Invalid)?;
        let records = self.versions(&references).await?;
        if records.len() < references.len() {
            return Err(PerformanceError::invalid("versions", "names a version twice"));
        }
        let environment = draft.environment.or_else(|| records.iter().find_map(|record| record.environment.clone()));
        let Some(environment) = environment else {
            return Err(PerformanceError::invalid("environment", "is missing: no version was trained in one"));
        };
        let environment = self.check_fit(&records, environment, draft.parameters.as_ref()).await?;
        Ok(ComparisonOrder {
            versions: records.into_iter().map(|record| record.reference).collect(),
            environment,
            parameters: draft.parameters,
            episodes: draft.episodes.unwrap_or(DEFAULT_EPISODES),
            seeds,
        })
    }

    /// Check that each version fits the environment, by an episode of it; returns its name with its version. Versions of equal form are
    /// tried once.
    async fn check_fit(
        &self,
        records: &[VersionRecord],
        environment: String,
        parameters: Option<&Value>,
    ) -> Result<String> {
        let (environment, plan) = match self.0.training.evaluation_plan(environment, parameters.cloned(), 0).await {
            Err(RlError::Invalid(found)) => return Err(PerformanceError::Invalid(found)),
            other => other?,
        };
        let forms: BTreeMap<String, &VersionRecord> =
            records.iter().map(|record| (json!(record.form).to_string(), record)).collect();
        for record in forms.values() {
            let reference = PolicyReference::at(&record.name, record.version);
            let (_, weights) = self.0.library.weights(&reference).await?;
            let plan = plan.clone();
            let tried = tokio::task::spawn_blocking(move || score_weights(&weights, &plan, 1, 0)).await;
            match tried.map_err(|_| PerformanceError::Interrupted)? {
                Ok(_) => {}
                Err(RlError::Invalid(found)) => return Err(PerformanceError::Invalid(found)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(environment)
    }
}
