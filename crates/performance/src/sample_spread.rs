//! Mean and spread of a few numbers.

/// Mean, standard deviation of a sample, and count of numbers. Without numbers the mean is no number.
pub(crate) fn sample_spread(values: &[f64]) -> (f64, f64, u64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt(), values.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let (mean, deviation, count) = sample_spread(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((mean, count), (5.0, 8));
        assert!((deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(sample_spread(&[3.0]), (3.0, 0.0, 1));
        assert!(sample_spread(&[]).0.is_nan());
    }
}
