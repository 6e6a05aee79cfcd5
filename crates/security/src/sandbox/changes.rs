//! Client operations on sandboxes: create one in advance, read it, clean it up.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Sandboxes,
    error::{Error, Result},
    levels, measure,
    model::{Attempt, Removed, Requirements, Sandbox, Usage},
    running::must_hold,
    store,
};
use am_audit::{Entry, EventType, SecurityLevel};
use am_db::{
    Tx,
    codec::Timestamp,
    once::{Done, Once},
    principal::Principal,
};

/// Result of a cleanup.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Cleaned {
    /// Id of the sandbox.
    pub sandbox_id: String,
    /// Id of the execution it belonged to.
    pub execution_id: String,
    /// Always true: a failure is answered with an error.
    pub success: bool,
    /// Status of the sandbox, always `cleaned`.
    pub status: String,
    /// Items that were removed.
    pub removed: Removed,
    /// Time of the cleanup.
    pub cleaned_at: Timestamp,
}

/// State of a sandbox with its running commands.
pub struct Seen {
    /// Stored state of the sandbox.
    pub sandbox: Sandbox,
    /// Resource usage and attempts of its running commands.
    pub running: Vec<(Usage, Vec<Attempt>)>,
}

/// Check that an execution's id is usable as the name of a directory.
pub(super) fn plain(execution: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=100).contains(&execution.len()) && execution.bytes().all(good) {
        return Ok(());
    }
    Err(unknown(execution))
}

fn unknown(execution: &str) -> Error {
    Error::NotFound(format!("execution '{execution}' does not exist"))
}

fn none(execution: &str) -> Error {
    Error::NotFound(format!("execution '{execution}' has no sandbox"))
}

impl Sandboxes {
    /// Create the sandbox of an execution, or change its rules. They apply to each of its commands that starts later.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`] without such an execution, [`Error::Unenforced`] when this host can't enforce the
    /// rules.
    pub async fn create(
        &self,
        caller: &Principal,
        execution: &str,
        level: SecurityLevel,
        requirements: &Requirements,
        once: Option<Once>,
    ) -> Result<Done<Sandbox>> {
        plain(execution)?;
        if let Some(done) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(done);
        }
        if !store::has_execution(&mut *self.0.db.read().await?, execution).await? {
            return Err(unknown(execution));
        }
        let unenforced = must_hold(&*self.capabilities().await)?;
        let rules = levels::rules(level).with(requirements);
        let (audit, now) = (self.0.audit.clone(), self.now());
        let (execution, caller) = (execution.to_owned(), caller.clone());
        self.0
            .db
            .write_once(&self.0.clock, once, async move |tx: &mut Tx| {
                let found = store::get(tx.conn().await?, &execution).await?;
                let before = found.as_ref().map(|found| json!(found.rules));
                let mut sandbox = found.unwrap_or_else(|| store::fresh(&execution, rules.clone(), true, now));
                (sandbox.rules, sandbox.fixed, sandbox.updated_at) = (rules, true, now);
                sandbox.unenforced = unenforced.into_iter().collect();
                if sandbox.status == store::CLEANED {
                    sandbox.status = "created".to_owned();
                }
                store::put(tx, &sandbox).await?;
                let action = if before.is_some() { "updated" } else { "created" };
                let entry = told(&caller, &sandbox, action, now).change(before, Some(json!(sandbox.rules)));
                audit.append(tx, vec![entry]).await?;
                Ok(sandbox)
            })
            .await
    }

    /// State of the sandbox of an execution.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`] when it has none.
    pub async fn monitor(&self, execution: &str) -> Result<Seen> {
        let running: Vec<_> = self.lock().get(execution).cloned().unwrap_or_default();
        let kept = store::get(&mut *self.0.db.read().await?, execution).await?;
        // Nothing is stored before the first command has ended.
        let first = || running.first().map(|(_, rules)| store::fresh(execution, rules.clone(), false, self.now()));
        let sandbox = kept.or_else(first).ok_or_else(|| none(execution))?;
        Ok(Seen { sandbox, running: running.iter().map(|(live, _)| live.seen()).collect() })
    }

    /// Kill all processes in the sandbox of an execution and remove its files.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`] when it has none.
    pub async fn cleanup(&self, caller: &Principal, execution: &str, once: Option<Once>) -> Result<Done<Cleaned>> {
        plain(execution)?;
        if let Some(done) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(done);
        }
        self.monitor(execution).await?;
        let removed = self.remove(execution).await?;
        let (audit, now) = (self.0.audit.clone(), self.now());
        let (execution, caller) = (execution.to_owned(), caller.clone());
        self.0
            .db
            .write_once(&self.0.clock, once, async move |tx: &mut Tx| {
                let found = store::get(tx.conn().await?, &execution).await?;
                let mut sandbox = found.ok_or_else(|| none(&execution))?;
                (sandbox.status, sandbox.updated_at) = (store::CLEANED.to_owned(), now);
                (sandbox.totals.disk_bytes, sandbox.totals.files) = (0, 0);
                store::put(tx, &sandbox).await?;
                let entry = told(&caller, &sandbox, "cleaned", now).data("removed", json!(removed));
                audit.append(tx, vec![entry]).await?;
                Ok(Cleaned {
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
    async fn remove(&self, execution: &str) -> Result<Removed> {
        let running: Vec<_> = self.lock().get(execution).cloned().unwrap_or_default();
        let processes = running.iter().map(|(live, _)| live.seen().0.processes.max(1)).sum();
        running.iter().for_each(|(live, _)| live.stop());
        // Each command is removed from the list when it has ended.
        while self.lock().contains_key(execution) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let workspace = self.0.host.workspace(execution);
        let stored = |error| Error::Storage(workspace.display().to_string(), error);
        let path = workspace.clone();
        let removed = tokio::task::spawn_blocking(move || measure::remove(&path)).await;
        let files = removed.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(stored)?;
        Ok(Removed { processes, files: files.count, bytes: files.bytes })
    }

    /// Remove the files of executions that ended before the retention period, and directories without a sandbox.
    pub(super) async fn sweep(&self) -> Result<()> {
        let keep = chrono::Duration::from_std(self.0.host.settings.keep).unwrap_or(chrono::Duration::MAX);
        let Some(limit) = self.0.clock.now().checked_sub_signed(keep) else { return Ok(()) };
        let ended = store::ended_before(&mut *self.0.db.read().await?, Timestamp(limit)).await?;
        let system = Principal { name: am_db::owner::SYSTEM.into(), aliases: [].into(), origin: None };
        for execution in ended {
            self.cleanup(&system, &execution, None).await?;
        }
        for (name, changed) in self.0.host.left_behind() {
            let old = changed < limit && !self.lock().contains_key(&name);
            if old && store::get(&mut *self.0.db.read().await?, &name).await?.is_none() {
                self.remove(&name).await?;
            }
        }
        Ok(())
    }
}

fn told(caller: &Principal, sandbox: &Sandbox, action: &str, now: Timestamp) -> Entry {
    Entry::new(EventType::WorkflowUpdated, now)
        .by(caller)
        .of("sandbox", action)
        .execution(&sandbox.execution_id)
        .level(sandbox.rules.security_level)
        .data("sandbox_id", json!(sandbox.id))
        .data("sandbox_type", json!(sandbox.rules.sandbox_type))
        .data("isolation", json!(sandbox.isolation))
}
