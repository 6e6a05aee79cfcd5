//! The executable itself: it says hello, answers what it is asked in order, and ends with its standard input.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use am_jq_worker::protocol::{self, AnswerFrame, AnswerKind, READY_BYTE, TaskKind};
use bytes::BytesMut;

const NICE: &str = "10";
const MEMORY_MB: &str = "64";
const MAX_OUTPUT: &str = "1048576";

#[test]
fn worker_process_answers_in_order_and_ends_with_its_input() {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_agent-management-jq"))
        .args([NICE, MEMORY_MB, MAX_OUTPUT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = Vec::new();
    protocol::put_request(&mut requests, TaskKind::Jq, ".a + 1", r#"{"a": 41}"#);
    protocol::put_request(&mut requests, TaskKind::Jq, "error(\"no\")", "null");
    protocol::put_request(&mut requests, TaskKind::Schema, r#"{"type": "object"}"#, "[]");
    protocol::put_request(&mut requests, TaskKind::CompileJq, "def f: f; f", "");
    protocol::put_request(&mut requests, TaskKind::CompileJq, "nope", "");
    protocol::put_request(&mut requests, TaskKind::CompileSchema, r#"{"type": "object"}"#, "");
    protocol::put_request(&mut requests, TaskKind::CompileSchema, r#"{"type": 7}"#, "");
    // Dropped here: the worker reads all of them, then the end of its input.
    worker.stdin.take().unwrap().write_all(&requests).unwrap();

    let mut output = Vec::new();
    worker.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    assert!(worker.wait().unwrap().success());
    assert_eq!(output[0], READY_BYTE);
    let mut frames = BytesMut::from(&output[1..]);
    let mut answers: Vec<AnswerFrame> = Vec::new();
    while let Some(answer) = protocol::take_answer(&mut frames, 1 << 20).unwrap() {
        answers.push(answer);
    }
    assert_eq!(answers.len(), 7);
    assert_eq!((answers[0].kind, &answers[0].payload[..]), (AnswerKind::Output, &b"42"[..]));
    assert_eq!((answers[1].kind, &answers[1].payload[..]), (AnswerKind::ProgramError, &b"no"[..]));
    assert_eq!(answers[2].kind, AnswerKind::Output);
    assert!(answers[2].payload.starts_with(b"[{"), "{:?}", answers[2].payload);
    let compiled = answers[3..].iter().map(|answer| (answer.kind, answer.payload == "null"));
    let (good, bad) = ((AnswerKind::Output, true), (AnswerKind::ProgramError, false));
    assert_eq!(compiled.collect::<Vec<_>>(), [good, bad, good, bad]);
}

#[test]
fn worker_process_refuses_to_start_without_limits() {
    let worker = Command::new(env!("CARGO_BIN_EXE_agent-management-jq")).stdin(Stdio::null()).output().unwrap();
    assert!(!worker.status.success());
    assert!(worker.stdout.is_empty());
}
