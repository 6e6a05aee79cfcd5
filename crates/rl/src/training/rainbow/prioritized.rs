//! Prioritised experience replay (Schaul et al. 2016, arXiv:1511.05952).

use rand::Rng;

use super::super::{TrainerCheckpoint, TrainingError, sampling::sample_unit};

/// Added to each priority, so that every transition can be drawn.
const MIN_PRIORITY: f32 = 1e-6;

/// Exponent of the importance weights when the fraction `part` of the run is done: linear from `first` to 1 (section
/// 3.4).
pub(super) fn importance_exponent(first: f64, part: f64) -> f32 {
    (first + (1.0 - first) * part) as f32
}

/// Binary tree over `capacity` leaves, in which each inner node is the sum of its two children: a leaf is found by
/// cumulative sum in time logarithmic in the capacity.
pub(super) struct SumTree {
    /// Leaves begin at `width`; node `n` has the children `2 n` and `2 n + 1`, the root is 1.
    nodes: Vec<f64>,
    width: usize,
}

impl SumTree {
    pub(super) fn new(capacity: usize) -> Self {
        let width = capacity.next_power_of_two();
        Self { nodes: vec![0.0; 2 * width], width }
    }

    pub(super) fn total(&self) -> f64 {
        self.nodes[1]
    }

    pub(super) fn get(&self, leaf: usize) -> f64 {
        self.nodes[self.width + leaf]
    }

    /// Recompute sums from the children instead of adding differences, so that no error accumulates.
    pub(super) fn set(&mut self, leaf: usize, priority: f64) {
        let mut node = self.width + leaf;
        self.nodes[node] = priority;
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1];
        }
    }

    /// Return the leaf in whose part of [0, total) `mass` lies.
    pub(super) fn find(&self, mut mass: f64) -> usize {
        let mut node = 1;
        while node < self.width {
            let left = self.nodes[2 * node];
            // Rounding may put the mass beyond the last leaf: never descend into an empty part.
            if mass < left || self.nodes[2 * node + 1] <= 0.0 {
                node *= 2;
            } else {
                mass -= left;
                node = 2 * node + 1;
            }
        }
        node - self.width
    }
}

/// Priorities of the transitions in a replay buffer.
pub(super) struct ReplayPriorities {
    tree: SumTree,
    exponent: f32,
    /// Highest priority so far: new transitions get it, so that they are drawn soon.
    highest: f32,
    count: usize,
}

impl ReplayPriorities {
    pub(super) fn new(capacity: usize, exponent: f32) -> Self {
        Self { tree: SumTree::new(capacity), exponent, highest: 1.0, count: 0 }
    }

    /// Register a new transition at `place`.
    pub(super) fn add(&mut self, place: usize) {
        self.count = self.count.max(place + 1);
        self.tree.set(place, f64::from(self.highest.powf(self.exponent)));
    }

    /// Set the priority of the transition at `place` from its error.
    pub(super) fn set(&mut self, place: usize, error: f32) {
        let priority = error.abs() + MIN_PRIORITY;
        self.highest = self.highest.max(priority);
        self.tree.set(place, f64::from(priority.powf(self.exponent)));
    }

    /// Draw positions, one from each of `count` equal parts of the total, and their importance weights `(N P)^-beta`,
    /// divided by the largest of them (section 3.4).
    pub(super) fn draw(&self, generator: &mut impl Rng, count: usize, beta: f32) -> (Vec<usize>, Vec<f32>) {
        let (total, part) = (self.tree.total(), self.tree.total() / count as f64);
        let places: Vec<usize> =
            (0..count).map(|at| self.tree.find(part * (at as f64 + sample_unit(generator)))).collect();
        let weight = |place: &usize| (self.count as f64 * self.tree.get(*place) / total).powf(-f64::from(beta));
        let weights: Vec<f64> = places.iter().map(weight).collect();
        let largest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        (places, weights.into_iter().map(|weight| (weight / largest) as f32).collect())
    }

    pub(super) fn save(&self, into: &mut TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        // Stored as pairs of 32-bit halves: the leaves are 64-bit floats.
        let leaves = (0..self.count).map(|leaf| self.tree.get(leaf).to_bits());
        let halves = leaves.flat_map(|bits| [(bits >> 32) as u32, bits as u32].map(f32::from_bits));
        into.put_array("priorities", halves.collect::<Vec<f32>>());
        into.put_state("priorities.highest", &self.highest)
    }

