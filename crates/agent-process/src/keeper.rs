//! One instance kept running: started, waited for, started again, ended.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::{io::unix::AsyncFd, process::Child, sync::watch};

use crate::{
    process_info::{is_alive, read_process},
    protocol::{InstanceSpec, KeptState},
    restart_rule::{RestartDecision, RestartRule},
};

/// How instances are started on this host.
#[derive(Clone, Debug)]
pub(crate) struct StartSettings {
    /// The own executable.
    pub program: PathBuf,
    /// Directory for what instances write to their standard error.
    pub logs: PathBuf,
    /// User and group that instances run as; `None`: the supervisor's own.
    pub user: Option<(u32, u32)>,
    /// Whether they may run as root.
    pub allow_root: bool,
}

/// What is known of a kept instance, as others read it.
#[derive(Clone, Debug)]
pub(crate) struct KeptView {
    pub state: KeptState,
    /// Its process, by pid and start.
    pub process: Option<(u32, u64)>,
    pub restarts: u64,
    pub last_end: Option<String>,
}

/// What a keeper shares with the supervisor.
pub(crate) struct Keeper {
    pub spec: InstanceSpec,
    pub view: Mutex<KeptView>,
    /// Set once: the instance is to end within this time.
    pub ending: watch::Sender<Option<Duration>>,
    /// Called after each change of the view.
    pub changed: Box<dyn Fn() + Send + Sync>,
}

/// A process that is waited for.
enum KeptProcess {
    /// One that this process started.
    Own(Box<Child>),
    /// One that an earlier supervisor started.
    Adopted(AsyncFd<OwnedFd>),
}

impl KeptProcess {
    /// Wait for its end, and say how it ended.
    async fn ended(&mut self) -> String {
        match self {
            Self::Own(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("it can't be waited for: {error}"),
            },
            // Only its parent learns how a process ended.
            Self::Adopted(process) => match process.readable().await {
                Ok(_) => "it ended while it was not this supervisor's child".to_owned(),
                Err(error) => format!("it can't be waited for: {error}"),
            },
        }
    }
}

impl Keeper {
    fn note(&self, change: impl FnOnce(&mut KeptView)) {
        change(&mut self.view.lock());
        (self.changed)();
    }

    /// Keep it running until it is asked to end.
    pub async fn keep(self: Arc<Self>, settings: Arc<StartSettings>, origin: Instant) {
        let mut rule = RestartRule::default();
        let mut ending = self.ending.subscribe();
        let mut adopted = self.adopt();
        loop {
            let begun = Instant::now();
            let how = match adopted.take().map_or_else(|| self.start(&settings), Ok) {
                Ok(mut process) => tokio::select! {
                    how = process.ended() => how,
                    grace = asked(&mut ending) => return self.end(&mut process, grace).await,
                },
                Err(error) => error,
            };
            let decision = rule.ended(origin.elapsed(), begun.elapsed());
            self.note(|view| {
                view.process = None;
                view.last_end = Some(how);
                view.state = match decision {
                    RestartDecision::After(_) => KeptState::Waiting,
                    RestartDecision::GiveUp => KeptState::GivenUp,
                };
            });
            match decision {
                RestartDecision::After(wait) => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = asked(&mut ending) => return,
                },
                RestartDecision::GiveUp => {
                    asked(&mut ending).await;
                    return;
                }
            }
            self.note(|view| view.restarts += 1);
        }
    }

    /// The process that the view names, if it still runs.
    fn adopt(&self) -> Option<KeptProcess> {
        let (pid, started) = self.view.lock().process?;
        // The descriptor first: what it names can't become another process's any more.
        let descriptor = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::NONBLOCK).ok();
        #[expect(deprecated, reason = "its successor is unsafe; an owned descriptor stays open while it is registered")]
        let found = descriptor.filter(|_| is_alive(pid, started)).and_then(|one| AsyncFd::new(one).ok());
        match found {
            Some(process) => {
                self.note(|view| view.state = KeptState::Running);
                Some(KeptProcess::Adopted(process))
            }
            None => {
                self.note(|view| view.process = None);
                None
            }
        }
    }

    /// Start a process.
    fn start(&self, settings: &StartSettings) -> Result<KeptProcess, String> {
        let spec = &self.spec;
        let token = File::open(&spec.token_file).map_err(|error| format!("its token can't be read: {error}"))?;
        let log = log_file(&settings.logs, &spec.id).map_err(|error| format!("its log can't be opened: {error}"))?;
        let mut command = Command::new(&settings.program);
        command.arg("instance");
        // Values of clients follow an equals sign, so that none is taken for an option.
        for (name, value) in [
            ("workflow", spec.workflow_id.as_str()),
            ("port", spec.port.to_string().as_str()),
            ("instance", spec.instance_id.as_str()),
            ("kept-id", spec.id.as_str()),
            ("revision", spec.revision.to_string().as_str()),
            ("service", spec.service_url.as_str()),
            ("health-path", spec.health_path.as_str()),
            ("memory-mb", spec.memory_mb.to_string().as_str()),
            // What the supervisor opened stays readable for another user.
            ("token-fd", "0"),
        ] {
            command.arg(format!("--{name}={value}"));
        }
        if settings.allow_root {
            command.arg("--allow-root");
        }
        command.env_clear().current_dir("/").stdin(token).stdout(Stdio::null()).stderr(log).process_group(0);
        if let Some((user, group)) = settings.user {
            command.uid(user).gid(group);
        }
        let mut command = tokio::process::Command::from(command);
        let child = command.spawn().map_err(|error| format!("it can't be started: {error}"))?;
        let process = child.id().and_then(|pid| Some((pid, read_process(pid)?.started_ticks)));
        self.note(|view| {
            view.process = process;
            view.state = KeptState::Running;
        });
        Ok(KeptProcess::Own(Box::new(child)))
    }

    async fn end(&self, process: &mut KeptProcess, grace: Duration) {
        self.note(|view| view.state = KeptState::Ending);
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, process.ended()).await.is_err() {
            self.signal(Signal::KILL);
            process.ended().await;
        }
    }

    /// Send a signal to the process, if it is still the one that was started.
    fn signal(&self, signal: Signal) {
        let Some((pid, started)) = self.view.lock().process else { return };
        if let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| is_alive(pid, started)) {
            let _ = kill_process(target, signal);
        }
    }
}

/// Wait until the instance is asked to end. One whose supervisor has forgotten it ends at once.
async fn asked(ending: &mut watch::Receiver<Option<Duration>>) -> Duration {
    ending.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default()
}

/// What an instance writes to its standard error; begun anew with each start, so that it stays small.
fn log_file(logs: &Path, id: &str) -> std::io::Result<File> {
    std::fs::create_dir_all(logs)?;
    File::create(logs.join(format!("{id}.log")))
}
