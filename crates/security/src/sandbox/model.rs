//! What a sandbox is, what runs in it, and what was seen of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::error::{Error, Result};
use am_audit::SecurityLevel;
use am_db::codec::Timestamp;

/// What holds in a sandbox: the coordinator's `agent_sandbox_configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rules {
    /// As the level names it: process, docker or vm.
    pub sandbox_type: String,
    /// The level it is made for.
    pub security_level: SecurityLevel,
    /// Processors.
    pub cpu_limit: f64,
    /// MB of memory.
    pub memory_limit: u64,
    /// MB of files.
    pub disk_limit: u64,
    /// Whether it may reach listed domains.
    pub network_access: bool,
    /// Programs it may start, by their names without a version.
    pub allowed_commands: Vec<String>,
    /// Programs it may not start; they win.
    pub blocked_commands: Vec<String>,
    /// Directories it sees.
    pub allowed_file_paths: Vec<String>,
    /// Directories it does not see; they win.
    pub blocked_file_paths: Vec<String>,
    /// Hosts it may reach: a name, `*.name` for what lies below it, `*` for any.
    pub allowed_domains: Vec<String>,
    /// Hosts it may not reach, with what lies below them; they win.
    pub blocked_domains: Vec<String>,
    /// Ports it may reach.
    pub allowed_ports: Vec<u16>,
    /// Seconds.
    pub max_execution_time: u64,
    /// Seconds without output and without use of a processor.
    pub idle_timeout: u64,
    /// Kept for the coordinator; what runs is measured in any case.
    pub enable_monitoring: bool,
    /// Whether each command is written to the log.
    pub log_all_commands: bool,
    /// Whether attempts at files and programs are recorded.
    pub log_file_access: bool,
    /// Whether refused connections are recorded.
    pub log_network_access: bool,
}

/// What a workflow asks of its sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Requirements {
    /// At least so many processors.
    pub cpu_cores: Option<f64>,
    /// At least so much memory.
    pub memory_mb: Option<u64>,
    /// At least so much room for files.
    pub disk_mb: Option<u64>,
    /// Whether listed domains must be reachable.
    pub network_access: Option<bool>,
    /// At most so many seconds.
    pub max_execution_time: Option<u64>,
    /// At most so many seconds of idleness.
    pub idle_timeout: Option<u64>,
    /// More programs.
    pub allowed_commands: Vec<String>,
    /// More programs that may not be started.
    pub blocked_commands: Vec<String>,
    /// More hosts.
    pub allowed_domains: Vec<String>,
    /// More hosts that may not be reached.
    pub blocked_domains: Vec<String>,
    /// More ports.
    pub allowed_ports: Vec<u16>,
}

/// What a step sets below the rules of its sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StepLimits {
    /// Processors at most.
    pub cpu_cores: Option<f64>,
    /// MB of memory at most.
    pub memory_mb: Option<u64>,
    /// MB of files at most.
    pub disk_mb: Option<u64>,
    /// Seconds at most.
    pub seconds: Option<u64>,
    /// Seconds of idleness at most.
    pub idle_seconds: Option<u64>,
    /// Processes and threads at most.
    pub processes: Option<u64>,
}

/// Limits of an execution's sandbox, from `agent_sandbox_configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxRecord {
    /// `sandbox_` and the execution's id.
    pub id: String,
    /// process, docker, vm.
    pub sandbox_type: String,
    /// What it is meant for.
    pub security_level: SecurityLevel,
    /// Cores.
    pub cpu_limit: f64,
    /// MB.
    pub memory_limit: i64,
    /// MB.
    pub disk_limit: i64,
    /// May it reach others?
    pub network_access: bool,
    /// Seconds.
    pub max_execution_time: i64,
    /// Is it there?
    pub is_active: bool,
}

impl Requirements {
    /// From what a client sent: an object, or nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the member.
    pub fn read(sent: Option<Value>) -> Result<Self> {
        let Some(sent) = sent.filter(|sent| !sent.is_null()) else { return Ok(Self::default()) };
        let read: Self = serde_path_to_error::deserialize(sent).map_err(|error| misfit(&error))?;
        read.check()?;
        Ok(read)
    }

    /// # Errors
    /// [`Error::Invalid`], naming the member.
    pub fn check(&self) -> Result<()> {
        within("cpu_cores", self.cpu_cores, 0.1, 1024.0)?;
        within("memory_mb", self.memory_mb.map(|n| n as f64), 1.0, 1e7)?;
        within("disk_mb", self.disk_mb.map(|n| n as f64), 1.0, 1e9)?;
        within("max_execution_time", self.max_execution_time.map(|n| n as f64), 1.0, 1e6)?;
        within("idle_timeout", self.idle_timeout.map(|n| n as f64), 1.0, 1e6)?;
        for (name, words) in [
            ("allowed_commands", &self.allowed_commands),
            ("blocked_commands", &self.blocked_commands),
            ("allowed_domains", &self.allowed_domains),
            ("blocked_domains", &self.blocked_domains),
        ] {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-*".contains(&byte);
            if words.len() > 256
                || words.iter().any(|word| word.is_empty() || word.len() > 255 || !word.bytes().all(good))
            {
                return Err(Error::invalid(name, "must be at most 256 plain names"));
            }
        }
        Ok(())
    }
}

impl StepLimits {
    /// From what a client sent: an object, or nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the member.
    pub fn read(sent: Option<Value>) -> Result<Self> {
        let Some(sent) = sent.filter(|sent| !sent.is_null()) else { return Ok(Self::default()) };
        let read: Self = serde_path_to_error::deserialize(sent).map_err(|error| misfit(&error))?;
        read.check()?;
        Ok(read)
    }

