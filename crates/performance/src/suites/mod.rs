//! Evaluation suites: cases that are run against a workflow or a policy, the score that comes of it, and gates of policies' aliases.
//!
//! Each case is an execution for the principal who evaluates, of the workflow or of one that asks the policy. Which cases wait, run and
//! have ended stands in rows; an evaluation is a background task that starts and looks at them, each under a key of its own, so that
//! whichever process dies, a case is run once and counted once.

mod checks;
mod ending;
mod evaluations;
mod figures;
mod gates;
mod model;
mod record;
mod store;
mod work;
mod worker;

use std::sync::Arc;

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::BackgroundTasks;
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed, crypto,
    ids::SuiteId,
    validation::Violation,
};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};
use am_orchestration::{
    executions::ExecutionService,
    jq::{JqPool, TextChecker},
    workflows::WorkflowService,
};
use am_rl::library::PolicyLibrary;
use serde_json::json;
use tokio::sync::Notify;

pub use self::model::{
    CaseCheck, CaseDraft, EvaluationComparison, EvaluationDocument, EvaluationDraft, EvaluationState, EvaluationTarget,
    GateDocument, GateDraft, GateRule, ResultDocument, ResultState, SuiteCase, SuiteDocument, SuiteDraft,
    SuiteVersionDraft, TargetKind,
};
use self::{checks::checked_cases, work::SuiteEvaluationKind, worker::EvaluationWorker};
use crate::{
    PerformanceCaller,
    error::{PerformanceError, Result},
};

/// The service for suites. Cheap to clone.
#[derive(Clone)]
pub struct SuiteService(Arc<SuiteInner>);

struct SuiteInner {
    parts: Arc<SuiteParts>,
    tasks: BackgroundTasks,
    /// What starts, looks at and ends cases.
    worker: EvaluationWorker,
    /// Notified when an evaluation is to end.
    wake: Arc<Notify>,
}

/// Dependencies of the suites.
pub struct SuiteParts {
    /// Database of the suites.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids.
    pub ids: IdGenerator,
    /// Audit log of all changes.
    pub audit: AuditLog,
    /// What runs cases.
    pub executions: ExecutionService,
    /// What is run.
    pub workflows: WorkflowService,
    /// Policies that are evaluated.
    pub library: PolicyLibrary,
    /// Workers that check outputs.
    pub jq: JqPool,
    /// Workers that compile checks.
    pub texts: TextChecker,
}

/// The audit entry of what `caller` did with a resource of this module.
fn entry(caller: &Principal, resource: &str, action: &str, now: Timestamp) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, now).by(caller).of(resource, action)
}

fn no_suite(id: &SuiteId) -> PerformanceError {
    PerformanceError::NotFound(format!("No suite {id}"))
}

