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
    error::{Error, Result},
    groups::Group,
    measure,
    model::{Captured, Ended, Ran, Usage},
    notices::Notices,
    supervise::{Bounds, Job, Live, ProxyStart},
};
use am_sandbox_init::{
    kernel,
    wire::{self, Said},
};

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(500);
/// Time limit for the start of a sandbox.
const START: Duration = Duration::from_secs(20);
/// Time at the maximum number of processes after which a command is terminated, since it does nothing else.
const CROWDED: Duration = Duration::from_secs(2);
/// Maximum number of forbidden attempts.
const MOST_BREACHES: u64 = 10_000;
/// Factor of the output that is kept at which a command is terminated.
const OUTPUT_TIMES: u64 = 16;

struct Output {
    pipe: Option<File>,
    captured: Captured,
}

pub struct Watch<'a> {
    bounds: Bounds,
    group: Option<&'a Group>,
    live: &'a Live,
    workspace: &'a std::path::Path,
    control: Option<OwnedFd>,
    stdin: Option<File>,
    stdout: Output,
    stderr: Output,
    listener: Option<OwnedFd>,
    pub notices: Notices,
    pub proxy: Option<ProxyStart>,
    refused: Option<std::sync::mpsc::Receiver<String>>,
    ready: bool,
    failed: Option<String>,
    ended: Option<Ended>,
    usage: Usage,
    over_memory: bool,
    began: Instant,
    active: Instant,
    crowded_since: Option<Instant>,
    measured: Option<Instant>,
    files_due: Instant,
    looks: u32,
    pid: u32,
}

/// Origin of a readable or writable descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Wake,
    Control,
    Stdin,
    Stdout,
    Stderr,
    Listener,
}

