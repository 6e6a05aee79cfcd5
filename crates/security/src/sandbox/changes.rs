//! Client operations on sandboxes: create one in advance, read it, clean it up.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    SandboxService,
    error::{Result, SandboxError},
    measure,
    model::{CLEANED_STATUS, RemovedItems, SandboxRequirements, SandboxState, SandboxUsage, ViolationAttempt},
    presets, store,
};
use am_audit::{AuditEntry, EventType, SecurityLevel};
use am_core::boxed;
use am_core::ids::{ExecutionId, SandboxId};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

/// Result of a cleanup.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CleanupReport {
    /// Id of the sandbox.
    pub sandbox_id: SandboxId,
    /// Id of the execution it belonged to.
    pub execution_id: ExecutionId,
    /// Always true: a failure is answered with an error.
    pub success: bool,
    /// Status of the sandbox, always `cleaned`.
    pub status: String,
    /// Items that were removed.
    pub removed: RemovedItems,
    /// Time of the cleanup.
    pub cleaned_at: Timestamp,
}

/// State of a sandbox with its running commands.
pub struct SandboxView {
    /// Stored state of the sandbox.
    pub sandbox: SandboxState,
    /// Resource usage and attempts of its running commands.
    pub running: Vec<(SandboxUsage, Vec<ViolationAttempt>)>,
}

/// Check that an execution's id is usable as the name of a directory.
pub(super) fn check_execution_id(execution: &ExecutionId) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=100).contains(&execution.len()) && execution.bytes().all(good) {
        return Ok(());
    }
    Err(execution_not_found(execution))
}

fn execution_not_found(execution: &ExecutionId) -> SandboxError {
    SandboxError::NotFound(format!("execution '{execution}' does not exist"))
}

fn sandbox_not_found(execution: &ExecutionId) -> SandboxError {
    SandboxError::NotFound(format!("execution '{execution}' has no sandbox"))
}

