//! Running of a command in its sandbox, and recording of its outcome.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    SandboxService,
    cgroups::CgroupLimits as GroupBounds,
    changes::check_execution_id,
    error::{Result, SandboxError},
    launch::{SandboxHost, prepare_launch, process_limit},
    measure,
    model::{
        CommandOutcome, CommandTimeLimits, SandboxCommand, SandboxRules, SandboxState, SandboxUsage, TerminationReason,
        ViolationAttempt,
    },
    presets,
    proxy::{self, EgressPolicy},
    store, supervise,
    supervised_job::{CommandHandle, CommandLimits, ProxyStarter, SupervisedJob},
};
use am_audit::{AuditEntry, EventType, SecurityLevel};
use am_core::boxed;
use am_core::ids::{ExecutionId, PrincipalId, StepId, WorkflowId};
use am_db::{Tx, codec::Timestamp};

/// Context of a command.
#[derive(Clone, Debug)]
pub struct CommandContext {
    /// Id of the execution, whose steps share a workspace.
    pub execution: ExecutionId,
    /// Id of the workflow.
    pub workflow: WorkflowId,
    /// Id of the step's row.
    pub step: StepId,
    /// Owner on whose behalf the command runs, as stored in a row.
    pub owner: PrincipalId,
    /// Time limit of the command.
    pub wall: Duration,
}

/// Running commands by execution, with the rules of each.
pub type RunningCommands = HashMap<ExecutionId, Vec<(Arc<CommandHandle>, SandboxRules)>>;

/// Guard of a command's entry among the running ones.
struct SlotGuard<'a>(&'a SandboxService, &'a ExecutionId, Arc<CommandHandle>);

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        let mut running = self.0.lock();
        if let Some(all) = running.get_mut(self.1) {
            all.retain(|(other, _)| !Arc::ptr_eq(other, &self.2));
            if all.is_empty() {
                running.remove(self.1);
            }
        }
    }
}

