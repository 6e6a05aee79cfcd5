//! What the pool and a worker process say to each other over pipes: length-prefixed frames, little-endian.
//!
//! A worker first says [`HELLO`], then answers each request, in order:
//! - request: program length u32, input length u32, program, input (JSON);
//! - answer: kind u8, evaluation time in nanoseconds u64, length u32, then the output (JSON) or a message.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

/// The first byte from a worker that is ready.
pub(super) const HELLO: u8 = b'j';
/// The longest message of a program's error that travels, in bytes.
pub(super) const MAX_MESSAGE: usize = 2048;
/// The largest input, in bytes.
pub(super) const MAX_INPUT: usize = 64 << 20;

const REQUEST_HEADER: usize = 8;
const ANSWER_HEADER: usize = 13;

/// What became of an evaluation inside a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Output,
    ProgramError,
    TooLarge,
}

/// A worker's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub kind: Kind,
    pub nanoseconds: u64,
    pub payload: Bytes,
}

/// Appends a request to `frames`. Both texts are within their limits.
pub(super) fn put_request(frames: &mut Vec<u8>, program: &str, input: &str) {
    frames.extend_from_slice(&(program.len() as u32).to_le_bytes());
    frames.extend_from_slice(&(input.len() as u32).to_le_bytes());
    frames.extend_from_slice(program.as_bytes());
    frames.extend_from_slice(input.as_bytes());
}

/// Reads one request into `buffer` and says where the input begins in it; none at the end of the stream.
pub(super) fn read_request(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut header = [0; REQUEST_HEADER];
    match stream.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut fields = &header[..];
    let (program, input) = (fields.get_u32_le() as usize, fields.get_u32_le() as usize);
    if input > MAX_INPUT || program > super::MAX_PROGRAM_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    buffer.resize(program + input, 0);
    stream.read_exact(buffer)?;
    Ok(Some(program))
}

/// Clears `frame` and leaves room for an answer's header before the payload.
pub(super) fn begin_answer(frame: &mut Vec<u8>) {
    frame.clear();
    frame.resize(ANSWER_HEADER, 0);
}

/// Fills in the header of the answer whose payload has been appended to `frame`.
pub(super) fn finish_answer(frame: &mut [u8], kind: Kind, nanoseconds: u64) {
    let length = (frame.len() - ANSWER_HEADER) as u32;
    frame[0] = kind as u8;
    frame[1..9].copy_from_slice(&nanoseconds.to_le_bytes());
    frame[9..ANSWER_HEADER].copy_from_slice(&length.to_le_bytes());
}

/// Takes the first whole answer out of `incoming`; a frame longer than `limit` or of no known kind is an error.
pub(super) fn take_answer(incoming: &mut BytesMut, limit: usize) -> io::Result<Option<Answer>> {
    let Some(mut header) = incoming.get(..ANSWER_HEADER) else { return Ok(None) };
    let kind = match header.get_u8() {
        0 => Kind::Output,
        1 => Kind::ProgramError,
        2 => Kind::TooLarge,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let nanoseconds = header.get_u64_le();
    let length = header.get_u32_le() as usize;
    if length > limit.max(MAX_MESSAGE) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if incoming.len() < ANSWER_HEADER + length {
        incoming.reserve(ANSWER_HEADER + length - incoming.len());
        return Ok(None);
    }
    incoming.advance(ANSWER_HEADER);
    Ok(Some(Answer { kind, nanoseconds, payload: incoming.split_to(length).freeze() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn requests_come_out_as_they_went_in(requests in proptest::collection::vec(any::<(String, String)>(), 0..5)) {
            let mut frames = Vec::new();
            for (program, input) in &requests {
                put_request(&mut frames, program, input);
            }
            let (mut stream, mut buffer) = (&frames[..], Vec::new());
            for (program, input) in &requests {
                let split = read_request(&mut stream, &mut buffer).unwrap().unwrap();
                prop_assert_eq!(&buffer[..split], program.as_bytes());
                prop_assert_eq!(&buffer[split..], input.as_bytes());
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
                finish_answer(&mut frame, Kind::ProgramError, *nanoseconds);
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
        frame.resize(frame.len() + MAX_MESSAGE + 1, b' ');
        finish_answer(&mut frame, Kind::Output, 0);
        assert!(take_answer(&mut BytesMut::from(&frame[..]), 10).is_err());
        assert!(take_answer(&mut BytesMut::from(&frame[..]), MAX_MESSAGE + 1).unwrap().is_some());
        frame[0] = 9;
        assert!(take_answer(&mut BytesMut::from(&frame[..]), 1 << 20).is_err());
    }
}