    pub(super) fn restore(&mut self, from: &TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        let (pairs, _) = from.array("priorities")?.as_chunks::<2>();
        if pairs.len() > self.tree.width {
            return Err(TrainingError::Checkpoint("'priorities' has more entries than the capacity".into()));
        }
        self.tree = SumTree::new(self.tree.width);
        for (leaf, pair) in pairs.iter().enumerate() {
            let bits = u64::from(pair[0].to_bits()) << 32 | u64::from(pair[1].to_bits());
            self.tree.set(leaf, f64::from_bits(bits));
        }
        self.count = pairs.len();
        self.highest = from.state("priorities.highest")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::{super::super::sampling::TrainingRng, *};

    #[test]
    fn a_leaf_is_found_by_its_share() {
        let mut tree = SumTree::new(5);
        [1.0, 0.0, 2.0, 0.5, 4.0].into_iter().enumerate().for_each(|(leaf, priority)| tree.set(leaf, priority));
        assert_eq!(tree.total(), 7.5);
        let found: Vec<usize> =
            [0.0, 0.99, 1.0, 2.99, 3.0, 3.49, 3.5, 7.49, 7.5, 9.0].map(|mass| tree.find(mass)).into();
        assert_eq!(found, [0, 0, 2, 2, 3, 3, 4, 4, 4, 4]);
        tree.set(4, 0.0);
        assert_eq!((tree.total(), tree.find(3.5)), (3.5, 3));
    }

    #[test]
    fn importance_rises_to_all() {
        assert_eq!([0.0, 0.5, 1.0].map(|part| importance_exponent(0.4, part)), [0.4, 0.7, 1.0]);
        // Of two equal parts of the whole 4, one draw each: priority 3 and 1, N P of 1.5 and 0.5.
        let mut priorities = ReplayPriorities::new(2, 1.0);
        (0..2).for_each(|place| priorities.add(place));
        [3.0 - MIN_PRIORITY, 1.0 - MIN_PRIORITY]
            .into_iter()
            .enumerate()
            .for_each(|(place, error)| priorities.set(place, error));
        let mut generator = TrainingRng::seed_from_u64(2);
        let (places, weights) = (0..100)
            .map(|_| priorities.draw(&mut generator, 2, importance_exponent(0.4, 1.0)))
            .find(|(places, _)| places == &[0, 1])
            .unwrap();
        assert_eq!(places, [0, 1]);
        assert!((weights[0] - 1.0 / 3.0).abs() < 1e-6 && weights[1] == 1.0, "{weights:?}");
    }

    #[test]
    fn weights_and_frequencies_are_those_of_the_priorities() {
        // With exponent 0.5, errors 4, 1 and 0.25 have the priorities 2, 1 and 0.5.
        let mut priorities = ReplayPriorities::new(3, 0.5);
        (0..3).for_each(|place| priorities.add(place));
        [4.0, -1.0, 0.25].into_iter().enumerate().for_each(|(place, error)| priorities.set(place, error));
        let mut generator = TrainingRng::seed_from_u64(7);
        let (mut counts, draws) = ([0usize; 3], 2000);
        for _ in 0..draws {
            let (places, weights) = priorities.draw(&mut generator, 7, 0.4);
            for (place, weight) in places.iter().zip(&weights) {
                counts[*place] += 1;
                // The rarest has the largest weight: (0.5 / 2)^0.4 and (0.5 / 1)^0.4 of it.
                let expected = [0.25f32, 0.5, 1.0][*place].powf(0.4);
                assert!((weight - expected).abs() < 1e-5 || !places.contains(&2), "{place}: {weight}");
            }
        }
        for (count, expected) in counts.into_iter().zip([4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]) {
            let share = count as f64 / (7 * draws) as f64;
            assert!((share - expected).abs() < 0.01, "{share} is not {expected}");
        }
    }

    #[test]
    fn what_is_new_is_drawn_soon_and_all_is_kept() {
        let mut priorities = ReplayPriorities::new(4, 1.0);
        priorities.add(0);
        priorities.set(0, 3.0);
        priorities.add(1);
        assert_eq!(priorities.tree.get(1), f64::from(3.0f32 + MIN_PRIORITY));
        priorities.set(1, 0.1);
        let mut checkpoint = TrainerCheckpoint::default();
        priorities.save(&mut checkpoint).unwrap();
        let mut other = ReplayPriorities::new(4, 1.0);
        other.restore(&crate::training::checkpoint::tests::reread(&checkpoint)).unwrap();
        assert_eq!(other.tree.nodes, priorities.tree.nodes);
        assert_eq!((other.highest, other.count), (priorities.highest, priorities.count));
    }
}
