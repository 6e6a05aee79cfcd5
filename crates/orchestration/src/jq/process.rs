//! A worker process, as seen by the pool.

use am_core::boxed;
use std::{
    collections::VecDeque,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::process::Signal;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::oneshot,
    time::{sleep, timeout},
};

use super::evaluation::{JqError, JqOutput, JqSettings, JqStats};
use am_jq_worker::protocol::{self, AnswerFrame, AnswerKind, READY_BYTE, TaskKind};

/// Maximum time for a worker to start, and to exit after its pipes are closed.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time in which an answer that lies in the pipe is read, after the time limit: this process may have been absent.
const LAST_LOOK: Duration = Duration::from_millis(20);
/// Multiple of the time limit after which an evaluation is ended, however little processor time it got.
const MAX_STRETCH: u32 = 5;
/// Resolution of the processor time.
const TICKS_PER_SECOND: f64 = 100.0;

/// Command that starts a worker.
pub(super) struct WorkerCommand {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub settings: JqSettings,
}

/// Which worker takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerPlace {
    /// One that may work for anybody at any time.
    Common,
    /// The last one, where there are several: it works only while all others do, so that whoever finds them occupied has it.
    Reserve,
}

impl WorkerPlace {
    /// Nice value of the worker's process. All are behind the service, whose threads compute for moments, and the reserve comes before
    /// the others, since it works for whoever finds them occupied.
    fn nice(self) -> i32 {
        match self {
            Self::Common => 10,
            Self::Reserve => 7,
        }
    }
}

/// A requested evaluation.
pub(super) struct PendingEvaluation {
    pub task: TaskKind,
    pub text: Arc<str>,
    pub input: Arc<RawValue>,
    pub reply: oneshot::Sender<Result<JqOutput, JqError>>,
    /// Number of workers killed from outside while evaluating it.
    pub interrupted: u8,
}

/// Reason for which a worker can no longer be used. The first unanswered request was being evaluated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WorkerFailure {
    /// Exceeded the time limit.
    Timeout,
    /// Got too little processor time: it was stopped or starved.
    Starved,
    /// Exited by itself: out of memory or stack.
    Crashed,
    /// Killed from outside: by an operator, or by the kernel when the machine runs out of memory.
    Killed,
}

/// A running worker. Dropping it kills it.
pub(super) struct WorkerProcess {
    child: Child,
    requests: ChildStdin,
    answers: ChildStdout,
    incoming: BytesMut,
    /// Number of requests that it has answered.
    pub answered: u64,
}

impl WorkerProcess {
    /// Start a worker and wait until it is ready.
    #[boxed]
    pub async fn start(launch: &WorkerCommand, place: WorkerPlace) -> io::Result<Self> {
        let mut child = Command::new(&launch.program)
            .args(&launch.args)
            .arg(place.nice().to_string())
            .arg(launch.settings.memory_mb.to_string())
            .arg(launch.settings.max_output.to_string())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in the terminal is meant for the service, which still finishes its work.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a jq worker without pipes"));
        };
        let incoming = BytesMut::with_capacity(64 * 1024);
        let mut worker = Self { child, requests, answers, incoming, answered: 0 };
        match timeout(START_TIMEOUT, worker.answers.read_u8()).await {
            Ok(Ok(READY_BYTE)) => Ok(worker),
            _ => {
                let status = worker.end().await;
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(io::Error::other(format!("the jq worker {} did not start: {status}", launch.program.display())))
            }
        }
    }

    /// Evaluate `batch`; answered requests are removed from it, the others keep their order.
    #[boxed]
    pub async fn evaluate(
        &mut self,
        batch: &mut VecDeque<PendingEvaluation>,
        launch: &WorkerCommand,
        stats: &JqStats,
    ) -> Result<(), WorkerFailure> {
        let mut frames = Vec::new();
        for request in &*batch {
            protocol::put_request(&mut frames, request.task, &request.text, request.input.get());
        }
        let asked = batch.len();
        let outcome = {
            let (requests, limits) = (&mut self.requests, &launch.settings);
            let worker = self.child.id();
            let read = read_answers(&mut self.answers, &mut self.incoming, batch, worker, limits, stats);
            // Reading and writing run concurrently: otherwise both sides could wait for the other.
            let write = requests.write_all(&frames);
            tokio::pin!(read, write);
            let mut writing = true;
            loop {
                tokio::select! {
                    biased;
                    // A dead worker is noticed by its missing answers.
                    _ = &mut write, if writing => writing = false,
                    outcome = &mut read => break outcome,
                }
            }
        };
        self.answered += (asked - batch.len()) as u64;
        match outcome {
            Ok(()) => Ok(()),
            Err(AnswerError::TimedOut) => Err(WorkerFailure::Timeout),
            Err(AnswerError::Starved) => Err(WorkerFailure::Starved),
            Err(AnswerError::Closed) => Err(self.exit_reason().await),
        }
    }

    /// Kill the worker if it still runs, and wait for its exit.
    #[boxed]
    pub async fn end(&mut self) -> io::Result<ExitStatus> {
        let _ = self.child.start_kill();
        self.child.wait().await
    }

    async fn exit_reason(&mut self) -> WorkerFailure {
        let status = match timeout(EXIT_TIMEOUT, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => self.end().await,
        };
        const EXTERNAL_SIGNALS: [Signal; 5] = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
        match status.ok().and_then(|status| status.signal()) {
            Some(signal) if EXTERNAL_SIGNALS.iter().any(|outside| outside.as_raw() == signal) => WorkerFailure::Killed,
            _ => WorkerFailure::Crashed,
        }
    }
}

