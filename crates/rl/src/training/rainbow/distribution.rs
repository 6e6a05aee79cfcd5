//! Returns as distributions over fixed atoms (C51: Bellemare et al. 2017, arXiv:1707.06887), and dueling heads
//! (Wang et al. 2016, arXiv:1511.06581).

/// Support of evenly spaced atoms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ReturnSupport {
    pub(super) least: f32,
    pub(super) most: f32,
    pub(super) atoms: usize,
}

impl ReturnSupport {
    fn gap(&self) -> f32 {
        (self.most - self.least) / (self.atoms - 1) as f32
    }

    /// Return of an atom.
    pub(super) fn atom(&self, index: usize) -> f32 {
        self.least + self.gap() * index as f32
    }

    /// Check that neighbouring atoms differ in 32 bits, by more than the rounding of a sum.
    pub(super) fn is_distinct(&self) -> bool {
        let size = self.least.abs().max(self.most.abs());
        let gap = self.gap();
        gap.is_finite() && gap >= f32::MIN_POSITIVE && gap >= 4.0 * f32::EPSILON * size
    }

    /// Mass of the distribution of `reward + discount * Z`, where Z has `probabilities`, that lies beyond the atoms.
    pub(super) fn clipped_mass(&self, reward: f32, discount: f32, probabilities: &[f32]) -> f32 {
        // What rounding moves over an end does not count.
        let near = 0.5 * self.gap();
        let beyond = |(index, _): &(usize, &f32)| {
            let moved = reward + discount * self.atom(*index);
            moved < self.least - near || moved > self.most + near
        };
        probabilities.iter().enumerate().filter(beyond).map(|(_, probability)| probability).sum()
    }

    pub(super) fn mean(&self, probabilities: &[f32]) -> f32 {
        probabilities.iter().enumerate().map(|(index, probability)| probability * self.atom(index)).sum()
    }

    /// Project the distribution of `reward + discount * Z`, where Z has `probabilities`, on the atoms: the mass of each
    /// atom goes to the two nearest ones in proportion to nearness (algorithm 1).
    pub(super) fn project(&self, reward: f32, discount: f32, probabilities: &[f32]) -> Vec<f32> {
        let mut projected = vec![0f32; self.atoms];
        for (index, probability) in probabilities.iter().enumerate() {
            let moved = (reward + discount * self.atom(index)).clamp(self.least, self.most);
            let place = ((moved - self.least) / self.gap()).clamp(0.0, (self.atoms - 1) as f32);
            let below = place.floor();
            let above = place - below;
            projected[below as usize] += probability * (1.0 - above);
            if above > 0.0 {
                projected[below as usize + 1] += probability * above;
            }
        }
        projected
    }
}

/// Combination of a head's two streams to outputs: `value + advantage - mean advantage`, for each atom (equation 9).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DuelingHead {
    pub(super) actions: usize,
    /// Number of atoms; 1 if only the mean is learned.
    pub(super) atoms: usize,
    /// Whether both streams are used; otherwise the advantages are the outputs.
    pub(super) dueling: bool,
}

impl DuelingHead {
    /// Outputs of one state, action by action, from the value stream's `atoms` numbers and the advantage stream's.
    pub(super) fn outputs(&self, value: &[f32], advantage: &[f32]) -> Vec<f32> {
        if !self.dueling {
            return advantage.to_vec();
        }
        let mean = |atom: usize| advantage.iter().skip(atom).step_by(self.atoms).sum::<f32>() / self.actions as f32;
        let base: Vec<f32> = (0..self.atoms).map(|atom| value[atom] - mean(atom)).collect();
        advantage.iter().zip(base.iter().cycle()).map(|(advantage, base)| advantage + base).collect()
    }

    /// Add to the streams' gradients, from the gradient by one action's outputs.
    pub(super) fn backward(&self, action: usize, by_outputs: &[f32], by_value: &mut [f32], by_advantage: &mut [f32]) {
        for (atom, by) in by_outputs.iter().enumerate() {
            by_advantage[action * self.atoms + atom] += by;
            if self.dueling {
                by_value[atom] += by;
                let share = by / self.actions as f32;
                by_advantage.iter_mut().skip(atom).step_by(self.atoms).for_each(|advantage| *advantage -= share);
            }
        }
    }
}

