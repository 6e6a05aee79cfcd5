//! The first save of a run: what must hold then, and what is stored with it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{
    EngineInner,
    checkpoint::{NewExecution, RunCheckpoint},
    costs::RunBound,
    store,
};
use crate::{
    error::{OrchestrationError, Result},
    run::Execution,
};
use am_core::ids::PrincipalId;
use am_db::{
    Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
};

/// What is checked and written in the transaction that stores a new run.
pub trait StartCondition: Send + Sync {
    /// Check that `execution` may start. An error undoes the transaction.
    fn check<'a>(&'a self, tx: &'a mut Tx, execution: &'a Execution) -> BoxFuture<'a, Result<()>>;
}

/// Key and condition of a run's first save.
#[derive(Clone)]
pub(super) struct FirstSave {
    pub(super) once: Option<IdempotencyKey>,
    pub(super) condition: Option<Arc<dyn StartCondition>>,
    pub(super) counted: OpenCount,
    /// What budgets ask of the run; `None`: no budget is about it.
    pub(super) bound: Option<RunBound>,
}

/// How the open runs of a client compared with the limit before a run was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenCount {
    /// All runs that begin at this moment fit.
    FarFromLimit,
    /// Runs that begin at the same moment might exceed the limit: they are counted again in the transaction that stores the run.
    NearLimit,
}

/// More runs than one client can begin at the same moment.
const MAX_CONCURRENT_STARTS: i64 = 1024;

fn check_quota(open: i64, most: i64) -> Result<()> {
    match open < most {
        true => Ok(()),
        false => Err(OrchestrationError::QuotaReached {
            setting: "ENGINE_MAX_OPEN",
            items: "executions that have not ended",
            most,
        }),
    }
}

impl EngineInner {
    /// Check that the client may have one more open run.
    pub(super) async fn check_open(&self, client_id: &PrincipalId) -> Result<OpenCount> {
        let most = self.config.max_open;
        let open = store::count_open(&mut *self.db.read().await?, client_id, most).await?;
        check_quota(open, most)?;
        Ok(match open + MAX_CONCURRENT_STARTS < most {
            true => OpenCount::FarFromLimit,
            false => OpenCount::NearLimit,
        })
    }

    /// Save a new run for the first time, at most once for `once`.
    pub(super) async fn save_first(
        &self,
        save: Arc<RunCheckpoint>,
        new: &NewExecution,
        first: FirstSave,
    ) -> Result<IdempotentResult<Execution>> {
        let FirstSave { once, condition, counted, bound: asked } = first;
        let known = self.knows_definition(&new.definition_hash, save.run.now);
        let stored_at = save.run.now;
        let mut rows = store::insert_rows(&save, new, known)?;
        self.audit.add_entry_rows(&mut rows, &save.trail);
        self.ledger.add_entry_rows(&mut rows, &save.cost_entry())?;
        let wake = self.wake(&save);
        am_core::crash_point!("engine.before_save");
        let (policies, level) = (self.policies.clone(), new.security);
        let bound = policies.bind(level);
        let most = self.config.max_open;
        let simple = once.is_none() && condition.is_none() && asked.is_none() && counted == OpenCount::FarFromLimit;
        let ledger = self.ledger.clone();
        let done = if simple && save.orders.is_empty() && save.take_back.is_empty() && !bound {
            self.db.insert(rows, wake).await?;
            IdempotentResult::fresh(save.execution())
        } else {
            let work = async move |tx: &mut Tx| {
                if counted == OpenCount::NearLimit {
                    let open = store::count_open(tx.conn().await?, &save.run.client_id, most).await?;
                    check_quota(open, most)?;
                }
                if bound {
                    let others = store::count_active(tx.conn().await?, &save.run.client_id, level).await?;
                    policies.check_concurrency(level, others).map_err(OrchestrationError::Refused)?;
                }
                let execution = save.execution();
                if let Some(condition) = condition {
                    condition.check(tx, &execution).await?;
                }
                rows.execute(tx).await?;
                if let Some(asked) = asked {
                    Self::admit_run(&ledger, tx, &save, asked).await?;
                }
                store::submit_tasks(tx, &save).await?;
                tx.after_commit(wake);
                Ok::<_, OrchestrationError>(execution)
            };
            self.db.write_idempotent(&self.clock, once, work).await?
        };
        if !done.replayed && !known {
            self.note_definition(&new.definition_hash, stored_at);
        }
        Ok(done)
    }
}
