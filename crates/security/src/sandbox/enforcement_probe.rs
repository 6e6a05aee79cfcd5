//! Test of what this host enforces: a process inside a sandbox tries what its rules forbid.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    cgroups::CgroupLimits as GroupBounds,
    error::{Result, SandboxError},
    launch::{HELPER_PATH, SandboxHost, prepare_launch, scratch_bytes},
    measure,
    model::{AttemptKind, CommandOutcome, CommandTimeLimits, SandboxCommand, SandboxRules, TerminationReason},
    presets, supervise,
    supervised_job::{CommandHandle, CommandLimits, SupervisedJob},
};
use am_audit::SecurityLevel;
use am_db::codec::Timestamp;
use am_sandbox_init::{
    ipc::PROBE_MODE,
    probe::{ProbeFacts, TrialResult},
};

/// A rule, and whether this host enforces it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EnforcedRule {
    /// Name of the rule.
    pub name: String,
    /// Whether the rule was enforced in the test.
    pub enforced: bool,
    /// Mechanism that enforces the rule.
    pub by: String,
    /// Description of the test.
    pub tested: String,
    /// Result of the test.
    pub said: String,
}

/// Rules that this host enforces.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HostCapabilities {
    /// Whether commands can be run.
    pub available: bool,
    /// Mechanisms of isolation, whatever the sandbox type is called.
    pub isolation: String,
    /// Reason why commands can't be run; null when they can.
    pub reason: Option<String>,
    /// User that commands run as.
    pub user: String,
    /// Results for all rules.
    pub capabilities: Vec<EnforcedRule>,
    /// Names of the rules that are not enforced.
    pub unenforced: Vec<String>,
    /// Whether commands are run although some rules are not enforced.
    pub allow_unenforced: bool,
    /// Time of the test.
    pub tested_at: Timestamp,
    /// Duration of the test in seconds.
    pub seconds: f64,
}

impl HostCapabilities {
    /// What is known of a host that could not be tested: nothing, so that no command is run.
    pub(super) fn untested(reason: String, now: Timestamp) -> Self {
        Self {
            available: false,
            isolation: "none".to_owned(),
            reason: Some(reason),
            user: String::new(),
            capabilities: Vec::new(),
            unenforced: Vec::new(),
            allow_unenforced: false,
            tested_at: now,
            seconds: 0.0,
        }
    }

    /// Names of the rules that this host does not enforce, if commands may run all the same.
    ///
    /// # Errors
    /// Returns [`SandboxError::Unenforced`] when they may not.
    pub(super) fn check_enforced(&self) -> Result<Vec<String>> {
        if let Some(reason) = &self.reason {
            return Err(SandboxError::Unenforced(reason.clone()));
        }
        if !self.unenforced.is_empty() && !self.allow_unenforced {
            return Err(SandboxError::Unenforced(format!("it does not enforce {}", self.unenforced.join(", "))));
        }
        Ok(self.unenforced.clone())
    }
}

/// Mechanism and test of each rule, by the prefix of its name.
const RULE_DESCRIPTIONS: [(&str, &str, &str); 21] = [
    ("no_new_privileges", "prctl", "a process inside read its own status"),
    ("capabilities_dropped", "bubblewrap", "a process inside read its own status"),
    ("environment_cleared", "execve", "a process inside listed its variables"),
    ("hidden_files", "mount namespace", "a process inside opened a file of this service's"),
    ("read_only_system", "mount namespace", "a process inside made a file below /usr"),
    ("read_only_root", "mount namespace", "a process inside made a file in /"),
    ("landlock_write", "Landlock", "a process inside opened its own /proc/self/comm to write"),
    ("landlock_execute", "Landlock", "a process inside made a program and started it"),
    ("seccomp_namespaces", "seccomp", "a process inside asked for a user namespace"),
    ("seccomp_mount", "seccomp", "a process inside asked for an unmount"),
    ("seccomp_ptrace", "seccomp", "a process inside asked to be traced"),
    ("seccomp_io_uring", "seccomp", "a process inside asked for a ring"),
    ("seccomp_allow_list", "seccomp", "a process inside made calls that are not on the list"),
    ("no_socket", "seccomp and network namespace", "a process inside opened a connection"),
    ("process_limit", "", "a process inside began more threads than it may"),
    ("file_size_limit", "RLIMIT_FSIZE", "a process inside wrote a file of twice the size"),
    ("scratch_limit", "tmpfs", "a process inside filled /tmp twice"),
    ("memory_limit", "", "a process inside took twice its memory"),
    ("cpu_limit", "", "a process inside listed the processors it may use"),
    ("wall_time_limit", "SIGTERM, then SIGKILL of the pid namespace", "a process inside slept on"),
    ("attempts_counted", "seccomp notifications", "what the process inside had tried was looked up"),
];

