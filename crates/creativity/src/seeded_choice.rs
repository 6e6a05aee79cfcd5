//! Choices that a seed decides, with a state that can be stored.

use serde::{Deserialize, Serialize};

/// A generator of choices: SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014). Its whole state is one number, so that work
/// goes on from a checkpoint with the choices that it would have made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SeededChoice(u64);

impl SeededChoice {
    /// The choices of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// One of the items; `None` of none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.below(items.len());
        items.get(at)
    }

    /// Put the items into an order of chance.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_choices_from_any_state() {
        let mut choice = SeededChoice::new(7);
        let first: Vec<usize> = (0..50).map(|_| choice.below(1000)).collect();
        let kept = serde_json::to_string(&choice).unwrap();
        let next: Vec<usize> = (0..50).map(|_| choice.below(1000)).collect();
        let mut restored: SeededChoice = serde_json::from_str(&kept).unwrap();
        assert_eq!((0..50).map(|_| restored.below(1000)).collect::<Vec<usize>>(), next);
        let mut again = SeededChoice::new(7);
        assert_eq!((0..50).map(|_| again.below(1000)).collect::<Vec<usize>>(), first);
        assert!(first.iter().all(|number| *number < 1000) && first != next);
        // The published first output of the seed 0.
        assert_eq!(SeededChoice::new(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn nothing_is_chosen_of_nothing_and_a_shuffle_keeps_all() {
        let mut choice = SeededChoice::new(1);
        assert_eq!((choice.below(0), choice.pick::<u8>(&[])), (0, None));
        let mut items: Vec<u32> = (0..20).collect();
        choice.shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..20));
    }
}
