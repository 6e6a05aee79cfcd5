//! Sweeps: a policy's settings tried one after the other, each as training runs with several seeds, as one background task.
//!
//! Trials are real training runs, with curves, versions and exports, found by the tag `sweep:<id>`.

mod draft;
mod figures;
mod model;
mod points;
mod store;
mod work;

use std::{sync::Arc, time::Duration};

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::{BackgroundTasks, NewWork};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::SweepId,
};
use am_db::{
    Connection, Database, DatabaseError, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use am_rl::{
    RlError,
    library::PolicyLibrary,
    runs::{TrainingCaller, TrainingRole, TrainingRuns},
};
use serde_json::json;

pub use self::{
    figures::sweep_csv,
    model::{
        SweepBudget, SweepDimension, SweepDocument, SweepDraft, SweepFilter, SweepGoal, SweepMargin, SweepMethod,
        SweepReport, SweepStatus, TrialDocument, TrialRun, TrialState,
    },
};
use self::{
    figures::{best_scores, margin, score_of},
    model::{SweepPlan, SweepRecord, TrialRecord},
    work::{SWEEP_KIND, SweepWork, settle_run},
};
use crate::error::{PerformanceError, Result};

/// The service for sweeps. Cheap to clone.
#[derive(Clone)]
pub struct SweepService(Arc<SweepInner>);

struct SweepInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    tasks: BackgroundTasks,
    library: PolicyLibrary,
    training: TrainingRuns,
}

fn no_sweep(id: &SweepId) -> PerformanceError {
    PerformanceError::NotFound(format!("No sweep {id}"))
}

/// A sweep with its best trial.
async fn document(conn: &mut Connection, sweep: SweepRecord) -> Result<SweepDocument> {
    let best = store::best_trials(conn, std::slice::from_ref(&sweep.id)).await?;
    Ok(sweep.document(best.into_iter().next()))
}