enum AnswerError {
    TimedOut,
    Starved,
    Closed,
}

/// Processor time that a process has used; `None` where it cannot be read.
fn processor_time(process: Option<u32>) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process?)).ok()?;
    // Behind the name, which may contain anything, come the state and the other fields.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
    Some(Duration::from_secs_f64(f64::from(ticks(11)?.saturating_add(ticks(12)?)) / TICKS_PER_SECOND))
}

async fn read_answers(
    answers: &mut ChildStdout,
    incoming: &mut BytesMut,
    batch: &mut VecDeque<PendingEvaluation>,
    worker: Option<u32>,
    limits: &JqSettings,
    stats: &JqStats,
) -> Result<(), AnswerError> {
    let before = processor_time(worker);
    // Of the requests of this batch that were answered.
    let mut answered = Duration::ZERO;
    let mut since = Instant::now();
    let deadline = sleep(limits.timeout);
    tokio::pin!(deadline);
    'batch: while !batch.is_empty() {
        let answer = 'wait: {
            tokio::select! {
                biased;
                answer = next_answer(answers, incoming, limits.max_output) => answer.map_err(|_| AnswerError::Closed)?,
                () = &mut deadline => {
                    let elapsed = since.elapsed();
                    let mut left = limits.timeout.saturating_sub(elapsed);
                    if left.is_zero() {
                        if let Ok(answer) = timeout(LAST_LOOK, next_answer(answers, incoming, limits.max_output)).await {
                            break 'wait answer.map_err(|_| AnswerError::Closed)?;
                        }
                        let used = before.zip(processor_time(worker)).map_or(limits.timeout, |(before, now)| {
                            now.saturating_sub(before + answered)
                        });
                        left = limits.timeout.saturating_sub(used);
                        let starved = elapsed >= limits.timeout * MAX_STRETCH;
                        if left < limits.timeout / 10 || starved {
                            let little = used < limits.timeout / 2;
                            return Err(if little { AnswerError::Starved } else { AnswerError::TimedOut });
                        }
                    }
                    deadline.as_mut().reset(tokio::time::Instant::now() + left);
                    continue 'batch;
                }
            }
        };
        since = Instant::now();
        answered += Duration::from_nanos(answer.nanoseconds);
        let Some(request) = batch.pop_front() else { break };
        stats.evaluations.fetch_add(1, Relaxed);
        // The caller may have gone away.
        let _ = request.reply.send(evaluation_result(answer, limits.max_output));
    }
    Ok(())
}

async fn next_answer(answers: &mut ChildStdout, incoming: &mut BytesMut, max_output: usize) -> io::Result<AnswerFrame> {
    loop {
        if let Some(answer) = protocol::take_answer(incoming, max_output)? {
            return Ok(answer);
        }
        if incoming.capacity() == incoming.len() {
            incoming.reserve(64 * 1024);
        }
        if answers.read_buf(incoming).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn evaluation_result(answer: AnswerFrame, max_output: usize) -> Result<JqOutput, JqError> {
    let text = || String::from_utf8_lossy(&answer.payload).into_owned();
    match answer.kind {
        AnswerKind::ProgramError => Err(JqError::Program(text())),
        AnswerKind::TooLarge => Err(JqError::OutputTooLarge { limit: max_output }),
        AnswerKind::Output => {
            let output = RawValue::from_string(text()).map_err(|error| JqError::Program(error.to_string()))?;
            Ok(JqOutput { output, seconds: answer.nanoseconds as f64 / 1e9 })
        }
    }
}
