//! Frames of a bridge: binary, little-endian, a head of 16 bytes and rows of numbers.

use super::{super::ActionBatch, rows::BridgeRows};

/// Version of the frames; a bridge of another one is refused.
pub const BRIDGE_PROTOCOL: u8 = 1;
/// Largest frame in bytes, its head included.
pub const MAX_BRIDGE_FRAME_BYTES: usize = 16 << 20;
/// Bytes before the rows.
pub(super) const HEAD_BYTES: usize = 16;
/// Longest text of a failed bridge that is told, in bytes.
const MAX_TEXT_BYTES: usize = 500;

/// Command: begin new episodes. Rows: the seed, 8 bytes.
pub(super) const RESET: u8 = 1;
/// Command: do one step. Rows: an `i32` per environment, or the `f32` of its vector.
pub(super) const STEP: u8 = 2;
/// Command without an answer: the vector is needed no more.
pub(super) const CLOSE: u8 = 3;
/// Answer to [`RESET`]. Rows: the observations.
pub(super) const OBSERVED: u8 = 129;
/// Answer to [`STEP`]. Rows: observations, rewards, two bytes of flags each, last observations of ended episodes.
pub(super) const STEPPED: u8 = 130;
/// Answer to any: the bridge cannot go on. Rows: a text.
pub(super) const FAILED: u8 = 131;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// What the frame is.
    pub(super) kind: u8,
    /// Number of the command, which its answer repeats.
    pub(super) sequence: u32,
    /// Number of the vector of environments.
    pub(super) vector: u32,
    /// Environments in the vector.
    pub(super) count: u32,
}

impl FrameHead {
    fn write(self, rows: usize) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEAD_BYTES + rows);
        frame.extend([self.kind, BRIDGE_PROTOCOL, 0, 0]);
        for number in [self.sequence, self.vector, self.count] {
            frame.extend(number.to_le_bytes());
        }
        frame
    }

    /// Read the head of an answer; the reason if it is none.
    pub(super) fn read(frame: &[u8]) -> Result<(Self, &[u8]), String> {
        let Some((head, rows)) = frame.split_first_chunk::<HEAD_BYTES>() else {
            return Err(format!("a frame of {} bytes, and {HEAD_BYTES} belong to its head", frame.len()));
        };
        if head[1] != BRIDGE_PROTOCOL || head[2] != 0 || head[3] != 0 {
            return Err(format!("a frame that is not of protocol {BRIDGE_PROTOCOL}"));
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Ok((Self { kind: head[0], sequence: number(4), vector: number(8), count: number(12) }, rows))
    }

    /// A command without rows.
    pub(super) fn bare(self) -> Vec<u8> {
        self.write(0)
    }

    pub(super) fn with_seed(self, seed: u64) -> Vec<u8> {
        let mut frame = self.write(8);
        frame.extend(seed.to_le_bytes());
        frame
    }

    pub(super) fn with_actions(self, actions: ActionBatch<'_>) -> Vec<u8> {
        match actions {
            ActionBatch::Discrete(all) => {
                let mut frame = self.write(4 * all.len());
                // An index was checked, and is below the number of actions.
                frame.extend(all.iter().flat_map(|action| (*action as i32).to_le_bytes()));
                frame
            }
            ActionBatch::Continuous(all) => {
                let mut frame = self.write(4 * all.len());
                frame.extend(all.iter().flat_map(|number| number.to_le_bytes()));
                frame
            }
        }
    }
}

/// Bytes of an answer to a step in which all episodes end: the most that a frame of such environments has.
pub(super) fn largest_frame(count: usize, width: usize) -> usize {
    HEAD_BYTES + count * (8 * width + 6)
}

/// Reads rows one after the other.
struct RowReader<'a> {
    rest: &'a [u8],
}

impl RowReader<'_> {
    fn too_short() -> String {
        "a frame that is too short".to_owned()
    }

    fn floats(&mut self, what: &str, out: &mut [f32]) -> Result<(), String> {
        let (bytes, rest) = self.rest.split_at_checked(4 * out.len()).ok_or_else(Self::too_short)?;
        let (words, _) = bytes.as_chunks::<4>();
        for (at, (out, word)) in out.iter_mut().zip(words).enumerate() {
            *out = f32::from_le_bytes(*word);
            if !out.is_finite() {
                return Err(format!("{what} that is {out}, the number {at} of them"));
            }
        }
        self.rest = rest;
        Ok(())
    }

    fn flags(&mut self, what: &str, out: &mut [bool]) -> Result<(), String> {
        let (bytes, rest) = self.rest.split_at_checked(out.len()).ok_or_else(Self::too_short)?;
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = match byte {
                0 => false,
                1 => true,
                other => return Err(format!("{what} that is {other}, neither 0 nor 1")),
            };
        }
        self.rest = rest;
        Ok(())
    }

    fn end(self) -> Result<(), String> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(format!("a frame with {more} bytes too many")),
        }
    }
}

/// Read the observations after a reset.
pub(super) fn read_observed(rows: &[u8], observations: &mut [f32]) -> Result<(), String> {
    let mut reader = RowReader { rest: rows };
    reader.floats("an observation", observations)?;
    reader.end()
}

/// Read the results of a step.
pub(super) fn read_stepped(rows: &[u8], width: usize, into: &mut BridgeRows<'_>) -> Result<(), String> {
    let mut reader = RowReader { rest: rows };
    reader.floats("an observation", into.observations)?;
    reader.floats("a reward", into.rewards)?;
    reader.flags("a flag of a termination", into.terminated)?;
    reader.flags("a flag of a truncation", into.truncated)?;
    for index in 0..into.rewards.len() {
        if into.terminated[index] || into.truncated[index] {
            reader.floats("a last observation", &mut into.finals[index * width..(index + 1) * width])?;
        }
    }
    reader.end()
}

/// Read why a bridge cannot go on.
pub(super) fn read_failed(rows: &[u8]) -> String {
    let text = String::from_utf8_lossy(&rows[..rows.len().min(MAX_TEXT_BYTES)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
