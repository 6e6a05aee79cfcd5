//! Model of a sandbox, its commands and their observed behaviour.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::ToSchema;

use super::error::{Result, SandboxError};
use am_audit::SecurityLevel;
use am_core::ids::{ExecutionId, SandboxId};
use am_core::validation::{Violation, Violations};
use am_db::codec::Timestamp;

/// Rules of a sandbox, in the form of the coordinator's `agent_sandbox_configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxRules {
    /// Type of the level: process, docker or vm.
    pub sandbox_type: String,
    /// Security level that the rules belong to.
    pub security_level: SecurityLevel,
    /// Number of processors.
    pub cpu_limit: f64,
    /// Memory in MB.
    pub memory_limit: u64,
    /// Size of files in MB.
    pub disk_limit: u64,
    /// Whether allowed domains may be reached.
    pub network_access: bool,
    /// Programs that may be started, by their names without a version.
    pub allowed_commands: Vec<String>,
    /// Programs that must not be started; takes precedence over `allowed_commands`.
    pub blocked_commands: Vec<String>,
    /// Directories that are visible.
    pub allowed_file_paths: Vec<String>,
    /// Invisible directories; takes precedence over `allowed_file_paths`.
    pub blocked_file_paths: Vec<String>,
    /// Hosts that may be reached: a name, `*.name` for its subdomains, `*` for any.
    pub allowed_domains: Vec<String>,
    /// Hosts that must not be reached, with their subdomains; takes precedence over `allowed_domains`.
    pub blocked_domains: Vec<String>,
    /// Ports that may be reached.
    pub allowed_ports: Vec<u16>,
    /// Time limit in seconds.
    pub max_execution_time: u64,
    /// Longest time in seconds without output and without use of a processor.
    pub idle_timeout: u64,
    /// Stored for the coordinator; commands are measured in any case.
    pub enable_monitoring: bool,
    /// Whether each command is written to the log.
    pub log_all_commands: bool,
    /// Whether attempts on files and programs are recorded.
    pub log_file_access: bool,
    /// Whether refused connections are recorded.
    pub log_network_access: bool,
}

/// Requirements of a workflow on its sandbox. `None` members take the level's value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SandboxRequirements {
    /// Minimum number of processors, 0.1 to 1024.
    pub cpu_cores: Option<f64>,
    /// Minimum memory in MB, 1 to 10 million.
    pub memory_mb: Option<u64>,
    /// Minimum size of files in MB, 1 to 1 billion.
    pub disk_mb: Option<u64>,
    /// Whether allowed domains must be reachable.
    pub network_access: Option<bool>,
    /// Maximum time in seconds, 1 to 1 million.
    pub max_execution_time: Option<u64>,
    /// Maximum idle time in seconds, 1 to 1 million.
    pub idle_timeout: Option<u64>,
    /// Programs allowed in addition.
    pub allowed_commands: Vec<String>,
    /// Additional programs that must not be started.
    pub blocked_commands: Vec<String>,
    /// Hosts allowed in addition.
    pub allowed_domains: Vec<String>,
    /// Additional hosts that must not be reached.
    pub blocked_domains: Vec<String>,
    /// Ports allowed in addition.
    pub allowed_ports: Vec<u16>,
}

/// Limits that a step sets below the rules of its sandbox. `None` members take the sandbox's value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StepLimits {
    /// Maximum number of processors, 0.1 to 1024.
    pub cpu_cores: Option<f64>,
    /// Maximum memory in MB, 8 to 10 million.
    pub memory_mb: Option<u64>,
    /// Maximum size of files in MB, 1 to 1 billion.
    pub disk_mb: Option<u64>,
    /// Time limit in seconds, 1 to 1 million.
    pub seconds: Option<u64>,
    /// Maximum idle time in seconds, 1 to 1 million.
    pub idle_seconds: Option<u64>,
    /// Maximum number of processes and threads.
    pub processes: Option<u64>,
}

/// Limits of an execution's sandbox, as recorded in `agent_sandbox_configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxRecord {
    /// Id: `sandbox_` and the execution's id.
    pub id: SandboxId,
    /// Type: process, docker or vm.
    pub sandbox_type: String,
    /// Security level that the limits belong to.
    pub security_level: SecurityLevel,
    /// Number of processors.
    pub cpu_limit: f64,
    /// Memory in MB.
    pub memory_limit: i64,
    /// Size of files in MB.
    pub disk_limit: i64,
    /// Whether allowed domains may be reached.
    pub network_access: bool,
    /// Time limit in seconds.
    pub max_execution_time: i64,
    /// Whether the sandbox exists.
    pub is_active: bool,
}