/// Guard that stops the command when nothing waits for it any more.
struct StopGuard(Arc<CommandHandle>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl SandboxService {
    /// Run a command to its end in the sandbox of its execution, which is created if there is none. The outcome is
    /// recorded in any case; dropping the future stops the command.
    ///
    /// # Errors
    /// Returns [`SandboxError::CommandRefused`] for one that is not allowed, [`SandboxError::Unenforced`] when this host can't enforce the
    /// rules, [`SandboxError::StartFailed`] when it did not start, [`SandboxError::Stopping`] at a shutdown.
    #[boxed]
    pub async fn run(&self, run: CommandContext, command: SandboxCommand) -> Result<CommandOutcome> {
        let live = Arc::new(CommandHandle::new().map_err(|error| SandboxError::StartFailed(error.to_string()))?);
        let waiting = StopGuard(live.clone());
        let (tell, told) = oneshot::channel();
        let own = self.clone();
        // Continues when the caller is dropped, so that measurements and attempts are recorded.
        tokio::spawn(async move {
            let _ = tell.send(own.run_and_record(run, command, live).await);
        });
        let ran = told.await.unwrap_or(Err(SandboxError::Stopping));
        drop(waiting);
        ran
    }

    async fn run_and_record(
        &self,
        run: CommandContext,
        command: SandboxCommand,
        live: Arc<CommandHandle>,
    ) -> Result<CommandOutcome> {
        let place = tokio::select! {
            place = self.0.places.acquire() => place.map_err(|_| SandboxError::Stopping)?,
            () = self.0.stopping.cancelled() => return Err(SandboxError::Stopping),
        };
        if live.stopped() {
            return Err(SandboxError::Stopping);
        }
        check_execution_id(&run.execution)?;
        let capabilities = self.capabilities().await;
        let known = self.known(&run.execution).await?;
        let rules = rules_for_command(known.as_ref(), &command).below(&self.ceilings());
        let unenforced = capabilities.check_enforced()?;
        if rules.log_all_commands {
            tracing::info!(execution_id = run.execution.as_str(), command = ?command.argv, "a command starts in its sandbox");
        }
        let ended = CancellationToken::new();
        let job = self.job(&run, &rules, &command, live.clone(), ended.clone()).await?;
        self.lock().entry(run.execution.clone()).or_default().push((live.clone(), rules.clone()));
        // Held until the outcome is recorded, because a cleanup waits for that.
        let _under_way = SlotGuard(self, &run.execution, live);
        self.0.metrics.running.inc();
        let ran = run_on_thread(job).await;
        self.0.metrics.running.dec();
        ended.cancel();
        drop(place);
        let ran = ran?;
        self.0.metrics.commands.inc();
        self.0.metrics.ended.inc_by(u64::from(ran.ended.is_some()));
        self.0.metrics.breaches.inc_by(ran.breaches().map(|attempt| attempt.count).sum());
        self.record(&run, known, rules, unenforced, &ran).await?;
        let stopped = ran.ended == Some(TerminationReason::Cancelled) && self.0.stopping.is_cancelled();
        if stopped { Err(SandboxError::Stopping) } else { Ok(ran) }
    }

    /// Known state of an execution's sandbox: the own record, or rules that the coordinator wrote.
    async fn known(&self, execution: &ExecutionId) -> Result<Option<SandboxState>> {
        let mut conn = self.0.db.read().await?;
        if let Some(found) = store::get_sandbox(&mut conn, execution).await? {
            return Ok(Some(found));
        }
        let rules = store::coordinator_rules(&mut conn, execution).await?;
        Ok(rules.map(|rules| store::unused_sandbox(execution, rules, true, self.now())))
    }

    async fn job(
        &self,
        run: &CommandContext,
        rules: &SandboxRules,
        command: &SandboxCommand,
        live: Arc<CommandHandle>,
        ended: CancellationToken,
    ) -> Result<SupervisedJob> {
        let (inner, run, rules, command) = (self.0.clone(), run.clone(), rules.clone(), command.clone());
        let proxy = rules.network_access.then(|| start_proxy(&rules, inner.host.settings.private_addresses, ended));
        let prepared = move || {
            let host = &inner.host;
            let workspace = host.make_workspace(&run.execution)?;
            let disk = disk_limit(host, &rules, &workspace)?;
            let mut launch = prepare_launch(host, &rules, &command, &workspace, false)?;
            let (memory, processes) = (rules.memory_limit << 20, process_limit(host, &command));
            let bounds = GroupBounds { memory, processes: processes + 2, processors: rules.cpu_limit };
            let group = host.groups.make(bounds).map_err(|error| SandboxError::StartFailed(error.to_string()))?;
            launch.outer.groups = group.process_files();
            launch.outer.processors = super::select_processors(&rules);
            let wall = Duration::from_secs(rules.max_execution_time).min(run.wall);
            let times = CommandTimeLimits { wall, idle: Duration::from_secs(rules.idle_timeout) };
            let output = host.settings.max_output;
            Ok(SupervisedJob {
                helper: host.helper.clone(),
                launch,
                stdin: command.stdin,
                bounds: CommandLimits { times, memory, disk, processes, output },
                group: Some(group),
                workspace,
                live,
                proxy,
            })
        };
        tokio::task::spawn_blocking(prepared)
            .await
            .unwrap_or_else(|error| Err(SandboxError::StartFailed(error.to_string())))
    }

    /// Add a command's outcome to its sandbox, and append audit entries.
    async fn record(
        &self,
        run: &CommandContext,
        known: Option<SandboxState>,
        rules: SandboxRules,
        unenforced: Vec<String>,
        ran: &CommandOutcome,
    ) -> Result<()> {
        let (audit, now, run, ran) = (self.0.audit.clone(), self.now(), run.clone(), ran.clone());
        self.0
            .db
            .write(async move |tx: &mut Tx| {
                let found = store::get_sandbox(tx.conn().await?, &run.execution).await?;
                let made = found.is_none();
                // Rules that the coordinator wrote are kept too.
                let known = found.or(known);
                let mut sandbox =
                    known.unwrap_or_else(|| store::unused_sandbox(&run.execution, rules.clone(), false, now));
                if !sandbox.fixed {
                    sandbox.rules = rules;
                }
                sandbox.unenforced.extend(unenforced);
                add_outcome(&mut sandbox, &ran, now);
                store::upsert_sandbox(tx, &sandbox).await?;
                let mut entries = Vec::new();
                if made {
                    entries.push(audit_entry(EventType::WorkflowUpdated, &run, &sandbox, now).of("sandbox", "created"));
                }
                entries.extend(breach_entry(&run, &sandbox, &ran, now));
                Ok::<(), SandboxError>(audit.append(tx, entries).await?)
            })
            .await
    }
}

/// Bytes of files that a command may leave in its workspace: its rules' limit, and no more than its part of what is left
/// of the quota of all workspaces, which those that run at the same time share.
fn disk_limit(host: &SandboxHost, rules: &SandboxRules, workspace: &Path) -> Result<u64> {
    let quota = host.settings.total_disk_mb << 20;
    let used =
        host.existing_workspaces().into_iter().map(|(name, _)| measure::measure_files(&host.workspace(&name)).bytes);
    let used: u64 = used.sum();
    if used >= quota {
        return Err(SandboxError::QuotaReached(used >> 20, quota >> 20));
    }
    let own = measure::measure_files(workspace).bytes;
    let part = (quota - used) / host.settings.max_running.max(1) as u64;
    Ok((rules.disk_limit << 20).min(own + part))
}

/// Rules for a command: those set by request, or those of its level with its requirements; its own limits apply below
/// them.
fn rules_for_command(known: Option<&SandboxState>, command: &SandboxCommand) -> SandboxRules {
    let rules = match known.filter(|known| known.fixed) {
        Some(known) => known.rules.clone(),
        None => {
            let level = command.level.or(known.map(|known| known.rules.security_level));
            presets::rules_for_level(level.unwrap_or(SecurityLevel::Public)).with(&command.requirements)
        }
    };
    rules.under(&command.limits).within(&command.bounds)
}

/// Run a job on a thread that lives as long as the command.
async fn run_on_thread(job: SupervisedJob) -> Result<CommandOutcome> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("sandbox".into()).spawn(move || {
        let _ = tell.send(supervise::run_job(job));
    });
    thread.map_err(|error| SandboxError::StartFailed(error.to_string()))?;
    told.await.unwrap_or_else(|_| Err(SandboxError::StartFailed("its supervisor ended unexpectedly".to_owned())))
}