impl SuiteService {
    /// The service of these parts, whose evaluations are background work. Their kind of work is made known here; what did not complete is
    /// ended by [`SuiteService::work`].
    pub fn new(parts: SuiteParts, tasks: BackgroundTasks) -> Self {
        let (parts, wake) = (Arc::new(parts), Arc::new(Notify::new()));
        let worker = EvaluationWorker { parts: parts.clone(), wake: wake.clone() };
        tasks.register_kind(Arc::new(SuiteEvaluationKind(worker.clone())));
        Self(Arc::new(SuiteInner { parts, tasks, worker, wake }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.parts.clock.now())
    }

    /// The audit entry of what `caller` did with a resource of this module.
    fn entry(&self, caller: &Principal, resource: &str, action: &str, now: Timestamp) -> AuditEntry {
        entry(caller, resource, action, now)
    }

    /// Make a suite with its first version.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; [`PerformanceError::Conflict`] where the caller has one of this name.
    #[boxed]
    pub async fn create(
        &self,
        caller: &PerformanceCaller,
        draft: SuiteDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SuiteDocument>> {
        let fault = checks::name_fault(&draft.name).map(|fault| Violation::new("name", fault));
        let now = self.now();
        let SuiteDraft { name, description, output_step, cases } = draft;
        let suite = SuiteDocument {
            id: self.0.parts.ids.next("suite_", 12).into(),
            owner_id: caller.principal.id(),
            name,
            latest: 1,
            version: 1,
            description: description.clone(),
            output_step: output_step.clone(),
            cases: 0,
            sha256: String::new(),
            created_at: now,
            updated_at: now,
        };
        let cases = self.compiled_cases(SuiteVersionDraft { description, output_step, cases }, fault).await?;
        let suite = with_cases(suite, &cases);
        let entry = self.entry(&caller.principal, "suite", "created", now).data("suite", json!(suite.id));
        let audit = self.0.parts.audit.clone();
        let work = async move |tx: &mut Tx| {
            if store::has_name(tx.conn().await?, &suite.owner_id, &suite.name).await? {
                return Err(PerformanceError::Conflict("name_taken", format!("You have a suite {:?}", suite.name)));
            }
            store::insert_version(tx, &suite, &cases).await?;
            audit.append(tx, vec![entry.data("sha256", json!(suite.sha256))]).await?;
            Ok(suite)
        };
        self.0.parts.db.write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// Add a version to a suite, which becomes its newest.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Invalid`] with all faults.
    #[boxed]
    pub async fn add_version(
        &self,
        caller: &PerformanceCaller,
        id: &SuiteId,
        draft: SuiteVersionDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SuiteDocument>> {
        self.get(caller, id, None).await?;
        let (description, output_step) = (draft.description.clone(), draft.output_step.clone());
        let cases = self.compiled_cases(draft, None).await?;
        let (by, id, now, audit) = (caller.clone(), id.clone(), self.now(), self.0.parts.audit.clone());
        let entry = self.entry(&caller.principal, "suite", "version_added", now).data("suite", json!(id));
        let work = async move |tx: &mut Tx| {
            let before = visible_suite(tx.conn().await?, &by, &id, None).await?;
            let version = before.latest + 1;
            let suite = SuiteDocument { latest: version, version, description, output_step, updated_at: now, ..before };
            let suite = with_cases(suite, &cases);
            store::insert_version(tx, &suite, &cases).await?;
            let entry = entry.data("version", json!(version)).data("sha256", json!(suite.sha256));
            audit.append(tx, vec![entry]).await?;
            Ok(suite)
        };
        self.0.parts.db.write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// The cases of a draft with compiled programs and schemas, or all that is wrong.
    async fn compiled_cases(&self, draft: SuiteVersionDraft, fault: Option<Violation>) -> Result<Vec<SuiteCase>> {
        let cases = match checked_cases(draft, self.now()) {
            Ok(cases) if fault.is_none() => cases,
            found => {
                let found = found.err().unwrap_or_default();
                return Err(PerformanceError::Invalid(fault.into_iter().chain(found).collect()));
            }
        };
        let found = self.0.parts.texts.check(checks::sources(&cases)).await;
        match found {
            Ok(faults) if faults.is_empty() => Ok(cases),
            Ok(faults) => Err(PerformanceError::Invalid(faults)),
            Err(_) => Err(PerformanceError::Interrupted),
        }
    }

    /// A suite with one of its versions, by default the newest.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn get(&self, caller: &PerformanceCaller, id: &SuiteId, version: Option<i64>) -> Result<SuiteDocument> {
        visible_suite(&mut *self.0.parts.db.read().await?, caller, id, version).await
    }

    /// A page of the caller's suites, an admin's of all, the newest first, and how many the caller has.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(
        &self,
        caller: &PerformanceCaller,
        page: &PageRequest,
    ) -> Result<(Vec<SuiteDocument>, Option<i64>)> {
        let owner = (!caller.is_admin).then(|| caller.principal.id());
        Ok(store::list(&mut *self.0.parts.db.read_list().await?, owner.as_ref(), page).await?)
    }

    /// A page of a version's cases and how many it has.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn cases(
        &self,
        caller: &PerformanceCaller,
        (id, version): (&SuiteId, Option<i64>),
        page: &PageRequest,
    ) -> Result<(Vec<SuiteCase>, i64)> {
        let mut conn = self.0.parts.db.read_list().await?;
        let suite = visible_suite(&mut conn, caller, id, version).await?;
        Ok(store::cases(&mut conn, (id, suite.version), page).await?)
    }
}

/// A suite as its cases make it.
fn with_cases(suite: SuiteDocument, cases: &[SuiteCase]) -> SuiteDocument {
    let texts: Vec<&str> = cases.iter().flat_map(|case| [case.name.as_str(), case.sha256.as_str()]).collect();
    let sha256 = crypto::sha256_hex(texts.join("\n").as_bytes());
    SuiteDocument { cases: cases.len() as i64, sha256, ..suite }
}

/// A suite that the caller may see, with one of its versions.
async fn visible_suite(
    conn: &mut Connection,
    caller: &PerformanceCaller,
    id: &SuiteId,
    version: Option<i64>,
) -> Result<SuiteDocument> {
    let found = store::suite(conn, id, version).await?;
    let found = found.filter(|suite| caller.may_see(&suite.owner_id)).ok_or_else(|| no_suite(id));
    match (found, version) {
        (Err(_), Some(version))
            if store::suite(conn, id, None).await?.is_some_and(|one| caller.may_see(&one.owner_id)) =>
        {
            Err(PerformanceError::NotFound(format!("The suite {id} has no version {version}")))
        }
        (found, _) => found,
    }
}
