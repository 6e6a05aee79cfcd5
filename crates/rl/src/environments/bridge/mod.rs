//! Environments in another process, which steps them together and is asked over one WebSocket.
//!
//! A run names the observations and actions; whoever holds the run's owner's key connects as its bridge. The trainer, on
//! its own thread, sends a frame for each step of the vector and waits for the answer; the socket's task passes frames
//! on and never waits for the trainer. `docs/RL.md` describes the frames.

mod frames;
mod hub;
mod rows;
mod spec;
#[cfg(test)]
pub(super) mod tests;
mod vector;

pub(crate) use self::vector::BridgeAccess;
pub use self::{
    frames::{BRIDGE_PROTOCOL, MAX_BRIDGE_FRAME_BYTES},
    hub::{BridgeCommand, BridgeFault, BridgeHub, BridgePeer},
    spec::{BRIDGE_ENVIRONMENT, BridgeSpec},
    vector::BridgeSource,
};
pub(super) use self::{rows::BridgeRows, vector::BridgeVector};