impl SweepService {
    /// The service on `db`, whose sweeps are background work. Its kind of work is made known here.
    pub fn new(
        (db, clock, ids): (Database, Clock, IdGenerator),
        audit: AuditLog,
        tasks: BackgroundTasks,
        (library, training): (PolicyLibrary, TrainingRuns),
    ) -> Self {
        let work = SweepWork { db: db.clone(), clock: clock.clone(), audit: audit.clone(), training: training.clone() };
        tasks.register_kind(Arc::new(work));
        Self(Arc::new(SweepInner { db, clock, ids, audit, tasks, library, training }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Begin a sweep.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; another owner's policy; a quota of background work.
    #[boxed]
    pub async fn create(
        &self,
        caller: &TrainingCaller,
        draft: SweepDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SweepDocument>> {
        let (training, by) = (self.0.training.clone(), caller.clone());
        let id = SweepId::from(format!("sweep_{}", self.0.ids.hex(12)));
        let chosen = match training.choose_environment(draft::shared_spec(&draft)).await {
            Err(RlError::Invalid(found)) => return Err(PerformanceError::Invalid(found)),
            other => other?,
        };
        let checked = tokio::task::spawn_blocking(move || draft::checked(draft, chosen, &training, &by, id));
        let plan = checked.await.map_err(|_| PerformanceError::Interrupted)??;
        self.0.library.check_may_publish(&caller.principal, &plan.policy).await?;
        let (me, by, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| me.begin(tx, &by, plan, now).await;
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    async fn begin(
        &self,
        tx: &mut Tx,
        caller: &TrainingCaller,
        plan: SweepPlan,
        now: Timestamp,
    ) -> Result<SweepDocument> {
        let parameters = serde_json::to_value(&plan).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
        let new = NewWork {
            id: self.0.tasks.new_id(),
            kind: SWEEP_KIND,
            owner_id: caller.principal.id(),
            subject: plan.sweep_id.to_string(),
            parameters,
            seed: plan.seed,
            limited: caller.role != TrainingRole::Admin,
        };
        let sweep = SweepRecord {
            id: plan.sweep_id.clone(),
            owner_id: caller.principal.id(),
            status: SweepStatus::Running,
            task_id: new.id.clone(),
            plan,
            ended: 0,
            best_trial: None,
            ended_by: None,
            error: None,
            created_at: now,
            ended_at: None,
            updated_at: now,
        };
        store::insert(tx, &sweep).await?;
        self.0.tasks.submit(tx, new, now).await?;
        let entry = self.entry(caller, "requested", &sweep, now).data("trials", json!(sweep.plan.trials));
        self.0.audit.append(tx, vec![entry.change(None, Some(json!({"status": sweep.status})))]).await?;
        Ok(sweep.document(None))
    }

    /// The audit entry of what `caller` did with a sweep.
    fn entry(&self, caller: &TrainingCaller, action: &str, sweep: &SweepRecord, now: Timestamp) -> AuditEntry {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(&caller.principal).of("sweep", action);
        entry.data("sweep_id", json!(sweep.id)).data("policy", json!(sweep.plan.policy))
    }

    async fn visible(conn: &mut Connection, caller: &TrainingCaller, id: &SweepId) -> Result<SweepRecord> {
        let found = store::get(conn, id).await?;
        let found = match caller.role {
            TrainingRole::Admin => found,
            TrainingRole::Client | TrainingRole::Miner => caller.principal.own(found, |sweep| &sweep.owner_id),
        };
        found.ok_or_else(|| no_sweep(id))
    }

    /// A sweep of `caller`; any for an admin. With `wait` as it is once it has ended, or the time is up.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`], for another owner's too.
    #[boxed]
    pub async fn get(&self, caller: &TrainingCaller, id: &SweepId, wait: Option<Duration>) -> Result<SweepDocument> {
        let sweep = Self::visible(&mut *self.0.db.read().await?, caller, id).await?;
        if let Some(wait) = wait.filter(|_| sweep.ended_at.is_none()) {
            self.0.tasks.wait(&sweep.task_id, wait).await?;
        }
        let mut conn = self.0.db.read().await?;
        let sweep = Self::visible(&mut conn, caller, id).await?;
        document(&mut conn, sweep).await
    }

    /// A page of `caller`'s sweeps, newest first, and their number; with `filter.all` everybody's.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn list(
        &self,
        caller: &TrainingCaller,
        filter: &SweepFilter,
        page: &PageRequest,
    ) -> Result<(Vec<SweepDocument>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        let (sweeps, total) = store::list(&mut conn, &caller.principal, filter, page).await?;
        let with_best: Vec<SweepId> =
            sweeps.iter().filter(|sweep| sweep.best_trial.is_some()).map(|sweep| sweep.id.clone()).collect();
        let mut best = store::best_trials(&mut conn, &with_best).await?;
        let take = |sweep: SweepRecord| {
            let at = best.iter().position(|trial| trial.sweep_id == sweep.id);
            let found = at.map(|at| best.swap_remove(at));
            sweep.document(found)
        };
        Ok((sweeps.into_iter().map(take).collect(), total))
    }

    /// The trials of a sweep with their figures.
    ///
    /// # Errors
    /// As [`SweepService::get`].
    #[boxed]
    pub async fn report(&self, caller: &TrainingCaller, id: &SweepId) -> Result<SweepReport> {
        let (sweep, mut trials) = {
            let mut conn = self.0.db.read().await?;
            let sweep = Self::visible(&mut conn, caller, id).await?;
            let trials = store::trials(&mut conn, id).await?;
            (sweep, trials)
        };
        let goal = sweep.plan.goal;
        // Of the trial under way, what its runs have come to meanwhile.
        if let Some(TrialRecord { runs, .. }) = trials.last_mut().filter(|trial| trial.state == TrialState::Running) {
            for run in runs.iter_mut() {
                if let Ok(found) = self.0.training.get(caller, &run.run_id).await {
                    settle_run(run, &found, score_of(goal, &found));
                }
            }
        }
        let trials: Vec<TrialDocument> = trials.into_iter().map(TrialRecord::document).collect();
        let (best_scores, margin) = (best_scores(&trials), margin(&trials));
        Ok(SweepReport { sweep_id: sweep.id, goal, trials, best_scores, margin })
    }

    /// Ask that a sweep end, with the runs of its trial. Trials that have ended keep their figures and their versions.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] when it has ended.
    #[boxed]
    pub async fn cancel(
        &self,
        caller: &TrainingCaller,
        id: &SweepId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SweepDocument>> {
        let (me, by, id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let sweep = Self::visible(tx.conn().await?, &by, &id).await?;
            if sweep.ended_at.is_some() {
                let text = format!("The sweep cannot be cancelled: it is {}", sweep.status);
                return Err(PerformanceError::Conflict("invalid_state", text));
            }
            me.0.tasks.cancel_in(tx, &sweep.task_id, now).await?;
            let sweep = store::get(tx.conn().await?, &id).await?.ok_or_else(|| no_sweep(&id))?;
            me.0.audit.append(tx, vec![me.entry(&by, "cancel", &sweep, now)]).await?;
            document(tx.conn().await?, sweep).await
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }
}
