//! Advantages of actions in feedback, without a unit: what an action earned beyond what its state lets expect, in standard
//! deviations.
//!
//! The expectation is a linear function of the state, fitted before any action is weighted, so that weights do not depend
//! on what the policy's critic happens to say.

/// Maximum number of steps of the conjugate gradients. Stopping early only makes the fit smoother.
const FIT_STEPS: usize = 30;
/// Share of the number of rows that is added to the diagonal of the normal equations.
const RIDGE: f64 = 1e-3;

/// Numbers, moved and scaled to mean 0 and standard deviation 1, with what they were.
pub(super) struct StandardScores {
    pub(super) scores: Vec<f64>,
    pub(super) mean: f64,
    /// Standard deviation; 0: all numbers are equal, and all scores 0.
    pub(super) deviation: f64,
}

impl StandardScores {
    /// Standardise at least one number.
    pub(super) fn new(numbers: &[f64]) -> Self {
        let count = numbers.len() as f64;
        let mean = numbers.iter().map(|number| number / count).sum::<f64>();
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / count;
        // Numbers that are equal but for rounding are equal.
        let size = numbers.iter().fold(0.0f64, |most, number| most.max(number.abs()));
        let deviation = if variance.sqrt() > 1e-12 * size { variance.sqrt() } else { 0.0 };
        let score = |number: &f64| if deviation > 0.0 { (number - mean) / deviation } else { 0.0 };
        Self { scores: numbers.iter().map(score).collect(), mean, deviation }
    }
}

/// Return the standardised differences of `rewards` from their expectation in `states`, rows of equal length.
pub(super) fn advantages(states: &[f32], rewards: &[f64]) -> Vec<f64> {
    let (count, width) = (rewards.len(), states.len() / rewards.len());
    // By column, so that each feature has the same weight in the ridge.
    let column = |at: usize| states.iter().skip(at).step_by(width).map(|number| f64::from(*number)).collect::<Vec<_>>();
    let columns: Vec<Vec<f64>> = (0..width).map(|at| StandardScores::new(&column(at)).scores).collect();
    let centred = StandardScores::new(rewards).scores;
    let product = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one * other).sum::<f64>();
    let predicted = |slopes: &[f64]| -> Vec<f64> {
        let mut sums = vec![0.0; count];
        for (column, slope) in columns.iter().zip(slopes) {
            sums.iter_mut().zip(column).for_each(|(sum, number)| *sum += slope * number);
        }
        sums
    };
    let applied = |slopes: &[f64]| -> Vec<f64> {
        let sums = predicted(slopes);
        let ridge = RIDGE * count as f64;
        columns.iter().zip(slopes).map(|(column, slope)| product(column, &sums) + ridge * slope).collect()
    };
    let mut slopes = vec![0.0; width];
    let mut rest: Vec<f64> = columns.iter().map(|column| product(column, &centred)).collect();
    let mut direction = rest.clone();
    let mut squares = product(&rest, &rest);
    let enough = 1e-20 * squares;
    for _ in 0..FIT_STEPS.min(width) {
        if squares <= enough || squares <= f64::MIN_POSITIVE {
            break;
        }
        let moved = applied(&direction);
        let step = squares / product(&direction, &moved);
        slopes.iter_mut().zip(&direction).for_each(|(slope, direction)| *slope += step * direction);
        rest.iter_mut().zip(&moved).for_each(|(rest, moved)| *rest -= step * moved);
        let next = product(&rest, &rest);
        direction.iter_mut().zip(&rest).for_each(|(direction, rest)| *direction = rest + next / squares * *direction);
        squares = next;
    }
    let left: Vec<f64> = centred.iter().zip(predicted(&slopes)).map(|(reward, expected)| reward - expected).collect();
    StandardScores::new(&left).scores
}

/// Number of equally weighted rows that would say as much as rows of these weights (Kish 1965).
pub(super) fn effective_samples(weights: &[f32]) -> f64 {
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    let squares: f64 = weights.iter().map(|weight| f64::from(*weight).powi(2)).sum();
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_state_explains_is_no_advantage() {
        // The reward is 3 times the state, and 1 more for every other action.
        let states: Vec<f32> = (0..200).flat_map(|at| [(at / 2) as f32, 7.0]).collect();
        let rewards: Vec<f64> = (0..200).map(|at| f64::from(3 * (at / 2) + at % 2)).collect();
        for (factor, offset) in [(1.0, 0.0), (1000.0, 0.0), (1.0, 5000.0), (1e-3, 0.0), (1e30, 0.0)] {
            let scaled: Vec<f64> = rewards.iter().map(|reward| reward * factor + offset).collect();
            let found = advantages(&states, &scaled);
            let alternate = found.iter().enumerate().filter(|(at, one)| (**one > 0.0) == (at % 2 == 1)).count();
            assert!(alternate > 190, "{alternate} at {factor} and {offset}");
        }
        assert!(advantages(&states, &[2.5; 200]).iter().all(|one| *one == 0.0));
        assert_eq!(advantages(&[1.0, 2.0], &[3.0]), [0.0]);
    }

    #[test]
    fn few_heavy_rows_say_little() {
        assert_eq!(effective_samples(&[2.0; 8]), 8.0);
        assert_eq!(effective_samples(&[1.0, 0.0, 0.0]), 1.0);
        assert_eq!(effective_samples(&[0.0]), 0.0);
    }
}
