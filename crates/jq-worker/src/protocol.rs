//! Protocol between pool and worker process over pipes: length-prefixed frames, little-endian.
//!
//! A worker first sends [`READY_BYTE`], then answers each request, in order:
//! - request: task u8, text length u32, input length u32, text (a jq program, a JSON Schema), input (JSON);
//! - answer: kind u8, evaluation time in nanoseconds u64, length u32, then the output (JSON) or a message.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

use super::program::MAX_PROGRAM_BYTES;

/// First byte from a worker that is ready.
pub const READY_BYTE: u8 = b'j';
/// Maximum length of a program's error message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 2048;
/// Maximum length of a schema, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;
/// Maximum size of an input, in bytes.
pub const MAX_INPUT_BYTES: usize = 64 << 20;

const REQUEST_HEADER_BYTES: usize = 9;
const ANSWER_HEADER_BYTES: usize = 13;

/// Kind of evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// The text is a jq program; the output is its only value.
    Jq,
    /// The text is a JSON Schema; the output is the array of the input's violations.
    Schema,
    /// The text is a jq program, which is only compiled; the output is null.
    CompileJq,
    /// The text is a JSON Schema, which is only compiled; the output is null.
    CompileSchema,
}

impl TaskKind {
    /// Return the maximum length of the text, in bytes.
    pub fn max_text(self) -> usize {
        match self {
            Self::Jq | Self::CompileJq => MAX_PROGRAM_BYTES,
            Self::Schema | Self::CompileSchema => MAX_SCHEMA_BYTES,
        }
    }
}

/// A request as read by the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFrame<'a> {
    /// How `text` is read.
    pub task: TaskKind,
    /// A jq program or a JSON Schema, UTF-8, at most [`TaskKind::max_text`] bytes.
    pub text: &'a [u8],
    /// A JSON document, at most [`MAX_INPUT_BYTES`] bytes.
    pub input: &'a [u8],
}

/// Result kind of an evaluation in a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// It ended; the payload is its output, a JSON document.
    Output,
    /// The program or the schema is at fault; the payload is a message for its author, UTF-8.
    ProgramError,
    /// The output is larger than the worker was started for; the payload is empty.
    TooLarge,
}

/// Answer of a worker.
#[derive(Debug, PartialEq, Eq)]
pub struct AnswerFrame {
    /// How the evaluation ended.
    pub kind: AnswerKind,
    /// Its duration inside the worker, in nanoseconds.
    pub nanoseconds: u64,
    /// The output or the message, by `kind`.
    pub payload: Bytes,
}

/// Append a request to `frames`. Both texts must be within their limits.
pub fn put_request(frames: &mut Vec<u8>, task: TaskKind, text: &str, input: &str) {
    frames.push(task as u8);
    frames.extend_from_slice(&(text.len() as u32).to_le_bytes());
    frames.extend_from_slice(&(input.len() as u32).to_le_bytes());
    frames.extend_from_slice(text.as_bytes());
    frames.extend_from_slice(input.as_bytes());
}

/// Read one request into `buffer`; `None` at the end of the stream.
pub fn read_request<'a>(stream: &mut impl Read, buffer: &'a mut Vec<u8>) -> io::Result<Option<RequestFrame<'a>>> {
    let mut header = [0; REQUEST_HEADER_BYTES];
    match stream.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut fields = &header[..];
    let task = match fields.get_u8() {
        0 => TaskKind::Jq,
        1 => TaskKind::Schema,
        2 => TaskKind::CompileJq,
        3 => TaskKind::CompileSchema,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let (text, input) = (fields.get_u32_le() as usize, fields.get_u32_le() as usize);
    if text > task.max_text() || input > MAX_INPUT_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    buffer.resize(text + input, 0);
    stream.read_exact(buffer)?;
    let (text, input) = buffer.split_at(text);
    Ok(Some(RequestFrame { task, text, input }))
}

