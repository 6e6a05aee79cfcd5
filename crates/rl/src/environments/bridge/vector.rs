//! A vector of environments behind a bridge, as the trainer steps it.

use std::{fmt, sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _};

use super::{
    super::{ActionBatch, EnvironmentDescription, EnvironmentError, simulation::EnvironmentRng},
    frames::{self, CLOSE, FrameHead, MAX_BRIDGE_FRAME_BYTES, OBSERVED, RESET, STEP, STEPPED},
    hub::{BridgeConnection, BridgeHub, InterruptCheck},
    rows::BridgeRows,
    spec::BridgeSpec,
};
use am_core::ids::TrainingRunId;

/// Environments from which on they are stepped in two parts: a frame costs the bridge about as much as ten environments' steps.
const MIN_SPLIT: usize = 8;

/// A connected bridge, and how long a trainer waits for it.
#[derive(Clone)]
pub(crate) struct BridgeAccess {
    connection: Arc<BridgeConnection>,
    /// Longest time between a command and its answer.
    patience: Duration,
    /// Whether the trainer is asked to stop; looked at while it waits.
    interrupted: Arc<InterruptCheck>,
}

impl BridgeAccess {
    /// Access to the bridge of `run`; `None`: it has none in this process.
    pub(crate) fn open(
        hub: &BridgeHub,
        run: &TrainingRunId,
        patience: Duration,
        interrupted: Arc<InterruptCheck>,
    ) -> Option<Self> {
        hub.connection(run).map(|connection| Self { connection, patience, interrupted })
    }
}

/// The environments behind a bridge, connected or not.
#[derive(Clone)]
pub struct BridgeSource {
    spec: Arc<BridgeSpec>,
    description: Arc<EnvironmentDescription>,
    access: Option<BridgeAccess>,
}

impl fmt::Debug for BridgeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeSource").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl PartialEq for BridgeSource {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl BridgeSource {
    /// Environments that are only described.
    pub fn described(spec: BridgeSpec) -> Self {
        Self { description: Arc::new(spec.description()), spec: Arc::new(spec), access: None }
    }

    /// The same environments, connected.
    pub(crate) fn connected(self, access: BridgeAccess) -> Self {
        Self { access: Some(access), ..self }
    }

    /// Description of the environments.
    pub fn description(&self) -> &EnvironmentDescription {
        &self.description
    }

    /// `count` environments in as many vectors as are stepped in turn: while the bridge steps one, the trainer chooses for the other.
    ///
    /// # Errors
    /// As [`BridgeSource::vector`].
    pub fn vectors(&self, count: usize) -> Result<Vec<BridgeVector>, EnvironmentError> {
        if count < MIN_SPLIT {
            return Ok(vec![self.vector(count)?]);
        }
        let first = count.div_ceil(2);
        Ok(vec![self.vector(first)?, self.vector(count - first)?])
    }

    /// A vector of `count` environments, which the bridge makes when it is reset.
    ///
    /// # Errors
    /// [`EnvironmentError::BridgeGone`] when no bridge is connected; as [`BridgeSource::check_count`].
    pub fn vector(&self, count: usize) -> Result<BridgeVector, EnvironmentError> {
        self.check_count(count)?;
        let none = || EnvironmentError::BridgeGone("no bridge is connected".to_owned());
        let access = self.access.clone().ok_or_else(none)?;
        let number = access.connection.new_vector();
        let description = self.description.clone();
        Ok(BridgeVector { access, description, count, number, seed: 0, resets: 0, asked: None, failed: None })
    }

    /// Refuse more environments than one frame holds.
    ///
    /// # Errors
    /// [`EnvironmentError::Parameters`].
    pub fn check_count(&self, count: usize) -> Result<(), EnvironmentError> {
        let bytes = frames::largest_frame(count, self.description.observations.len());
        if bytes <= MAX_BRIDGE_FRAME_BYTES {
            return Ok(());
        }
        Err(EnvironmentError::Parameters {
            environment: self.description.name.clone(),
            reason: format!(
                "{count} environments with {} numbers each need frames of {bytes} bytes, and {MAX_BRIDGE_FRAME_BYTES} is the most",
                self.description.observations.len()
            ),
        })
    }
}