/// Softmax in place.
pub(super) fn softmax(numbers: &mut [f32]) {
    let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    numbers.iter_mut().for_each(|number| *number = (*number - most).exp());
    let sum: f32 = numbers.iter().sum();
    numbers.iter_mut().for_each(|number| *number /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Atoms at -2, -1, 0, 1, 2.
    const FIVE: ReturnSupport = ReturnSupport { least: -2.0, most: 2.0, atoms: 5 };

    #[test]
    fn a_projection_is_as_computed_by_hand() {
        assert_eq!((0..5).map(|index| FIVE.atom(index)).collect::<Vec<_>>(), [-2.0, -1.0, 0.0, 1.0, 2.0]);
        let all_at = |index: usize| (0..5).map(|at| f32::from(at == index)).collect::<Vec<_>>();
        // 0.5 + 0.5 * 2 = 1.5: half to 1, half to 2.
        assert_eq!(FIVE.project(0.5, 0.5, &all_at(4)), [0.0, 0.0, 0.0, 0.5, 0.5]);
        // 0.25 + 0 = 0.25: three quarters to 0.
        assert_eq!(FIVE.project(0.25, 0.0, &[0.2; 5]), [0.0, 0.0, 0.75, 0.25, 0.0].map(|p: f32| p));
        // On an atom: all to it. Beyond the ends: all to the end.
        assert_eq!(FIVE.project(1.0, 1.0, &all_at(2)), all_at(3));
        assert_eq!(FIVE.project(9.0, 1.0, &all_at(0)), all_at(4));
        assert_eq!(FIVE.project(-9.0, 1.0, &all_at(4)), all_at(0));
        // The mean is kept where nothing is beyond the ends: 0.1 + 0.4 * (0.5 * -1 + 0.5 * 2).
        let projected = FIVE.project(0.1, 0.4, &[0.0, 0.5, 0.0, 0.0, 0.5]);
        assert!((FIVE.mean(&projected) - 0.3).abs() < 1e-6);
        assert!((projected.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn mass_beyond_the_atoms_is_counted() {
        assert_eq!(FIVE.clipped_mass(0.0, 1.0, &[0.2; 5]), 0.0);
        // 2 + Z lies above 2 for the atoms 1 and 2, and -9 below all.
        assert!((FIVE.clipped_mass(2.0, 1.0, &[0.1, 0.2, 0.3, 0.25, 0.15]) - 0.4).abs() < 1e-6);
        assert!((FIVE.clipped_mass(-9.0, 0.5, &[0.2; 5]) - 1.0).abs() < 1e-6);
        assert!(FIVE.is_distinct());
        let near = |least: f32, most: f32| ReturnSupport { least, most, atoms: 51 }.is_distinct();
        assert!(!near(1.0, 1.000_000_1) && !near(1.0, 1.0) && !near(0.0, 1e-44) && !near(1e9, 1.000_001e9));
        assert!(near(-1e-30, 1e-30) && near(-1e9, 1e9) && near(99.0, 100.0));
    }

    #[test]
    fn heads_are_as_computed_by_hand() {
        let head = DuelingHead { actions: 2, atoms: 2, dueling: true };
        // Means of the advantages: (1 + 5) / 2 and (2 + 4) / 2.
        assert_eq!(head.outputs(&[10.0, 20.0], &[1.0, 2.0, 5.0, 4.0]), [8.0, 19.0, 12.0, 21.0]);
        let (mut by_value, mut by_advantage) = ([0.0; 2], [0.0; 4]);
        head.backward(1, &[2.0, -4.0], &mut by_value, &mut by_advantage);
        assert_eq!(by_value, [2.0, -4.0]);
        assert_eq!(by_advantage, [-1.0, 2.0, 1.0, -2.0]);
        let plain = DuelingHead { dueling: false, ..head };
        assert_eq!(plain.outputs(&[10.0, 20.0], &[1.0, 2.0, 5.0, 4.0]), [1.0, 2.0, 5.0, 4.0]);
        let (mut by_value, mut by_advantage) = ([0.0; 2], [0.0; 4]);
        plain.backward(0, &[2.0, -4.0], &mut by_value, &mut by_advantage);
        assert_eq!((by_value, by_advantage), ([0.0; 2], [2.0, -4.0, 0.0, 0.0]));
    }

    #[test]
    fn a_softmax_bears_large_numbers() {
        let mut numbers = [1000.0, 1000.0 + 3f32.ln()];
        softmax(&mut numbers);
        assert!((numbers[0] - 0.25).abs() < 1e-4 && (numbers[1] - 0.75).abs() < 1e-4);
    }
}