impl<'a> Watch<'a> {
    pub fn new(job: &'a Job, child: &mut Child, control: OwnedFd, stdin: OwnedFd) -> io::Result<Self> {
        let output = |pipe: OwnedFd| -> io::Result<Output> {
            unblocked(pipe.as_fd())?;
            Ok(Output { pipe: Some(File::from(pipe)), captured: Captured::default() })
        };
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("a command without pipes"));
        };
        unblocked(stdin.as_fd())?;
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
            notices: Notices::new(job.workspace.clone()),
            proxy: None,
            refused: None,
            ready: false,
            failed: None,
            ended: None,
            usage: Usage::default(),
            over_memory: false,
            began: now,
            active: now,
            crowded_since: None,
            measured: None,
            files_due: now,
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
            self.turn(&mut input, if gone { Duration::ZERO } else { self.pause() });
            if gone {
                // The last output is still in the pipes.
                while self.turn(&mut input, Duration::ZERO) {}
                return;
            }
            self.measure();
            self.check();
            match (self.ended, asked) {
                (Some(_), None) => {
                    self.ask_to_end();
                    asked = Some(Instant::now());
                }
                (Some(_), Some(at)) if at.elapsed() > GRACE => return,
                _ => {}
            }
            if !self.ready && self.failed.is_none() && self.began.elapsed() > START {
                self.failed = Some("it did not start in time".to_owned());
            }
            if self.failed.is_some() {
                return;
            }
        }
    }

    /// Interval between measurements: short at first, so that short commands are measured too.
    fn pause(&self) -> Duration {
        let next = Duration::from_millis(100).min(Duration::from_millis(5) * (self.looks + 1));
        if self.ended.is_some() { next.min(Duration::from_millis(10)) } else { next }
    }

    /// Wait for an event and handle it. Returns whether there was one.
    fn turn(&mut self, input: &mut &[u8], wait: Duration) -> bool {
        if input.is_empty() && self.ready {
            self.stdin = None;
        }
        let happened = self.happened(wait);
        for source in &happened {
            match source {
                Source::Wake => {
                    let _ = rustix::io::read(&self.live.wake, &mut [0u8; 8]);
                }
                Source::Control => self.hear(),
                Source::Stdin => self.feed(input),
                Source::Stdout => self.read(Source::Stdout),
                Source::Stderr => self.read(Source::Stderr),
                Source::Listener => self.answer(),
            }
        }
        if let Some(refused) = &self.refused {
            refused.try_iter().for_each(|host| self.notices.judge.connection(&host, true));
        }
        happened.iter().any(|source| *source != Source::Wake && *source != Source::Stdin)
    }

    fn happened(&self, wait: Duration) -> Vec<Source> {
        let input = self.stdin.as_ref().filter(|_| self.ready);
        let all = [
            (Source::Wake, Some(self.live.wake.as_fd()), PollFlags::IN),
            (Source::Control, self.control.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (Source::Stdin, input.map(AsFd::as_fd), PollFlags::OUT),
            (Source::Stdout, self.stdout.pipe.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (Source::Stderr, self.stderr.pipe.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (Source::Listener, self.listener.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        let open = all.into_iter().filter_map(|(source, fd, flags)| Some((source, fd?, flags)));
        let sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> = open.collect();
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
        match wire::receive(control.as_fd()) {
            Ok((bytes, descriptors)) if !bytes.is_empty() => match serde_json::from_slice(&bytes) {
                Ok(Said::Ready { .. }) => {
                    let mut descriptors = descriptors.into_iter();
                    self.listener = descriptors.next();
                    let proxy = descriptors.next().map(std::net::TcpListener::from);
                    self.refused = self.proxy.take().zip(proxy).map(|(start, listener)| start(listener));
                    self.ready = true;
                    self.began = Instant::now();
                    self.active = self.began;
                }
                Ok(Said::Failed(why)) => self.failed = Some(why),
                Err(error) => self.failed = Some(error.to_string()),
            },
            Ok(_) => self.control = None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.control = None,
        }
    }

    fn feed(&mut self, input: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(input) {
            Ok(written) => *input = &input[written..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // The command does not read its input.
            Err(_) => *input = &[],
        }
    }

    fn read(&mut self, source: Source) {
        let output = if source == Source::Stdout { &mut self.stdout } else { &mut self.stderr };
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
            match kernel::next(listener.as_fd()) {
                Ok(Some(notice)) => {
                    let (verdict, id) = (self.notices.verdict(listener.as_fd(), &notice), notice.id);
                    if kernel::answer(listener.as_fd(), id, verdict).is_err() {
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
        if self.measured.is_some_and(|at| at.elapsed() < self.pause()) {
            return;
        }
        self.looks = (self.looks + 1).min(20);
        let pids = measure::descendants(self.pid);
        let sample = measure::sample(&pids);
        let usage = &mut self.usage;
        let cpu = self.group.and_then(Group::cpu_seconds).unwrap_or(sample.cpu_seconds);
        if cpu > usage.cpu_seconds + 0.001 {
            self.active = Instant::now();
        }
        usage.cpu_seconds = usage.cpu_seconds.max(cpu);
        usage.memory_bytes = self.group.and_then(Group::memory).unwrap_or(sample.memory);
        let peak = self.group.and_then(Group::memory_peak).unwrap_or(sample.memory);
        usage.memory_peak_bytes = usage.memory_peak_bytes.max(peak);
        // A control group counts the kernel's page cache too, which can be reclaimed.
        let counted = self.group.is_some_and(|group| group.memory().is_some());
        let killed = self.group.is_some_and(|group| group.killed_for_memory() > 0);
        self.over_memory |= killed || (!counted && usage.memory_bytes > self.bounds.memory);
        // Two processes belong to bubblewrap and not to the command.
        usage.processes = sample.processes.saturating_sub(2);
        usage.processes_peak = usage.processes_peak.max(usage.processes);
        if self.files_due <= Instant::now() {
            let began = Instant::now();
            let files = measure::files(self.workspace);
            (usage.files, usage.disk_bytes) = (files.count, files.bytes + measure::nameless(&pids, self.workspace));
            // With many files, measuring them must not dominate.
            self.files_due = Instant::now() + (began.elapsed() * 10).max(Duration::from_millis(50));
        }
        usage.seconds = self.began.elapsed().as_secs_f64();
        self.measured = Some(Instant::now());
        *self.live.lock() = (self.usage, self.notices.judge.attempts());
    }

    /// Decide whether the command must be terminated.
    fn check(&mut self) {
        if self.ended.is_some() || !self.ready {
            if self.live.stopped() && self.ended.is_none() {
                self.ended = Some(Ended::Cancelled);
            }
            return;
        }
        let (usage, bounds) = (&self.usage, &self.bounds);
        let crowded = usage.processes >= bounds.processes;
        self.crowded_since = crowded.then(|| self.crowded_since.unwrap_or_else(Instant::now));
        let output = self.stdout.captured.total.max(self.stderr.captured.total);
        let reasons = [
            (self.live.stopped(), Ended::Cancelled),
            (self.over_memory, Ended::Memory),
            (usage.disk_bytes > bounds.disk || usage.files > measure::MOST_FILES, Ended::Disk),
            (output > bounds.output as u64 * OUTPUT_TIMES, Ended::Output),
            (self.notices.judge.breaches() > MOST_BREACHES, Ended::Attempts),
            (self.crowded_since.is_some_and(|since| since.elapsed() > CROWDED), Ended::Processes),
            (self.began.elapsed() > bounds.times.wall, Ended::WallTime),
            (self.active.elapsed() > bounds.times.idle, Ended::Idle),
        ];
        self.ended = reasons.into_iter().find(|(holds, _)| *holds).map(|(_, ended)| ended);
    }

    /// Send SIGTERM to the processes inside, below the two of bubblewrap.
    fn ask_to_end(&self) {
        for pid in measure::descendants(self.pid).into_iter().skip(2) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
    }

    pub fn finish(mut self, status: Option<ExitStatus>) -> Result<Ran> {
        // Waiting callers are killed already; with the last of them the listener closes.
        self.listener = None;
        if let Some(group) = self.group {
            self.usage.cpu_seconds = group.cpu_seconds().unwrap_or(self.usage.cpu_seconds);
            self.usage.memory_peak_bytes = group.memory_peak().unwrap_or(self.usage.memory_peak_bytes);
            if group.killed_for_memory() > 0 && self.ended.is_none() {
                self.ended = Some(Ended::Memory);
            }
        }
        let files = measure::files(self.workspace);
        (self.usage.files, self.usage.disk_bytes) = (files.count, files.bytes.max(self.usage.disk_bytes));
        self.usage.seconds = self.began.elapsed().as_secs_f64();
        (self.usage.processes, self.usage.memory_bytes) = (0, 0);
        let cancelled = self.ended == Some(Ended::Cancelled);
        if !cancelled && (!self.ready || self.failed.is_some()) {
            let said = self.stderr.captured.text();
            let why = self.failed.unwrap_or_else(|| said.trim().to_owned());
            return Err(Error::Start(if why.is_empty() { format!("{status:?}") } else { why }));
        }
        let code = |status: ExitStatus| status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(Ran {
            exit_code: status.and_then(code).unwrap_or(-1),
            ended: self.ended,
            stdout: self.stdout.captured,
            stderr: self.stderr.captured,
            usage: self.usage,
            attempts: self.notices.judge.attempts(),
        })
    }
}

fn unblocked(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}