/// Environments behind a bridge that are stepped together.
pub struct BridgeVector {
    access: BridgeAccess,
    description: Arc<EnvironmentDescription>,
    count: usize,
    number: u32,
    /// Seed of the first reset.
    seed: u64,
    /// How often they were reset.
    resets: u64,
    /// Number of the step that is under way.
    asked: Option<u32>,
    /// What failed where it could not be told.
    failed: Option<EnvironmentError>,
}

impl BridgeVector {
    pub(in super::super) fn description(&self) -> &EnvironmentDescription {
        &self.description
    }

    pub(in super::super) fn count(&self) -> usize {
        self.count
    }

    pub(in super::super) fn resets(&self) -> u64 {
        self.resets
    }

    /// Begin new episodes everywhere. The bridge gets a seed drawn from a generator seeded with `seed`, of 31 bits, which
    /// Gymnasium takes.
    pub(in super::super) fn reset(&mut self, seed: u64, observations: &mut [f32]) -> Result<(), EnvironmentError> {
        (self.seed, self.resets) = (seed, self.resets + 1);
        let mut drawn = EnvironmentRng::seed_from_u64(seed ^ (self.resets - 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let seed = drawn.next_u64() >> 33;
        self.asked = None;
        let sent = self.access.connection.send(self.head(RESET), |head| head.with_seed(seed))?;
        let rows = self.answer(sent, OBSERVED)?;
        frames::read_observed(&rows[frames::HEAD_BYTES..], observations).map_err(EnvironmentError::bridge_sent)
    }

    /// Begin new episodes, after `resets` earlier ones of which a checkpoint tells. What fails is told by the next step.
    pub(in super::super) fn reset_after(&mut self, resets: u64, observations: &mut [f32]) {
        self.resets = resets;
        self.failed = self.reset(self.seed, observations).err();
    }

    /// Begin a step, which [`BridgeVector::finish`] ends.
    pub(in super::super) fn begin(&mut self, actions: ActionBatch<'_>) -> Result<(), EnvironmentError> {
        if let Some(failed) = self.failed.clone() {
            return Err(failed);
        }
        let sent = self.access.connection.send(self.head(STEP), |head| head.with_actions(actions))?;
        self.asked = Some(sent);
        Ok(())
    }

    /// Wait for the end of the step that was begun; nothing where none was.
    pub(in super::super) fn finish(&mut self, into: &mut BridgeRows<'_>) -> Result<(), EnvironmentError> {
        let Some(sequence) = self.asked.take() else { return Ok(()) };
        let rows = self.answer(sequence, STEPPED)?;
        let width = self.description.observations.len();
        frames::read_stepped(&rows[frames::HEAD_BYTES..], width, into).map_err(EnvironmentError::bridge_sent)
    }

    fn head(&self, kind: u8) -> FrameHead {
        FrameHead { kind, sequence: 0, vector: self.number, count: self.count as u32 }
    }

    /// The answer to a command, whose head was checked.
    fn answer(&self, sequence: u32, answer: u8) -> Result<bytes::Bytes, EnvironmentError> {
        let BridgeAccess { connection, patience, interrupted } = &self.access;
        let frame = connection.receive(sequence, *patience, interrupted.as_ref())?;
        let (head, _) = FrameHead::read(&frame).map_err(EnvironmentError::bridge_sent)?;
        if head.kind != answer {
            return Err(EnvironmentError::bridge_sent(format!("an answer of kind {}, not {answer}", head.kind)));
        }
        if (head.vector, head.count) != (self.number, self.count as u32) {
            return Err(EnvironmentError::bridge_sent(format!(
                "an answer of {} environments of vector {}, not of {} of vector {}",
                head.count, head.vector, self.count, self.number
            )));
        }
        Ok(frame)
    }
}

impl Drop for BridgeVector {
    fn drop(&mut self) {
        self.access.connection.tell(self.head(CLOSE));
    }
}
