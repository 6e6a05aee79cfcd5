//! Actions of several environments at once.

/// Actions for all environments, in their order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ActionBatch<'a> {
    /// One index per environment.
    Discrete(&'a [i64]),
    /// One vector per environment, one after the other.
    Continuous(&'a [f32]),
}
