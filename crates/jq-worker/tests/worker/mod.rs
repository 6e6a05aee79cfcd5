//! A worker process that tests ask one request after another.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's helper fails the test, and is told there")]

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use am_jq_worker::protocol::{self, AnswerKind, READY_BYTE, TaskKind};
use bytes::BytesMut;

const NICE: &str = "10";
const MEMORY_MB: &str = "256";
const MAX_OUTPUT: &str = "1048576";
/// A program of the suite takes milliseconds; one that does not end is killed.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// What a worker says to a request.
pub enum SpokenAnswer {
    /// The output, a JSON text.
    Output(String),
    /// The program is at fault.
    Refused(String),
    /// The worker crashed or took too long, and another has taken its place.
    Ended,
}

/// A worker process and what it says.
pub struct Worker {
    process: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
}

impl Worker {
    /// Start a worker that is ready.
    pub fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_agent-management-jq"))
            .args([NICE, MEMORY_MB, MAX_OUTPUT])
            .env("SECRET", "of the service")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a worker without memory says there is no matter.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, mut output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut ready = [0];
        output.read_exact(&mut ready).unwrap();
        assert_eq!(ready, [READY_BYTE]);
        Self { process, input, output: chunks(output) }
    }

    /// Compile a program.
    pub fn compile(&mut self, program: &str) -> SpokenAnswer {
        self.ask(TaskKind::CompileJq, program, "")
    }

    /// Evaluate a program.
    pub fn evaluate(&mut self, program: &str, input: &str) -> SpokenAnswer {
        self.ask(TaskKind::Jq, program, input)
    }

    fn ask(&mut self, task: TaskKind, program: &str, input: &str) -> SpokenAnswer {
        let mut request = Vec::new();
        protocol::put_request(&mut request, task, program, input);
        self.input.write_all(&request).unwrap();
        let mut received = BytesMut::new();
        loop {
            if let Some(answer) = protocol::take_answer(&mut received, 1 << 20).unwrap() {
                let text = String::from_utf8(answer.payload.to_vec()).unwrap();
                return match answer.kind {
                    AnswerKind::Output => SpokenAnswer::Output(text),
                    AnswerKind::ProgramError => SpokenAnswer::Refused(text),
                    AnswerKind::TooLarge => SpokenAnswer::Refused("too large".to_owned()),
                };
            }
            let Ok(chunk) = self.output.recv_timeout(REPLY_TIMEOUT) else {
                *self = Self::start();
                return SpokenAnswer::Ended;
            };
            received.extend_from_slice(&chunk);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn chunks(mut output: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut chunk = [0; 64 * 1024];
        while let Ok(length @ 1..) = output.read(&mut chunk)
            && sender.send(chunk[..length].to_vec()).is_ok()
        {}
    });
    receiver
}