fn start_proxy(rules: &SandboxRules, private: bool, ended: CancellationToken) -> ProxyStarter {
    let (ways, runtime) = (EgressPolicy::new(rules, private), tokio::runtime::Handle::current());
    Box::new(move |listener| {
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            tokio::select! {
                served = proxy::serve_proxy(listener, ways, tell) => if let Err(error) = served {
                    tracing::warn!(%error, "the proxy of a sandbox ended");
                },
                () = ended.cancelled() => {}
            }
        });
        told
    })
}

/// Maximum number of distinct attempts stored per sandbox.
const MAX_STORED_ATTEMPTS: usize = 500;

fn add_outcome(sandbox: &mut SandboxState, ran: &CommandOutcome, now: Timestamp) {
    sandbox.status = "used".to_owned();
    sandbox.runs += 1;
    let (all, one) = (&mut sandbox.totals, &ran.usage);
    *all = SandboxUsage {
        cpu_seconds: all.cpu_seconds + one.cpu_seconds,
        memory_bytes: 0,
        memory_peak_bytes: all.memory_peak_bytes.max(one.memory_peak_bytes),
        disk_bytes: one.disk_bytes,
        files: one.files,
        processes: 0,
        processes_peak: all.processes_peak.max(one.processes_peak),
        output_bytes: all.output_bytes + one.output_bytes,
        seconds: all.seconds + one.seconds,
    };
    let key = |attempt: &ViolationAttempt| (attempt.kind, attempt.what.clone());
    let mut attempts: BTreeMap<_, _> = sandbox.attempts.drain(..).map(|attempt| (key(&attempt), attempt)).collect();
    for attempt in &ran.attempts {
        let count = attempts.get(&key(attempt)).map_or(0, |known| known.count) + attempt.count;
        attempts.insert(key(attempt), ViolationAttempt { count, ..attempt.clone() });
    }
    sandbox.attempts = attempts.into_values().take(MAX_STORED_ATTEMPTS).collect();
    sandbox.breaches += ran.breaches().map(|attempt| attempt.count).sum::<u64>();
    sandbox.last_ended = ran.ended;
    sandbox.last_exit_code = Some(ran.exit_code);
    sandbox.updated_at = now;
}