/// Test all rules. Blocks for some hundred milliseconds.
pub fn test_host(host: &SandboxHost, now: Timestamp) -> HostCapabilities {
    let began = std::time::Instant::now();
    let (capabilities, reason) = match run_trials(host) {
        Ok(capabilities) => (capabilities, None),
        Err(SandboxError::Unenforced(reason) | SandboxError::StartFailed(reason)) => (Vec::new(), Some(reason)),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let missing = capabilities.iter().filter(|one| !one.enforced).map(|one| one.name.clone());
    HostCapabilities {
        available: reason.is_none(),
        isolation: if reason.is_none() { presets::ISOLATION_MECHANISMS.to_owned() } else { "none".to_owned() },
        user: host
            .user
            .map_or_else(|| "as this service".to_owned(), |(user, group)| format!("uid {user}, gid {group}")),
        unenforced: missing.collect(),
        capabilities,
        reason,
        allow_unenforced: host.settings.allow_unenforced,
        tested_at: now,
        seconds: began.elapsed().as_secs_f64(),
    }
}

fn run_trials(host: &SandboxHost) -> Result<Vec<EnforcedRule>> {
    let mut rules = presets::rules_for_level(SecurityLevel::Public);
    (rules.memory_limit, rules.disk_limit) = (48, 1);
    let processes = 24.min(host.settings.max_processes);
    let ran = run_trial(
        host,
        &rules,
        processes,
        &["rules", &probe_facts(host, &rules, processes)?],
        Duration::from_secs(20),
    )?;
    let trials: Vec<TrialResult> = serde_json::from_slice(&ran.stdout.bytes).map_err(|error| {
        SandboxError::StartFailed(format!(
            "the trial answered {:?} {:?}: {error}",
            ran.stdout.text(),
            ran.stderr.text()
        ))
    })?;
    let mut found: Vec<EnforcedRule> = trials.into_iter().map(|trial| rule_from_trial(host, trial)).collect();
    let filled = run_trial(host, &rules, processes, &["memory", &(96 << 20).to_string()], Duration::from_secs(10))?;
    // Where the data of each process is limited, the process could not allocate that much and failed by itself.
    let held =
        filled.ended == Some(TerminationReason::Memory) || (filled.exit_code != 0 && filled.stdout.bytes.is_empty());
    let peak = format!("it ended with {} and {} bytes at most", filled.exit_code, filled.usage.memory_peak_bytes);
    found.push(rule_from_trial(host, TrialResult { name: "memory_limit".into(), held, said: peak }));
    let slept = run_trial(host, &rules, processes, &["sleep"], Duration::from_millis(100))?;
    let said = format!("it was ended after {:.3} s", slept.usage.seconds);
    let held = slept.ended == Some(TerminationReason::WallTime);
    found.push(rule_from_trial(host, TrialResult { name: "wall_time_limit".into(), held, said }));
    let counted = |kind, what: &str| ran.attempts.iter().any(|one| one.kind == kind && one.what.contains(what));
    let (call, file) = (counted(AttemptKind::SystemCall, "unshare"), counted(AttemptKind::Read, ".probe-secret"));
    let said = format!("system calls {}, paths {}", seen_or_not(call), seen_or_not(file));
    found.push(rule_from_trial(host, TrialResult { name: "attempts_counted".into(), held: call && file, said }));
    Ok(found)
}

fn seen_or_not(seen: bool) -> &'static str {
    if seen { "seen" } else { "not seen" }
}

fn probe_facts(host: &SandboxHost, rules: &SandboxRules, processes: u64) -> Result<String> {
    let secret = host.directory.join(".probe-secret");
    fs::write(&secret, "nobody inside reads this")
        .map_err(|error| SandboxError::Storage(secret.display().to_string(), error))?;
    let link = |name: &str| {
        Some((name.to_owned(), fs::read_link(format!("/proc/self/ns/{name}")).ok()?.display().to_string()))
    };
    let namespaces: BTreeMap<_, _> = ["user", "mnt", "pid", "ipc", "net", "uts"].into_iter().filter_map(link).collect();
    let outside = ProbeFacts {
        namespaces,
        secret: secret.display().to_string(),
        processes: processes + 2,
        file_bytes: rules.disk_limit << 20,
        scratch_bytes: scratch_bytes(rules),
        processors: (rules.cpu_limit.ceil() as u64).min(super::available_processors().len().max(1) as u64),
    };
    serde_json::to_string(&outside).map_err(|error| SandboxError::StartFailed(error.to_string()))
}