/// Cores that a command may ask for.
const CPU_CORES: RangeInclusive<f64> = 0.1..=1024.0;
/// MB of memory that a sandbox may have.
const MEMORY_MB: RangeInclusive<f64> = 1.0..=1e7;
/// MB of memory that a step may limit itself to: less than 8 starts no program.
const STEP_MEMORY_MB: RangeInclusive<f64> = 8.0..=1e7;
/// MB of files.
const DISK_MB: RangeInclusive<f64> = 1.0..=1e9;
/// Seconds that a command may run, or do nothing.
const SECONDS: RangeInclusive<f64> = 1.0..=1e6;
/// Processes and threads of a command.
const PROCESSES: RangeInclusive<f64> = 1.0..=1e5;
/// Names in a list of commands or domains.
const MAX_NAMES: usize = 256;
/// Bytes of such a name.
const NAME_BYTES: RangeInclusive<usize> = 1..=255;

impl SandboxRequirements {
    /// Read what a client sent: an object, or nothing.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] with every violation.
    pub fn parse(sent: Option<Value>) -> Result<Self> {
        read_limits(sent, Self::check)
    }

    fn check(&self) -> Violations {
        let mut violations = Violations::default();
        check_numbers(
            &mut violations,
            [
                ("cpu_cores", self.cpu_cores, CPU_CORES),
                ("memory_mb", self.memory_mb.map(|n| n as f64), MEMORY_MB),
                ("disk_mb", self.disk_mb.map(|n| n as f64), DISK_MB),
                ("max_execution_time", self.max_execution_time.map(|n| n as f64), SECONDS),
                ("idle_timeout", self.idle_timeout.map(|n| n as f64), SECONDS),
            ],
        );
        for (name, words) in [
            ("allowed_commands", &self.allowed_commands),
            ("blocked_commands", &self.blocked_commands),
            ("allowed_domains", &self.allowed_domains),
            ("blocked_domains", &self.blocked_domains),
        ] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-*".contains(&byte);
            let good = |word: &String| NAME_BYTES.contains(&word.len()) && word.bytes().all(plain);
            let all_good = words.len() <= MAX_NAMES && words.iter().all(good);
            violations.require(all_good, name, "must be at most 256 plain names");
        }
        violations
    }
}

impl StepLimits {
    /// Read what a client sent: an object, or nothing.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] with every violation.
    pub fn parse(sent: Option<Value>) -> Result<Self> {
        read_limits(sent, Self::check)
    }

    fn check(&self) -> Violations {
        let mut violations = Violations::default();
        check_numbers(
            &mut violations,
            [
                ("cpu_cores", self.cpu_cores, CPU_CORES),
                ("memory_mb", self.memory_mb.map(|n| n as f64), STEP_MEMORY_MB),
                ("disk_mb", self.disk_mb.map(|n| n as f64), DISK_MB),
                ("seconds", self.seconds.map(|n| n as f64), SECONDS),
                ("idle_seconds", self.idle_seconds.map(|n| n as f64), SECONDS),
                ("processes", self.processes.map(|n| n as f64), PROCESSES),
            ],
        );
        violations
    }
}

fn read_limits<T: Default + DeserializeOwned>(sent: Option<Value>, check: impl Fn(&T) -> Violations) -> Result<T> {
    let Some(sent) = sent.filter(|sent| !sent.is_null()) else { return Ok(T::default()) };
    let read: T = serde_path_to_error::deserialize(sent)
        .map_err(|error| SandboxError::Invalid(vec![Violation::unreadable(&error)]))?;
    check(&read).finish_with(Some(read)).map_err(SandboxError::Invalid)
}

fn check_numbers<const N: usize>(violations: &mut Violations, members: [(&str, Option<f64>, RangeInclusive<f64>); N]) {
    for (name, value, range) in members {
        violations.require_within(value, &range, name);
    }
}

/// A command to run in the sandbox of an execution.
#[derive(Clone, Debug, Default)]
pub struct SandboxCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Standard input of the command.
    pub stdin: Vec<u8>,
    /// Environment variables besides the few that every sandbox has.
    pub env: BTreeMap<String, String>,
    /// Security level whose rules apply when the sandbox was not created before; `None`: public.
    pub level: Option<SecurityLevel>,
    /// Requirements beyond these rules.
    pub requirements: SandboxRequirements,
    /// Limits below these rules.
    pub limits: StepLimits,
    /// Bounds of the security policies, which hold whatever the rules say.
    pub bounds: SandboxBounds,
}

/// Bounds on the rules of any sandbox. `None` members bound nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxBounds {
    /// Whether nothing may be reached.
    pub no_network: bool,
    /// Hosts that may be reached at most.
    pub domains: Option<Vec<String>>,
    /// Programs that may be started at most.
    pub commands: Option<Vec<String>>,
    /// Number of processors.
    pub cpu_cores: Option<f64>,
    /// Memory in MB.
    pub memory_mb: Option<u64>,
    /// Size of files in MB.
    pub disk_mb: Option<u64>,
}

/// Attempt of a program inside a sandbox to do what the rules forbid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ViolationAttempt {
    /// Kind of the attempt.
    pub kind: AttemptKind,
    /// System call, path, program or address concerned.
    pub what: String,
    /// Number of attempts.
    pub count: u64,
    /// Whether the attempt is a breach; ordinary programs make the others too.
    pub breach: bool,
}

