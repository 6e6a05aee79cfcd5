//! Queue by deficit round robin.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Queue with one lane for each key, served by deficit round robin: in a round each lane may take items that cost one quantum
/// together, and what it did not use it keeps for the next round. Within a lane items keep their order. So a key with ten
/// thousand items delays another's single item by one quantum and not by all its items.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    lanes: HashMap<K, Lane<T>>,
    /// Keys with items, in the order in which they are served.
    ring: VecDeque<K>,
    /// Cost that a lane may take in a round.
    quantum: i64,
    items: usize,
}

#[derive(Debug)]
struct Lane<T> {
    /// Items and their costs.
    items: VecDeque<(i64, T)>,
    /// Cost that the lane may still take; negative: a debt.
    deficit: i64,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// Create an empty queue whose lanes may take `quantum` in a round, at least 1.
    pub fn new(quantum: u32) -> Self {
        Self { lanes: HashMap::new(), ring: VecDeque::new(), quantum: i64::from(quantum.max(1)), items: 0 }
    }

    /// Add an item of this cost at the end of the key's lane.
    pub fn push(&mut self, key: &K, cost: u32, item: T) {
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
            self.ring.push_back(key.clone());
            Lane { items: VecDeque::new(), deficit: 0 }
        });
        lane.items.push_back((i64::from(cost), item));
        self.items += 1;
    }

    /// Take the next item among the keys that `may` be served. A key that may not be served gains nothing meanwhile.
    pub fn pop(&mut self, may: impl Fn(&K) -> bool) -> Option<(K, T)> {
        loop {
            let mut rounds: Option<i64> = None;
            for _ in 0..self.ring.len() {
                let key = self.ring.front()?.clone();
                if may(&key) {
                    let missing = self.missing(&key);
                    if missing <= 0 {
                        return self.pop_from(&key).map(|item| (key, item));
                    }
                    let needed = (missing + self.quantum - 1) / self.quantum;
                    rounds = Some(rounds.map_or(needed, |fewest| fewest.min(needed)));
                }
                self.ring.rotate_left(1);
            }
            // Nobody can pay: as many rounds pass as the first one needs.
            let credit = rounds?.saturating_mul(self.quantum);
            for (_, lane) in self.lanes.iter_mut().filter(|(key, _)| may(key)) {
                lane.deficit = lane.deficit.saturating_add(credit);
            }
        }
    }

    /// Take the next item of this key, whether or not it is its turn; its cost is charged.
    pub fn pop_from(&mut self, key: &K) -> Option<T> {
        let lane = self.lanes.get_mut(key)?;
        let (cost, item) = lane.items.pop_front()?;
        lane.deficit = lane.deficit.saturating_sub(cost);
        let empty = lane.items.is_empty();
        self.items -= 1;
        if empty {
            // Credit is not saved for later: otherwise a key that was idle could take many turns at once.
            self.lanes.remove(key);
            self.ring.retain(|other| other != key);
        }
        Some(item)
    }

    /// Charge the key for what an item that was taken has cost beyond what was known before. No effect on a key without items.
    pub fn charge(&mut self, key: &K, cost: u32) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.deficit = lane.deficit.saturating_sub(i64::from(cost));
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Number of items of this key.
    pub fn len_of(&self, key: &K) -> usize {
        self.lanes.get(key).map_or(0, |lane| lane.items.len())
    }

    /// Number of keys with items.
    pub fn keys(&self) -> usize {
        self.ring.len()
    }

    /// Remove all items.
    pub fn clear(&mut self) {
        self.lanes.clear();
        self.ring.clear();
        self.items = 0;
    }

    /// Cost that the key's next item needs beyond the lane's credit.
    fn missing(&self, key: &K) -> i64 {
        let lane = self.lanes.get(key);
        lane.and_then(|lane| lane.items.front().map(|(cost, _)| cost - lane.deficit)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(queue: &mut FairQueue<char, u32>) -> String {
        std::iter::from_fn(|| queue.pop(|_| true)).map(|(key, _)| key).collect()
    }

    #[test]
    fn a_single_item_waits_for_one_of_ten_thousand() {
        let mut queue = FairQueue::new(1);
        (0..10_000).for_each(|at| queue.push(&'a', 1, at));
        queue.pop(|_| true).unwrap();
        queue.push(&'b', 1, 0);
        let first: Vec<char> = (0..2).map(|_| queue.pop(|_| true).unwrap().0).collect();
        assert!(first.contains(&'b'), "{first:?}");
        assert_eq!((queue.len(), queue.len_of(&'a'), queue.keys()), (9_998, 9_998, 1));
    }

    #[test]
    fn dear_items_take_fewer_turns_and_debts_are_paid_first() {
        let mut queue = FairQueue::new(1);
        (0..2).for_each(|at| queue.push(&'a', 4, at));
        (0..8).for_each(|at| queue.push(&'b', 1, at));
        let order = order(&mut queue);
        assert_eq!(order.matches('a').count(), 2);
        assert!(order.starts_with("bbb"), "{order}");
        let mut queue = FairQueue::new(1);
        (0..3).for_each(|at| queue.push(&'a', 1, at));
        assert!(queue.pop(|_| true).is_some());
        queue.charge(&'a', 1_000_000);
        (0..100).for_each(|at| queue.push(&'b', 1, at));
        let order = self::order(&mut queue);
        assert_eq!(&order[100..], "aa", "{order}");
    }

    #[test]
    fn keys_that_may_not_be_served_are_passed_over() {
        let mut queue = FairQueue::new(1);
        queue.push(&'a', 1, 1);
        queue.push(&'b', 1, 2);
        assert_eq!(queue.pop(|key| *key == 'b'), Some(('b', 2)));
        assert_eq!(queue.pop(|key| *key == 'b'), None);
        assert_eq!(queue.pop(|_| true), Some(('a', 1)));
        assert!(queue.is_empty());
    }

    proptest! {
        /// Among lanes that always have items, what each has taken differs by one quantum and one item at most.
        #[test]
        fn busy_lanes_get_equal_shares(
            costs in prop::collection::vec(prop::collection::vec(1u32..50, 60), 2..6),
            quantum in 1u32..60,
            pops in 1usize..60,
        ) {
            let mut queue = FairQueue::new(quantum);
            for (key, costs) in costs.iter().enumerate() {
                costs.iter().for_each(|cost| queue.push(&key, *cost, *cost));
            }
            let mut taken = vec![0i64; costs.len()];
            let mut last = vec![0usize; costs.len()];
            for _ in 0..pops {
                let (key, cost) = queue.pop(|_| true).unwrap();
                taken[key] += i64::from(cost);
                prop_assert_eq!(cost, costs[key][last[key]], "a lane keeps its order");
                last[key] += 1;
            }
            let spread = taken.iter().max().unwrap() - taken.iter().min().unwrap();
            prop_assert!(spread <= i64::from(quantum) + 2 * 50, "{taken:?}");
        }

        /// Everything that is pushed is popped, once, whoever may be served meanwhile.
        #[test]
        fn nothing_is_lost(pushed in prop::collection::vec((0u8..4, 0u32..9), 0..80), barred in 0u8..4) {
            let mut queue = FairQueue::new(3);
            for (at, (key, cost)) in pushed.iter().enumerate() {
                queue.push(key, *cost, at);
                if at % 3 == 0 {
                    queue.charge(key, *cost);
                }
            }
            let mut popped = Vec::new();
            while let Some((key, at)) = queue.pop(|key| *key != barred) {
                prop_assert_ne!(key, barred);
                popped.push(at);
            }
            prop_assert_eq!(queue.len(), pushed.iter().filter(|(key, _)| *key == barred).count());
            while let Some((_, at)) = queue.pop(|_| true) {
                popped.push(at);
            }
            popped.sort_unstable();
            prop_assert_eq!(popped, (0..pushed.len()).collect::<Vec<_>>());
        }
    }
}
