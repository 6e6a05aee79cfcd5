//! Comparison of two means, with the interval that chance allows.

/// Quantile of the normal distribution that leaves 2.5 % above it.
const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;

/// A sample in sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SampleSums {
    /// Number of values.
    pub(crate) count: u64,
    /// Mean of the values.
    pub(crate) mean: f64,
    /// Sum of the squared differences from the mean.
    pub(crate) squares: f64,
}

impl SampleSums {
    /// Add a value.
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    /// Return the standard deviation of the values; `None`: there are fewer than two.
    pub(crate) fn deviation(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count as f64 - 1.0)).sqrt())
    }

    fn variance_of_mean(&self) -> f64 {
        let count = self.count as f64;
        self.squares / (count - 1.0).max(1.0) / count.max(1.0)
    }
}

/// Return the 95 % interval of the difference of the means, `new` less `old`, after Welch.
pub(crate) fn difference_interval(old: &SampleSums, new: &SampleSums) -> (f64, f64) {
    let (a, b) = (old.variance_of_mean(), new.variance_of_mean());
    let freedom = |variance: f64, count: u64| variance.powi(2) / (count as f64 - 1.0).max(1.0);
    let (sum, divisor) = (a + b, freedom(a, old.count) + freedom(b, new.count));
    let half = if sum > 0.0 { student_quantile(sum.powi(2) / divisor) * sum.sqrt() } else { 0.0 };
    let difference = new.mean - old.mean;
    (difference - half, difference + half)
}

/// The 97.5 % quantile of Student's distribution, by its expansion in 1 / `freedom`; exact to 1 % from 4 on.
fn student_quantile(freedom: f64) -> f64 {
    let (z, v) = (NORMAL_QUANTILE, freedom.max(1.0));
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / v + second / v.powi(2) + third / v.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_students() {
        for (freedom, wanted) in [(4.0, 2.776), (9.0, 2.262), (18.0, 2.101), (100.0, 1.984)] {
            let found = student_quantile(freedom);
            assert!((found / wanted - 1.0).abs() < 0.01, "{freedom}: {found}");
        }
    }

    #[test]
    fn sums_are_those_of_the_values() {
        let mut sums = SampleSums::default();
        [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter().for_each(|value| sums.add(value));
        assert_eq!((sums.count, sums.mean), (8, 5.0));
        assert!((sums.deviation().unwrap() - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        let (low, high) = difference_interval(&sums, &sums);
        assert!(low < 0.0 && (low + high).abs() < 1e-12);
        assert_eq!(SampleSums { count: 1, ..sums }.deviation(), None);
    }
}
