//! Event loop of a command: its input and output, its notifications, its measurement, and its termination.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::{Pid, Signal, kill_process},
};

use super::{
    cgroups::CgroupGuard,
    disk_watch::DiskWatch,
    error::{Result, SandboxError},
    measure,
    model::{CapturedOutput, CommandOutcome, SandboxUsage, TerminationReason},
    seccomp_notify::NotifyListener,
    supervised_job::{CommandHandle, CommandLimits, ProxyStarter, SupervisedJob},
};
use am_sandbox_init::{
    ipc::{self, InitMessage},
    sys,
};

/// Time between SIGTERM and SIGKILL.
const TERMINATION_GRACE: Duration = Duration::from_millis(500);
/// Time for which a turn of the loop is late from which this process counts as absent.
const MIN_ABSENCE: Duration = Duration::from_millis(500);
/// Time limit for the start of a sandbox.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time at the maximum number of processes after which a command is terminated, since it does nothing else.
const PROCESS_LIMIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of forbidden attempts.
const MAX_BREACHES: u64 = 10_000;
/// Factor of the output that is kept at which a command is terminated.
const OUTPUT_KILL_FACTOR: u64 = 16;

struct OutputPipe {
    pipe: Option<File>,
    captured: CapturedOutput,
}

pub struct CommandEventLoop<'a> {
    bounds: CommandLimits,
    group: Option<&'a CgroupGuard>,
    live: &'a CommandHandle,
    workspace: &'a std::path::Path,
    control: Option<OwnedFd>,
    stdin: Option<File>,
    stdout: OutputPipe,
    stderr: OutputPipe,
    listener: Option<OwnedFd>,
    pub notices: NotifyListener,
    pub proxy: Option<ProxyStarter>,
    refused: Option<std::sync::mpsc::Receiver<String>>,
    ready: bool,
    failed: Option<String>,
    ended: Option<TerminationReason>,
    usage: SandboxUsage,
    over_memory: bool,
    began: Instant,
    active: Instant,
    crowded_since: Option<Instant>,
    measured: Option<Instant>,
    files: DiskWatch,
    looks: u32,
    pid: u32,
}

/// Origin of a readable or writable descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PolledSource {
    Wake,
    Control,
    Stdin,
    Stdout,
    Stderr,
    Listener,
}

