//! Replay buffer: the latest transitions, as rows of numbers in a ring.

use rand::Rng;

use super::{TrainerCheckpoint, TrainingError, sampling::sample_below};

/// A transition: observations before and after it, the action (an index or a vector), the reward, and the discount of
/// the next state's value (0 after an end).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transition<'a> {
    pub(super) observation: &'a [f32],
    pub(super) action: &'a [f32],
    pub(super) reward: f32,
    pub(super) next: &'a [f32],
    pub(super) discount: f32,
}

/// Buffer of at most `capacity` transitions; a new one replaces the oldest.
pub(super) struct ReplayBuffer {
    capacity: usize,
    observation: usize,
    action: usize,
    rows: Vec<f32>,
    /// Number of transitions ever added.
    added: u64,
}

impl ReplayBuffer {
    /// Create a buffer for observations and actions of these lengths.
    pub(super) fn new(capacity: usize, observation: usize, action: usize) -> Self {
        Self { capacity, observation, action, rows: Vec::new(), added: 0 }
    }

    fn width(&self) -> usize {
        2 * self.observation + self.action + 2
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() / self.width()
    }

    /// Add a transition and return its position.
    pub(super) fn add(&mut self, transition: &Transition<'_>) -> usize {
        let (width, place) = (self.width(), (self.added % self.capacity as u64) as usize);
        self.added += 1;
        if place == self.len() {
            self.rows.resize(self.rows.len() + width, 0.0);
        }
        let (row, o) = (&mut self.rows[place * width..][..width], self.observation);
        row[..o].copy_from_slice(transition.observation);
        row[o..2 * o].copy_from_slice(transition.next);
        row[2 * o..2 * o + self.action].copy_from_slice(transition.action);
        row[width - 2] = transition.reward;
        row[width - 1] = transition.discount;
        place
    }

    pub(super) fn get(&self, place: usize) -> Transition<'_> {
        let (width, o) = (self.width(), self.observation);
        let row = &self.rows[place * width..][..width];
        Transition {
            observation: &row[..o],
            next: &row[o..2 * o],
            action: &row[2 * o..2 * o + self.action],
            reward: row[width - 2],
            discount: row[width - 1],
        }
    }

    /// Draw positions uniformly, with replacement.
    pub(super) fn draw(&self, generator: &mut impl Rng, count: usize) -> Vec<usize> {
        (0..count).map(|_| sample_below(generator, self.len())).collect()
    }

    pub(super) fn save<'a>(&'a self, into: &mut TrainerCheckpoint<'a>) -> Result<(), TrainingError> {
        into.put_array("replay", self.rows.as_slice());
        into.put_state("replay.added", &self.added)
    }

    /// Take the rows out of a checkpoint.
    pub(super) fn restore(&mut self, from: &mut TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        let (rows, added) = (from.take_array("replay")?, from.state::<u64>("replay.added")?);
        if rows.len() as u64 != added.min(self.capacity as u64) * self.width() as u64 {
            return Err(TrainingError::Checkpoint("'replay' is not of this size".into()));
        }
        self.rows = rows;
        self.added = added;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::checkpoint::tests::reread, *};

    #[test]
    fn the_oldest_makes_room() {
        let mut replay = ReplayBuffer::new(3, 2, 1);
        for number in 0..5 {
            let n = number as f32;
            let transition = Transition {
                observation: &[n, -n],
                action: &[n + 0.5],
                reward: 2.0 * n,
                next: &[n + 1.0, 0.0],
                discount: 0.9,
            };
            assert_eq!(replay.add(&transition), number % 3);
            assert_eq!(replay.get(number % 3), transition);
        }
        assert_eq!(replay.len(), 3);
        let seen: Vec<f32> = (0..3).map(|place| replay.get(place).reward).collect();
        assert_eq!(seen, [6.0, 8.0, 4.0]);
        let mut checkpoint = TrainerCheckpoint::default();
        replay.save(&mut checkpoint).unwrap();
        let mut other = ReplayBuffer::new(3, 2, 1);
        other.restore(&mut reread(&checkpoint)).unwrap();
        assert_eq!((&other.rows, other.added), (&replay.rows, replay.added));
        assert!(ReplayBuffer::new(4, 2, 1).restore(&mut reread(&checkpoint)).is_err());
    }
}
