//! Actions of several environments at once.

use std::ops::Range;

/// Actions for all environments, in their order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ActionBatch<'a> {
    /// One index per environment.
    Discrete(&'a [i64]),
    /// One vector per environment, one after the other.
    Continuous(&'a [f32]),
}

impl ActionBatch<'_> {
    /// The actions of some of the environments, of `per_action` numbers each.
    pub(super) fn part(&self, environments: &Range<usize>, per_action: usize) -> Self {
        let Range { start, end } = *environments;
        match self {
            Self::Discrete(all) => Self::Discrete(&all[start..end]),
            Self::Continuous(all) => Self::Continuous(&all[start * per_action..end * per_action]),
        }
    }
}