impl<'a> CommandEventLoop<'a> {
    pub fn new(job: &'a SupervisedJob, child: &mut Child, control: OwnedFd, stdin: OwnedFd) -> io::Result<Self> {
        let output = |pipe: OwnedFd| -> io::Result<OutputPipe> {
            set_nonblocking(pipe.as_fd())?;
            Ok(OutputPipe { pipe: Some(File::from(pipe)), captured: CapturedOutput::default() })
        };
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("a command without pipes"));
        };
        set_nonblocking(stdin.as_fd())?;
        let now = Instant::now();
        Ok(Self {
            bounds: job.bounds,
            group: job.group.as_ref(),
            live: &job.live,
            workspace: &job.workspace,
            control: Some(control),
            stdin: Some(File::from(stdin)),
            stdout: output(stdout.into())?,
            stderr: output(stderr.into())?,
            listener: None,
            notices: NotifyListener::new(job.workspace.clone()),
            proxy: None,
            refused: None,
            ready: false,
            failed: None,
            ended: None,
            usage: SandboxUsage::default(),
            over_memory: false,
            began: now,
            active: now,
            crowded_since: None,
            measured: None,
            files: DiskWatch::new(job.bounds.disk, now),
            looks: 0,
            pid: child.id(),
        })
    }

    /// Process events until the outermost process has ended, or must be ended.
    pub fn go_on(&mut self, child: &mut Child, input: &[u8]) {
        let mut input = input;
        let mut asked: Option<Instant> = None;
        loop {
            let gone = matches!(child.try_wait(), Ok(Some(_)) | Err(_));
            let (turned, pause) = (Instant::now(), if gone { Duration::ZERO } else { self.pause() });
            self.turn(&mut input, pause);
            self.excuse(turned.elapsed().saturating_sub(pause));
            if gone {
                // The last output is still in the pipes.
                while self.turn(&mut input, Duration::ZERO) {}
                return;
            }
            self.measure_files();
            self.measure();
            self.check();
            if self.ready && self.files.is_over() {
                // It would go on writing until it is killed, whatever it is ended for.
                return;
            }
            match (self.ended, asked) {
                (Some(_), None) => {
                    self.send_sigterm();
                    asked = Some(Instant::now());
                }
                (Some(_), Some(at)) if at.elapsed() > TERMINATION_GRACE => return,
                _ => {}
            }
            if !self.ready && self.failed.is_none() && self.began.elapsed() > START_TIMEOUT {
                self.failed = Some("it did not start in time".to_owned());
            }
            if self.failed.is_some() {
                return;
            }
        }
    }

    /// Move the limits by the time in which this process did not run, and so could not see that the command had ended.
    fn excuse(&mut self, absent: Duration) {
        if absent >= MIN_ABSENCE {
            self.began += absent;
            self.active += absent;
        }
    }

    /// Time until the next look at the command.
    fn pause(&self) -> Duration {
        let next = self.measure_interval().min(self.files.pause(Instant::now()));
        if self.ended.is_some() { next.min(Duration::from_millis(10)) } else { next }
    }

    /// Interval between measurements of processes: short at first, so that short commands are measured too.
    fn measure_interval(&self) -> Duration {
        Duration::from_millis(100).min(Duration::from_millis(5) * (self.looks + 1))
    }

    /// Wait for an event and handle it. Returns whether there was one.
    fn turn(&mut self, input: &mut &[u8], wait: Duration) -> bool {
        if input.is_empty() && self.ready {
            self.stdin = None;
        }
        let happened = self.poll_sources(wait);
        for source in &happened {
            match source {
                PolledSource::Wake => {
                    let _ = rustix::io::read(&self.live.wake, &mut [0u8; 8]);
                }
                PolledSource::Control => self.hear(),
                PolledSource::Stdin => self.write_stdin(input),
                PolledSource::Stdout => self.read(PolledSource::Stdout),
                PolledSource::Stderr => self.read(PolledSource::Stderr),
                PolledSource::Listener => self.answer(),
            }
        }
        if let Some(refused) = &self.refused {
            refused.try_iter().for_each(|host| self.notices.judge.record_connection(&host, true));
        }
        happened.iter().any(|source| *source != PolledSource::Wake && *source != PolledSource::Stdin)
    }

    fn poll_sources(&self, wait: Duration) -> Vec<PolledSource> {
        let input = self.stdin.as_ref().filter(|_| self.ready);
        let all = [
            (PolledSource::Wake, Some(self.live.wake.as_fd()), PollFlags::IN),
            (PolledSource::Control, self.control.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (PolledSource::Stdin, input.map(AsFd::as_fd), PollFlags::OUT),
            (PolledSource::Stdout, self.stdout.pipe.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (PolledSource::Stderr, self.stderr.pipe.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (PolledSource::Listener, self.listener.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        let open = all.into_iter().filter_map(|(source, fd, flags)| Some((source, fd?, flags)));
        let sources: Vec<(PolledSource, BorrowedFd<'_>, PollFlags)> = open.collect();
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        if poll(&mut polled, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let some = sources.iter().zip(&polled).filter(|(_, fd)| !fd.revents().is_empty());
        some.map(|((source, ..), _)| *source).collect()
    }

    /// Read the report of the first process inside; the end of the channel means that it has executed the program.
    fn hear(&mut self) {
        let Some(control) = &self.control else { return };
        match ipc::receive(control.as_fd()) {
            Ok((bytes, descriptors)) if !bytes.is_empty() => match serde_json::from_slice(&bytes) {
                Ok(InitMessage::Ready { .. }) => {
                    let mut descriptors = descriptors.into_iter();
                    self.listener = descriptors.next();
                    let proxy = descriptors.next().map(std::net::TcpListener::from);
                    self.refused = self.proxy.take().zip(proxy).map(|(start, listener)| start(listener));
                    self.ready = true;
                    self.began = Instant::now();
                    self.active = self.began;
                }
                Ok(InitMessage::Failed(why)) => self.failed = Some(why),
                Err(error) => self.failed = Some(error.to_string()),
            },
            Ok(_) => self.control = None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.control = None,
        }
    }

    fn write_stdin(&mut self, input: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(input) {
            Ok(written) => *input = &input[written..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // The command does not read its input.
            Err(_) => *input = &[],
        }
    }

    fn read(&mut self, source: PolledSource) {
        let output = if source == PolledSource::Stdout { &mut self.stdout } else { &mut self.stderr };
        let Some(pipe) = &mut output.pipe else { return };
        let mut buffer = [0; 64 * 1024];
        match pipe.read(&mut buffer) {
            Ok(0) => output.pipe = None,
            Ok(count) => {
                let room = self.bounds.output.saturating_sub(output.captured.bytes.len());
                output.captured.bytes.extend_from_slice(&buffer[..count.min(room)]);
                output.captured.total += count as u64;
                self.usage.output_bytes += count as u64;
                self.active = Instant::now();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => output.pipe = None,
        }
    }

    /// Answer waiting system calls, a bounded number at a time, so that a command that makes endless calls does not
    /// occupy this thread.
    fn answer(&mut self) {
        let Some(listener) = &self.listener else { return };
        for _ in 0..64 {
            let mut asked = [PollFd::new(listener, PollFlags::IN)];
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let waits = poll(&mut asked, Some(&none)).is_ok() && asked[0].revents().contains(PollFlags::IN);
            if !waits {
                if asked[0].revents().contains(PollFlags::HUP) {
                    self.listener = None;
                }
                return;
            }
            match sys::next_notification(listener.as_fd()) {
                Ok(Some(notice)) => {
                    let (verdict, id) = (self.notices.verdict(listener.as_fd(), &notice), notice.id);
                    if sys::send_decision(listener.as_fd(), id, verdict).is_err() {
                        self.listener = None;
                        return;
                    }
                }
                Ok(None) => {}
                Err(_) => {
                    self.listener = None;
                    return;
                }
            }
        }
    }

    fn measure(&mut self) {
        if self.measured.is_some_and(|at| at.elapsed() < self.measure_interval()) {
            return;
        }
        self.looks = (self.looks + 1).min(20);
        let pids = measure::descendants(self.pid);
        let sample = measure::measure_processes(&pids);
        let usage = &mut self.usage;
        let cpu = self.group.and_then(CgroupGuard::cpu_seconds).unwrap_or(sample.cpu_seconds);
        if cpu > usage.cpu_seconds + 0.001 {
            self.active = Instant::now();
        }
        usage.cpu_seconds = usage.cpu_seconds.max(cpu);
        usage.memory_bytes = self.group.and_then(CgroupGuard::memory).unwrap_or(sample.memory);
        let peak = self.group.and_then(CgroupGuard::memory_peak).unwrap_or(sample.memory);
        usage.memory_peak_bytes = usage.memory_peak_bytes.max(peak);
        // A control group counts the kernel's page cache too, which can be reclaimed.
        let counted = self.group.is_some_and(|group| group.memory().is_some());
        let killed = self.group.is_some_and(|group| group.oom_kill_count() > 0);
        self.over_memory |= killed || (!counted && usage.memory_bytes > self.bounds.memory);
        // Two processes belong to bubblewrap and not to the command.
        usage.processes = sample.processes.saturating_sub(2);
        usage.processes_peak = usage.processes_peak.max(usage.processes);
        usage.seconds = self.began.elapsed().as_secs_f64();
        self.measured = Some(Instant::now());
        *self.live.lock() = (self.usage, self.notices.judge.attempts());
    }

    /// Measure the files, more often than the rest: memory takes gigabytes of them in a second.
    fn measure_files(&mut self) {
        self.files.look(self.workspace, self.pid);
        let found = self.files.found();
        (self.usage.files, self.usage.disk_bytes) = (found.count, found.bytes);
    }

    /// Decide whether the command must be terminated.
    fn check(&mut self) {
        if self.ended.is_some() || !self.ready {
            if self.live.stopped() && self.ended.is_none() {
                self.ended = Some(TerminationReason::Cancelled);
            }
            return;
        }
        let (usage, bounds) = (&self.usage, &self.bounds);
        let crowded = usage.processes >= bounds.processes;
        self.crowded_since = crowded.then(|| self.crowded_since.unwrap_or_else(Instant::now));
        let output = self.stdout.captured.total.max(self.stderr.captured.total);
        let reasons = [
            (self.live.stopped(), TerminationReason::Cancelled),
            (self.over_memory, TerminationReason::Memory),
            (self.files.is_over(), TerminationReason::Disk),
            (output > bounds.output as u64 * OUTPUT_KILL_FACTOR, TerminationReason::Output),
            (self.notices.judge.breaches() > MAX_BREACHES, TerminationReason::Attempts),
            (
                self.crowded_since.is_some_and(|since| since.elapsed() > PROCESS_LIMIT_TIMEOUT),
                TerminationReason::Processes,
            ),
            (self.began.elapsed() > bounds.times.wall, TerminationReason::WallTime),
            (self.active.elapsed() > bounds.times.idle, TerminationReason::Idle),
        ];
        self.ended = reasons.into_iter().find(|(holds, _)| *holds).map(|(_, ended)| ended);
    }

    /// Send SIGTERM to the processes inside, below the two of bubblewrap.
    fn send_sigterm(&self) {
        for pid in measure::descendants(self.pid).into_iter().skip(2) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
    }

    pub fn finish(mut self, status: Option<ExitStatus>) -> Result<CommandOutcome> {
        // Waiting callers are killed already; with the last of them the listener closes.
        self.listener = None;
        if let Some(group) = self.group {
            self.usage.cpu_seconds = group.cpu_seconds().unwrap_or(self.usage.cpu_seconds);
            self.usage.memory_peak_bytes = group.memory_peak().unwrap_or(self.usage.memory_peak_bytes);
            if group.oom_kill_count() > 0 && self.ended.is_none() {
                self.ended = Some(TerminationReason::Memory);
            }
        }
        let files = measure::measure_files(self.workspace);
        (self.usage.files, self.usage.disk_bytes) = (files.count, files.bytes.max(self.usage.disk_bytes));
        if self.ended.is_none() && self.ready && files.bytes > self.bounds.disk {
            // It wrote that after the last look, and ended by itself.
            self.ended = Some(TerminationReason::Disk);
        }
        self.usage.seconds = self.began.elapsed().as_secs_f64();
        (self.usage.processes, self.usage.memory_bytes) = (0, 0);
        let cancelled = self.ended == Some(TerminationReason::Cancelled);
        if !cancelled && (!self.ready || self.failed.is_some()) {
            let said = self.stderr.captured.text();
            let why = self.failed.unwrap_or_else(|| said.trim().to_owned());
            return Err(SandboxError::StartFailed(if why.is_empty() { format!("{status:?}") } else { why }));
        }
        let code = |status: ExitStatus| status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(CommandOutcome {
            exit_code: status.and_then(code).unwrap_or(-1),
            ended: self.ended,
            stdout: self.stdout.captured,
            stderr: self.stderr.captured,
            usage: self.usage,
            attempts: self.notices.judge.attempts(),
        })
    }
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}