/// Kind of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptKind {
    /// A system call that the filter refuses.
    SystemCall,
    /// Reading a file.
    Read,
    /// Changing a file.
    Write,
    /// Starting a program.
    Command,
    /// Connecting to an address.
    Network,
}

/// Measured resource usage of a sandbox's processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxUsage {
    /// Processor time in seconds.
    pub cpu_seconds: f64,
    /// Current memory in bytes.
    pub memory_bytes: u64,
    /// Peak memory in bytes.
    pub memory_peak_bytes: u64,
    /// Size of the workspace on disk in bytes.
    pub disk_bytes: u64,
    /// Number of files in the workspace.
    pub files: u64,
    /// Current number of processes and threads.
    pub processes: u64,
    /// Peak number of processes and threads.
    pub processes_peak: u64,
    /// Bytes written to standard output and standard error.
    pub output_bytes: u64,
    /// Seconds since the start.
    pub seconds: f64,
}

/// Reason why a command was terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TerminationReason {
    /// Time limit exceeded.
    WallTime,
    /// Idle time exceeded.
    Idle,
    /// Memory limit exceeded.
    Memory,
    /// Limit on the size of files exceeded.
    Disk,
    /// Limit on output exceeded.
    Output,
    /// Maximum number of processes reached for too long.
    Processes,
    /// Too many forbidden attempts.
    Attempts,
    /// Cancelled by a cleanup, or because nothing waits for the command any more.
    Cancelled,
}

impl TerminationReason {
    /// Description for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::WallTime => "it exceeded its time limit",
            Self::Idle => "it exceeded its idle time limit (no output, no use of a processor)",
            Self::Memory => "it exceeded its memory limit",
            Self::Disk => "its files exceeded the disk limit",
            Self::Output => "it wrote too much output",
            Self::Processes => "it stayed at its process limit",
            Self::Attempts => "it made too many forbidden attempts",
            Self::Cancelled => "its sandbox was cleaned up",
        }
    }
}

/// Captured output stream of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedOutput {
    /// Beginning of the output, as far as it is kept.
    pub bytes: Vec<u8>,
    /// Number of bytes written.
    pub total: u64,
}

impl CapturedOutput {
    /// Whether a part of the output was dropped.
    pub fn truncated(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    /// Output as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Outcome of a command.
#[derive(Clone, Debug, Default)]
pub struct CommandOutcome {
    /// Exit status; 128 plus the signal's number when a signal ended it.
    pub exit_code: i32,
    /// Reason of a termination; `None` when the command ended by itself.
    pub ended: Option<TerminationReason>,
    /// Standard output of the command.
    pub stdout: CapturedOutput,
    /// Standard error of the command.
    pub stderr: CapturedOutput,
    /// Resource usage of the command.
    pub usage: SandboxUsage,
    /// Attempts against the rules.
    pub attempts: Vec<ViolationAttempt>,
}

impl CommandOutcome {
    /// Attempts that are breaches.
    pub fn breaches(&self) -> impl Iterator<Item = &ViolationAttempt> {
        self.attempts.iter().filter(|attempt| attempt.breach)
    }
}

/// Stored state of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SandboxState {
    /// Id: `sandbox_` and the execution's id.
    pub id: SandboxId,
    /// Same as `id`, under the name used by the former monolith.
    pub sandbox_id: SandboxId,
    /// Id of the execution.
    pub execution_id: ExecutionId,
    /// Status: created, used or cleaned.
    pub status: String,
    /// Rules of the sandbox.
    #[serde(flatten)]
    pub rules: SandboxRules,
    /// Mechanisms that enforce the rules, whatever the type is called.
    pub isolation: String,
    /// Rules of the level that this host does not enforce.
    pub unenforced: BTreeSet<String>,
    /// Number of commands run.
    pub runs: u64,
    /// Resource usage of all commands: times and outputs are added, peaks are the highest.
    pub totals: SandboxUsage,
    /// Attempts of all commands.
    pub attempts: Vec<ViolationAttempt>,
    /// Number of attempts that are breaches.
    pub breaches: u64,
    /// Reason of the last command's termination; null when it ended by itself.
    pub last_ended: Option<TerminationReason>,
    /// Exit status of the last command; null before the first.
    pub last_exit_code: Option<i32>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
    /// Whether the sandbox was created by request before a command needed it; its rules then apply to every step.
    #[serde(default)]
    pub fixed: bool,
}

/// Status of a sandbox of which only the record is left.
pub const CLEANED_STATUS: &str = "cleaned";

impl SandboxState {
    /// Whether commands may run in it.
    pub fn is_active(&self) -> bool {
        self.status != CLEANED_STATUS
    }
}

/// Things removed by a cleanup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedItems {
    /// Number of processes killed.
    pub processes: u64,
    /// Number of files removed.
    pub files: u64,
    /// Size of the removed files on disk in bytes.
    pub bytes: u64,
}

/// Time limits of a command.
#[derive(Clone, Copy, Debug)]
pub struct CommandTimeLimits {
    /// Limit of the total time.
    pub wall: Duration,
    /// Limit of the time without output or use of a processor.
    pub idle: Duration,
}