fn run_trial(
    host: &SandboxHost,
    rules: &SandboxRules,
    processes: u64,
    arguments: &[&str],
    wall: Duration,
) -> Result<CommandOutcome> {
    let name = format!(".probe-{}", std::process::id());
    let workspace = host.make_workspace(&name)?;
    let argv = [HELPER_PATH, PROBE_MODE].into_iter().chain(arguments.iter().copied()).map(str::to_owned).collect();
    let command = SandboxCommand {
        argv,
        limits: super::model::StepLimits { processes: Some(processes), ..Default::default() },
        ..Default::default()
    };
    let mut launch = prepare_launch(host, rules, &command, &workspace, true)?;
    let memory = rules.memory_limit << 20;
    let bounds = GroupBounds { memory, processes: processes + 2, processors: rules.cpu_limit };
    let group = host.groups.make(bounds).map_err(|error| SandboxError::StartFailed(error.to_string()))?;
    launch.outer.groups = group.process_files();
    launch.outer.processors = super::select_processors(rules);
    let ran = supervise::run_job(SupervisedJob {
        helper: host.helper.clone(),
        launch,
        stdin: Vec::new(),
        // Files must be protected by the kernel alone in this test.
        bounds: CommandLimits {
            times: CommandTimeLimits { wall, idle: wall },
            memory,
            disk: 64 << 20,
            processes: u64::MAX,
            output: 64 << 10,
        },
        group: Some(group),
        workspace: workspace.clone(),
        live: Arc::new(CommandHandle::new().map_err(|error| SandboxError::StartFailed(error.to_string()))?),
        proxy: None,
    });
    let _ = measure::remove_tree(&workspace);
    ran
}

fn rule_from_trial(host: &SandboxHost, trial: TrialResult) -> EnforcedRule {
    let kept = |controller: &str, otherwise: &str| host.groups.version(controller).unwrap_or(otherwise).to_owned();
    let words = RULE_DESCRIPTIONS.iter().find(|(name, ..)| *name == trial.name);
    let (by, tested) =
        words.map_or(("bubblewrap", "a process inside read its own namespace"), |(_, by, tested)| (*by, *tested));
    let by = match trial.name.as_str() {
        "memory_limit" => kept("memory", "RLIMIT_DATA, and measuring every 100 ms"),
        "process_limit" => {
            host.groups.version("pids").map_or("RLIMIT_NPROC".to_owned(), |by| format!("{by} and RLIMIT_NPROC"))
        }
        "cpu_limit" => host
            .groups
            .version("cpu")
            .map_or("affinity, whole processors".to_owned(), |by| format!("{by} and affinity")),
        _ => by.to_owned(),
    };
    EnforcedRule { name: trial.name, enforced: trial.held, by, tested: tested.to_owned(), said: trial.said }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn capabilities(reason: Option<&str>, unenforced: &[&str], allow: bool) -> HostCapabilities {
        HostCapabilities {
            available: reason.is_none(),
            isolation: String::new(),
            reason: reason.map(str::to_owned),
            user: String::new(),
            capabilities: Vec::new(),
            unenforced: unenforced.iter().map(|name| (*name).to_owned()).collect(),
            allow_unenforced: allow,
            tested_at: Timestamp(DateTime::UNIX_EPOCH),
            seconds: 0.0,
        }
    }

    #[test]
    fn what_does_not_hold_is_refused_or_named() {
        assert_eq!(capabilities(None, &[], false).check_enforced().unwrap(), Vec::<String>::new());
        let refused = capabilities(None, &["landlock_write"], false).check_enforced().unwrap_err();
        assert!(refused.to_string().contains("does not enforce landlock_write"), "{refused}");
        assert_eq!(capabilities(None, &["landlock_write"], true).check_enforced().unwrap(), ["landlock_write"]);
        assert!(capabilities(Some("no bubblewrap"), &[], true).check_enforced().is_err(), "without namespaces never");
    }
}