    /// # Errors
    /// [`Error::Invalid`], naming the member.
    pub fn check(&self) -> Result<()> {
        within("cpu_cores", self.cpu_cores, 0.1, 1024.0)?;
        within("memory_mb", self.memory_mb.map(|n| n as f64), 8.0, 1e7)?;
        within("disk_mb", self.disk_mb.map(|n| n as f64), 1.0, 1e9)?;
        within("seconds", self.seconds.map(|n| n as f64), 1.0, 1e6)?;
        within("idle_seconds", self.idle_seconds.map(|n| n as f64), 1.0, 1e6)?;
        within("processes", self.processes.map(|n| n as f64), 1.0, 1e5)
    }
}

fn within(name: &str, value: Option<f64>, least: f64, most: f64) -> Result<()> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Error::invalid(name, format!("must be from {least} to {most}")))
        }
        _ => Ok(()),
    }
}

pub(super) fn misfit(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let path = error.path().iter().map(ToString::to_string).collect();
    Error::Invalid { path, message: error.inner().to_string() }
}

/// A command that is to run in the sandbox of an execution.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// Variables beside the few that every sandbox has.
    pub env: BTreeMap<String, String>,
    /// The level whose rules hold where nobody has made the sandbox before.
    pub level: Option<SecurityLevel>,
    /// What it asks beyond them.
    pub requirements: Requirements,
    /// What it sets below them.
    pub limits: StepLimits,
}

/// What somebody inside has tried against the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// system_call, read, write, command or network.
    pub kind: AttemptKind,
    /// The call, path, program or address.
    pub what: String,
    /// How often.
    pub count: u64,
    /// Whether it counts as a breach; if not, ordinary programs try that too.
    pub breach: bool,
}

/// What kind of thing was tried.
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
    /// Reaching an address.
    Network,
}

/// What was measured of a sandbox's processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// The most memory there was.
    pub memory_peak_bytes: u64,
    /// Files of the workspace, in bytes on disk.
    pub disk_bytes: u64,
    /// Their number.
    pub files: u64,
    /// Processes and threads now.
    pub processes: u64,
    /// The most there were.
    pub processes_peak: u64,
    /// Bytes written to both outputs.
    pub output_bytes: u64,
    /// Seconds since it began.
    pub seconds: f64,
}

/// Why a command was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It ran too long.
    WallTime,
    /// It did nothing for too long.
    Idle,
    /// It took too much memory.
    Memory,
    /// It wrote too many files.
    Disk,
    /// It wrote too much output.
    Output,
    /// It had as many processes as it may for too long.
    Processes,
    /// It tried too much of what is forbidden.
    Attempts,
    /// Somebody cleaned up, or nobody waits for it any more.
    Cancelled,
}

impl Ended {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::WallTime => "it ran longer than it may",
            Self::Idle => "it neither wrote nor computed for longer than it may",
            Self::Memory => "it took more memory than it may",
            Self::Disk => "its files took more room than they may",
            Self::Output => "it wrote far more output than is kept",
            Self::Processes => "it kept as many processes as it may have",
            Self::Attempts => "it went on trying what is forbidden",
            Self::Cancelled => "its sandbox was cleaned up",
        }
    }
}

/// One of a command's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// What was kept: its beginning.
    pub bytes: Vec<u8>,
    /// How much it wrote.
    pub total: u64,
}

impl Captured {
    /// Whether something is missing.
    pub fn truncated(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    /// As text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// What became of a command.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Its exit status; 128 and the signal's number where a signal ended it.
    pub exit_code: i32,
    /// Why it was ended, if it did not end by itself.
    pub ended: Option<Ended>,
    /// What it wrote.
    pub stdout: Captured,
    /// What it wrote as errors.
    pub stderr: Captured,
    /// What it took.
    pub usage: Usage,
    /// What it tried.
    pub attempts: Vec<Attempt>,
}

impl Ran {
    /// What of it was a breach.
    pub fn breaches(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.breach)
    }
}

/// A sandbox as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sandbox {
    /// `sandbox_` and the execution's id.
    pub id: String,
    /// The same, as the monolith names it.
    pub sandbox_id: String,
    /// Whose it is.
    pub execution_id: String,
    /// created, used or cleaned.
    pub status: String,
    /// What holds in it.
    #[serde(flatten)]
    pub rules: Rules,
    /// What really holds the rules, whatever the type is called.
    pub isolation: String,
    /// What of its level this host does not enforce.
    pub unenforced: BTreeSet<String>,
    /// Commands that have run in it.
    pub runs: u64,
    /// What all of them took: times and outputs added, peaks the highest.
    #[schema(value_type = Object)]
    pub totals: Usage,
    /// What they have tried.
    pub attempts: Vec<Attempt>,
    /// How often they tried what counts as a breach.
    pub breaches: u64,
    /// Why the last command was ended, if it did not end by itself.
    pub last_ended: Option<Ended>,
    /// Its exit status.
    pub last_exit_code: Option<i32>,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When it changed last.
    #[schema(value_type = String)]
    pub updated_at: Timestamp,
    /// Whether somebody made it before a command needed it; its rules hold for every step then.
    #[serde(default)]
    pub fixed: bool,
}

/// What a cleanup removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// Processes that were killed.
    pub processes: u64,
    /// Files.
    pub files: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}

/// How long a command may go on.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// In all.
    pub wall: Duration,
    /// Without output or use of a processor.
    pub idle: Duration,
}
