//! Where the numbers of an answer are written to.

/// Results of a step: flat slices, environment after environment.
pub(in super::super) struct BridgeRows<'a> {
    pub(in super::super) observations: &'a mut [f32],
    pub(in super::super) finals: &'a mut [f32],
    pub(in super::super) rewards: &'a mut [f32],
    pub(in super::super) terminated: &'a mut [bool],
    pub(in super::super) truncated: &'a mut [bool],
}