fn audit_entry(event: EventType, run: &CommandContext, sandbox: &SandboxState, now: Timestamp) -> AuditEntry {
    AuditEntry::new(event, now)
        .on_behalf_of(&run.owner)
        .workflow(&run.workflow)
        .execution(&run.execution)
        .level(sandbox.rules.security_level)
        .data("sandbox_id", json!(sandbox.id))
        .data("sandbox_type", json!(sandbox.rules.sandbox_type))
        .data("isolation", json!(sandbox.isolation))
}

/// One audit entry for all breaches of a command.
fn breach_entry(
    run: &CommandContext,
    sandbox: &SandboxState,
    ran: &CommandOutcome,
    now: Timestamp,
) -> Option<AuditEntry> {
    const MAX_SHOWN_ATTEMPTS: usize = 20;
    let tried: Vec<&ViolationAttempt> = ran.breaches().collect();
    let count: u64 = tried.iter().map(|attempt| attempt.count).sum();
    (count > 0).then(|| {
        audit_entry(EventType::SandboxBreach, run, sandbox, now)
            .step(&run.step)
            .of("sandbox", "breach")
            .data("attempts", json!(&tried[..tried.len().min(MAX_SHOWN_ATTEMPTS)]))
            .data("count", json!(count))
            .data("ended", json!(ran.ended))
            .data("exit_code", json!(ran.exit_code))
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::sandbox::model::{AttemptKind, StepLimits};

    #[test]
    fn rules_are_those_somebody_has_set_or_those_of_the_steps_level() {
        let limits = StepLimits { memory_mb: Some(64), seconds: Some(1_000_000), ..StepLimits::default() };
        let level = Some(SecurityLevel::Restricted);
        let command = SandboxCommand { level, limits, ..SandboxCommand::default() };
        let own = rules_for_command(None, &command);
        assert_eq!((own.security_level, own.memory_limit), (SecurityLevel::Restricted, 64));
        assert_eq!(own.max_execution_time, 28_800, "limits only lower");
        let now = Timestamp(DateTime::UNIX_EPOCH);
        let mut known =
            store::unused_sandbox(&"exec_1".into(), presets::rules_for_level(SecurityLevel::Public), false, now);
        assert_eq!(rules_for_command(Some(&known), &command).security_level, SecurityLevel::Restricted);
        assert_eq!(rules_for_command(Some(&known), &SandboxCommand::default()).security_level, SecurityLevel::Public);
        known.fixed = true;
        let fixed = rules_for_command(Some(&known), &command);
        assert_eq!(
            (fixed.security_level, fixed.network_access, fixed.memory_limit),
            (SecurityLevel::Public, false, 64)
        );
    }

    #[test]
    fn what_commands_took_and_tried_is_added_up() {
        let now = Timestamp(DateTime::UNIX_EPOCH);
        let mut sandbox =
            store::unused_sandbox(&"exec_1".into(), presets::rules_for_level(SecurityLevel::Public), false, now);
        let attempt =
            |what: &str, count, breach| ViolationAttempt { kind: AttemptKind::Read, what: what.into(), count, breach };
        let usage = SandboxUsage { cpu_seconds: 1.5, memory_peak_bytes: 100, disk_bytes: 7, ..SandboxUsage::default() };
        let attempts = vec![attempt("/etc/shadow", 2, true), attempt("x", 1, false)];
        let mut ran = CommandOutcome { exit_code: 3, usage, attempts, ..CommandOutcome::default() };
        add_outcome(&mut sandbox, &ran, now);
        (ran.usage.memory_peak_bytes, ran.usage.disk_bytes, ran.ended) = (50, 9, Some(TerminationReason::Memory));
        add_outcome(&mut sandbox, &ran, now);
        let totals = sandbox.totals;
        assert_eq!((totals.cpu_seconds, totals.memory_peak_bytes, totals.disk_bytes), (3.0, 100, 9));
        assert_eq!((sandbox.runs, sandbox.breaches, sandbox.last_ended), (2, 4, Some(TerminationReason::Memory)));
        assert_eq!(sandbox.attempts, [attempt("/etc/shadow", 4, true), attempt("x", 2, false)]);
    }
}