impl SandboxService {
    /// Create the sandbox of an execution, or change its rules. They apply to each of its commands that starts later.
    ///
    /// # Errors
    /// Returns [`SandboxError::NotFound`] without such an execution of the caller, [`SandboxError::Unenforced`] when this
    /// host can't enforce the
    /// rules.
    #[boxed]
    pub async fn create(
        &self,
        caller: &Principal,
        execution: &ExecutionId,
        level: SecurityLevel,
        requirements: &SandboxRequirements,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SandboxState>> {
        check_execution_id(execution)?;
        if let Some(done) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(done);
        }
        self.check_owner(caller, execution).await?;
        let ceilings = self.ceilings();
        ceilings.check(requirements).map_err(SandboxError::Invalid)?;
        let unenforced = self.capabilities().await.check_enforced()?;
        let rules = presets::rules_for_level(level).with(requirements).below(&ceilings);
        let (audit, now) = (self.0.audit.clone(), self.now());
        let (execution, caller) = (execution.clone(), caller.clone());
        self.0
            .db
            .write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
                let found = store::get_sandbox(tx.conn().await?, &execution).await?;
                let before = found.as_ref().map(|found| json!(found.rules));
                let mut sandbox = found.unwrap_or_else(|| store::unused_sandbox(&execution, rules.clone(), true, now));
                (sandbox.rules, sandbox.fixed, sandbox.updated_at) = (rules, true, now);
                sandbox.unenforced = unenforced.into_iter().collect();
                if !sandbox.is_active() {
                    sandbox.status = "created".to_owned();
                }
                store::upsert_sandbox(tx, &sandbox).await?;
                let action = if before.is_some() { "updated" } else { "created" };
                let entry = audit_entry(&caller, &sandbox, action, now).change(before, Some(json!(sandbox.rules)));
                audit.append(tx, vec![entry]).await?;
                Ok(sandbox)
            })
            .await
    }

    /// The sandbox that a request with this key made before.
    ///
    /// # Errors
    /// When the key was used for a different request.
    #[boxed]
    pub async fn created(&self, once: Option<&IdempotencyKey>) -> Result<Option<IdempotentResult<SandboxState>>> {
        Ok(self.0.db.answered(&self.0.clock, once).await?)
    }

    /// An execution of another principal is treated as one that does not exist.
    async fn check_owner(&self, caller: &Principal, execution: &ExecutionId) -> Result<()> {
        let known = store::has_execution(&mut *self.0.db.read().await?, caller, execution).await?;
        if known { Ok(()) } else { Err(execution_not_found(execution)) }
    }

    /// State of the sandbox of the caller's execution.
    ///
    /// # Errors
    /// Returns [`SandboxError::NotFound`] when it has none, or the execution is not the caller's.
    #[boxed]
    pub async fn monitor(&self, caller: &Principal, execution: &ExecutionId) -> Result<SandboxView> {
        self.check_owner(caller, execution).await?;
        self.view(execution).await
    }

    async fn view(&self, execution: &ExecutionId) -> Result<SandboxView> {
        let running: Vec<_> = self.lock().get(execution).cloned().unwrap_or_default();
        let kept = store::get_sandbox(&mut *self.0.db.read().await?, execution).await?;
        // Nothing is stored before the first command has ended.
        let first =
            || running.first().map(|(_, rules)| store::unused_sandbox(execution, rules.clone(), false, self.now()));
        let sandbox = kept.or_else(first).ok_or_else(|| sandbox_not_found(execution))?;
        Ok(SandboxView { sandbox, running: running.iter().map(|(live, _)| live.seen()).collect() })
    }

    /// Kill all processes in the sandbox of the caller's execution and remove its files.
    ///
    /// # Errors
    /// Returns [`SandboxError::NotFound`] when it has none, or the execution is not the caller's.
    #[boxed]
    pub async fn cleanup(
        &self,
        caller: &Principal,
        execution: &ExecutionId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CleanupReport>> {
        check_execution_id(execution)?;
        if let Some(done) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(done);
        }
        self.check_owner(caller, execution).await?;
        self.clean(caller, execution, once).await
    }

    /// Clean up for `caller`, who may be the service itself.
    async fn clean(
        &self,
        caller: &Principal,
        execution: &ExecutionId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CleanupReport>> {
        self.view(execution).await?;
        let removed = self.remove(execution).await?;
        let (audit, now) = (self.0.audit.clone(), self.now());
        let (execution, caller) = (execution.clone(), caller.clone());
        self.0
            .db
            .write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
                let found = store::get_sandbox(tx.conn().await?, &execution).await?;
                let mut sandbox = found.ok_or_else(|| sandbox_not_found(&execution))?;
                (sandbox.status, sandbox.updated_at) = (CLEANED_STATUS.to_owned(), now);
                (sandbox.totals.disk_bytes, sandbox.totals.files) = (0, 0);
                store::upsert_sandbox(tx, &sandbox).await?;
                let entry = audit_entry(&caller, &sandbox, "cleaned", now).data("removed", json!(removed));
                audit.append(tx, vec![entry]).await?;
                Ok(CleanupReport {
                    sandbox_id: sandbox.id,
                    execution_id: execution,
                    success: true,
                    status: sandbox.status,
                    removed,
                    cleaned_at: now,
                })
            })
            .await
    }

    /// Kill processes and remove files. Returns what was removed.
    async fn remove(&self, execution: &ExecutionId) -> Result<RemovedItems> {
        let running: Vec<_> = self.lock().get(execution).cloned().unwrap_or_default();
        let processes = running.iter().map(|(live, _)| live.seen().0.processes.max(1)).sum();
        running.iter().for_each(|(live, _)| live.stop());
        // Each command is removed from the list when it has ended.
        while self.lock().contains_key(execution) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let workspace = self.0.host.workspace(execution);
        let stored = |error| SandboxError::Storage(workspace.display().to_string(), error);
        let path = workspace.clone();
        let removed = tokio::task::spawn_blocking(move || measure::remove_tree(&path)).await;
        let files = removed.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(stored)?;
        Ok(RemovedItems { processes, files: files.count, bytes: files.bytes })
    }

    /// Remove the files of executions that ended before the retention period, and directories without a sandbox.
    pub(super) async fn sweep(&self) -> Result<()> {
        let keep = chrono::Duration::from_std(self.0.host.settings.keep).unwrap_or(chrono::Duration::MAX);
        let Some(limit) = self.0.clock.now().checked_sub_signed(keep) else { return Ok(()) };
        let ended = store::ended_before(&mut *self.0.db.read().await?, Timestamp(limit)).await?;
        let system =
            Principal { name: am_db::owner::SYSTEM_PRINCIPAL.into(), aliases: [].into(), agent: None, origin: None };
        for execution in ended {
            self.clean(&system, &execution, None).await?;
        }
        for (name, changed) in self.0.host.existing_workspaces() {
            let name = ExecutionId::from(name);
            let old = changed < limit && !self.lock().contains_key(&name);
            if old && store::get_sandbox(&mut *self.0.db.read().await?, &name).await?.is_none() {
                self.remove(&name).await?;
            }
        }
        Ok(())
    }
}

fn audit_entry(caller: &Principal, sandbox: &SandboxState, action: &str, now: Timestamp) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, now)
        .by(caller)
        .of("sandbox", action)
        .execution(&sandbox.execution_id)
        .level(sandbox.rules.security_level)
        .data("sandbox_id", json!(sandbox.id))
        .data("sandbox_type", json!(sandbox.rules.sandbox_type))
        .data("isolation", json!(sandbox.isolation))
}