/// Clear `frame` and reserve space for an answer's header before the payload.
pub fn begin_answer(frame: &mut Vec<u8>) {
    frame.clear();
    frame.resize(ANSWER_HEADER_BYTES, 0);
}

/// Fill in the header of the answer whose payload has been appended to `frame`.
pub fn finish_answer(frame: &mut [u8], kind: AnswerKind, nanoseconds: u64) {
    let length = (frame.len() - ANSWER_HEADER_BYTES) as u32;
    frame[0] = kind as u8;
    frame[1..9].copy_from_slice(&nanoseconds.to_le_bytes());
    frame[9..ANSWER_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Remove the first complete answer from `incoming`; a frame longer than `limit` or of an unknown kind is an error.
pub fn take_answer(incoming: &mut BytesMut, limit: usize) -> io::Result<Option<AnswerFrame>> {
    let Some(mut header) = incoming.get(..ANSWER_HEADER_BYTES) else { return Ok(None) };
    let kind = match header.get_u8() {
        0 => AnswerKind::Output,
        1 => AnswerKind::ProgramError,
        2 => AnswerKind::TooLarge,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let nanoseconds = header.get_u64_le();
    let length = header.get_u32_le() as usize;
    if length > limit.max(MAX_MESSAGE_BYTES) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if incoming.len() < ANSWER_HEADER_BYTES + length {
        incoming.reserve(ANSWER_HEADER_BYTES + length - incoming.len());
        return Ok(None);
    }
    incoming.advance(ANSWER_HEADER_BYTES);
    Ok(Some(AnswerFrame { kind, nanoseconds, payload: incoming.split_to(length).freeze() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn requests_come_out_as_they_went_in(
            requests in proptest::collection::vec((0..4usize, any::<String>(), any::<String>()), 0..5),
        ) {
            let task = |kind| [TaskKind::Jq, TaskKind::Schema, TaskKind::CompileJq, TaskKind::CompileSchema][kind];
            let mut frames = Vec::new();
            for (kind, text, input) in &requests {
                put_request(&mut frames, task(*kind), text, input);
            }
            let (mut stream, mut buffer) = (&frames[..], Vec::new());
            for (kind, text, input) in &requests {
                let expected = RequestFrame { task: task(*kind), text: text.as_bytes(), input: input.as_bytes() };
                prop_assert_eq!(read_request(&mut stream, &mut buffer).unwrap(), Some(expected));
            }
            prop_assert!(read_request(&mut stream, &mut buffer).unwrap().is_none());
        }

        #[test]
        fn answers_come_out_as_they_went_in_however_they_are_cut(
            payloads in proptest::collection::vec(any::<(Vec<u8>, u64)>(), 0..5),
            cut in 1..40usize,
        ) {
            let mut frames = Vec::new();
            for (payload, nanoseconds) in &payloads {
                let mut frame = Vec::new();
                begin_answer(&mut frame);
                frame.extend_from_slice(payload);
                finish_answer(&mut frame, AnswerKind::ProgramError, *nanoseconds);
                frames.extend(frame);
            }
            let (mut incoming, mut answers) = (BytesMut::new(), Vec::new());
            for piece in frames.chunks(cut) {
                incoming.extend_from_slice(piece);
                while let Some(answer) = take_answer(&mut incoming, 1 << 20).unwrap() {
                    answers.push((answer.payload.to_vec(), answer.nanoseconds));
                }
            }
            prop_assert_eq!(answers, payloads);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_or_unknown_is_refused() {
        let mut frame = Vec::new();
        begin_answer(&mut frame);
        frame.resize(frame.len() + MAX_MESSAGE_BYTES + 1, b' ');
        finish_answer(&mut frame, AnswerKind::Output, 0);
        assert!(take_answer(&mut BytesMut::from(&frame[..]), 10).is_err());
        assert!(take_answer(&mut BytesMut::from(&frame[..]), MAX_MESSAGE_BYTES + 1).unwrap().is_some());
        frame[0] = 9;
        assert!(take_answer(&mut BytesMut::from(&frame[..]), 1 << 20).is_err());
    }
}
