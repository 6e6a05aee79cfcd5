//! Student's distribution.

use super::MeasuredInterval;

/// What stands for 0 in a continued fraction.
const TINY: f64 = 1e-300;
/// Coefficients of Lanczos's series for the gamma function.
const COEFFICIENTS: [f64; 6] = [
    76.180_091_729_471_46,
    -86.505_320_329_416_77,
    24.014_098_240_830_91,
    -1.231_739_572_450_155,
    0.120_865_097_386_617_9e-2,
    -0.539_523_938_495_3e-5,
];

/// Interval of a mean after Student, of a sample's mean, standard deviation and count. `None`: fewer than two values.
pub fn mean_interval(mean: f64, deviation: f64, count: u64) -> Option<MeasuredInterval> {
    if count < 2 || !mean.is_finite() || !deviation.is_finite() {
        return None;
    }
    let half = student_quantile(count as f64 - 1.0) * deviation / (count as f64).sqrt();
    Some(MeasuredInterval { low: mean - half, high: mean + half })
}

/// Interval of the difference of two means, `new` less `old`, after Welch; each is a mean, a standard deviation and a count. `None`:
/// one has fewer than two values.
pub fn welch_difference(old: (f64, f64, u64), new: (f64, f64, u64)) -> Option<MeasuredInterval> {
    if old.2 < 2 || new.2 < 2 {
        return None;
    }
    let variance = |(_, deviation, count): (f64, f64, u64)| deviation * deviation / count as f64;
    let (a, b) = (variance(old), variance(new));
    let freedom = |variance: f64, count: u64| variance * variance / (count as f64 - 1.0);
    let divisor = freedom(a, old.2) + freedom(b, new.2);
    let half = if divisor > 0.0 { student_quantile((a + b) * (a + b) / divisor) * (a + b).sqrt() } else { 0.0 };
    let difference = new.0 - old.0;
    difference.is_finite().then_some(MeasuredInterval { low: difference - half, high: difference + half })
}

/// The 97.5 % quantile of Student's distribution with this many degrees of freedom, at least 1.
pub fn student_quantile(freedom: f64) -> f64 {
    let freedom = freedom.max(1.0);
    // The share above t is half of I_x(v/2, 1/2) with x = v / (v + t²): it falls with t.
    let above = |t: f64| 0.5 * incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5);
    let (mut low, mut high) = (1.0, 20.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if above(middle) > 0.025 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The regularised incomplete beta function, by its continued fraction (Lentz).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let bounded = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / bounded(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..300 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / bounded(1.0 + even * d);
        c = bounded(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / bounded(1.0 + odd * d);
        c = bounded(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-14 {
            break;
        }
    }
    front * fraction
}

/// Logarithm of the gamma function for positive numbers, after Lanczos.
fn ln_gamma(x: f64) -> f64 {
    let base = x + 5.5;
    let series: f64 = COEFFICIENTS.iter().zip(1..).map(|(one, at)| one / (x + f64::from(at))).sum();
    (x + 0.5) * base.ln() - base + (2.506_628_274_631_000_5 * (1.000_000_000_190_015 + series) / x).ln()
}
