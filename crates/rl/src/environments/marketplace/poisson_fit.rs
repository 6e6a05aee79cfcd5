//! Regression of counts: Poisson pseudo-maximum likelihood with robust errors.
//!
//! The mean is the exponential of a linear function. Unlike least squares of logarithms, the estimate is consistent for
//! whatever distribution has that mean, and rows without any count take part (Gourieroux, Monfort, Trognon 1984; Santos
//! Silva, Tenreyro 2006). The errors are those of the sandwich estimator, which assumes no variance.

/// Maximum number of Newton steps.
const NEWTON_STEPS: usize = 100;

/// Estimated coefficients and their standard errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PoissonFit<const K: usize> {
    pub(super) coefficients: [f64; K],
    pub(super) errors: [f64; K],
}

/// Fit the coefficients to rows of regressors and a number of at least 0; `None` if there is no finite estimate.
pub(super) fn fit_poisson<const K: usize>(rows: &[([f64; K], f64)]) -> Option<PoissonFit<K>> {
    let count = rows.len();
    let mean = rows.iter().map(|(_, number)| number).sum::<f64>() / count as f64;
    if count <= K || !mean.is_finite() || mean <= 0.0 {
        return None;
    }
    let predictor = |by: &[f64; K], row: &[f64; K]| by.iter().zip(row).map(|(by, number)| by * number).sum::<f64>();
    // Numbers are taken in units of their mean.
    let likelihood = |by: &[f64; K]| -> f64 {
        rows.iter().map(|(row, number)| number / mean * predictor(by, row) - predictor(by, row).exp()).sum()
    };
    let (mut by, mut present) = ([0.0; K], likelihood(&[0.0; K]));
    let mut converged = false;
    for _ in 0..NEWTON_STEPS {
        let (information, gradient) = moments(rows, |row, number| {
            let expected = predictor(&by, row).exp();
            (expected, number / mean - expected)
        });
        let inverse = invert(information)?;
        let step: [f64; K] = std::array::from_fn(|at| predictor(&inverse[at], &gradient));
        let largest = step.iter().fold(0.0f64, |most, step| most.max(step.abs()));
        if largest < 1e-10 {
            converged = true;
            break;
        }
        // A step that overshoots is halved.
        let (mut share, mut improved) = (1.0, false);
        while share > 1e-6 {
            let next: [f64; K] = std::array::from_fn(|at| by[at] + share * step[at]);
            let reached = likelihood(&next);
            if reached >= present - 1e-12 * present.abs() {
                (by, present, improved) = (next, reached, true);
                break;
            }
            share /= 2.0;
        }
        if !improved {
            return None;
        }
    }
    if !converged || by.iter().any(|number| number.abs() > 1e3) {
        return None;
    }
    let (bread, _) = moments(rows, |row, _| (predictor(&by, row).exp(), 0.0));
    let (filling, _) = moments(rows, |row, number| ((number / mean - predictor(&by, row).exp()).powi(2), 0.0));
    let inverse = invert(bread)?;
    let correction = count as f64 / (count - K) as f64;
    let error = |at: usize| {
        let spread: [f64; K] = std::array::from_fn(|column| predictor(&inverse[at], &filling[column]));
        (correction * predictor(&inverse[at], &spread)).max(0.0).sqrt()
    };
    let errors = std::array::from_fn(error);
    Some(PoissonFit { coefficients: by, errors })
}

/// Sums over the rows of the weighted products of regressors, and of the regressors times a residual; `of` returns weight
/// and residual of a row.
fn moments<const K: usize>(
    rows: &[([f64; K], f64)],
    of: impl Fn(&[f64; K], f64) -> (f64, f64),
) -> ([[f64; K]; K], [f64; K]) {
    let (mut products, mut sums) = ([[0.0; K]; K], [0.0; K]);
    for (row, number) in rows {
        let (weight, residual) = of(row, *number);
        for one in 0..K {
            sums[one] += row[one] * residual;
            for other in 0..K {
                products[one][other] += weight * row[one] * row[other];
            }
        }
    }
    (products, sums)
}

/// Invert a matrix by elimination with the largest pivot; `None` if it is singular.
fn invert<const K: usize>(mut matrix: [[f64; K]; K]) -> Option<[[f64; K]; K]> {
    let mut inverse = [[0.0; K]; K];
    (0..K).for_each(|at| inverse[at][at] = 1.0);
    for at in 0..K {
        let pivot = (at..K).max_by(|one, other| matrix[*one][at].abs().total_cmp(&matrix[*other][at].abs()))?;
        if !matrix[pivot][at].is_normal() {
            return None;
        }
        matrix.swap(at, pivot);
        inverse.swap(at, pivot);
        let scale = 1.0 / matrix[at][at];
        for column in 0..K {
            matrix[at][column] *= scale;
            inverse[at][column] *= scale;
        }
        for row in (0..K).filter(|row| *row != at) {
            let factor = matrix[row][at];
            for column in 0..K {
                matrix[row][column] -= factor * matrix[at][column];
                inverse[row][column] -= factor * inverse[at][column];
            }
        }
    }
    Some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_groups_are_those_computed_by_hand() {
        // Means 2 and 0.5: the slope is ln(0.5 / 2). Each mean's relative variance is s^2 / (n m^2), here 4 / (20 x 4)
        // and 0.25 / (20 x 0.25), times 40 / 38 for the two coefficients.
        let rows: Vec<([f64; 2], f64)> =
            (0..20).flat_map(|at| [([1.0, 0.0], f64::from(at % 2 * 4)), ([1.0, 1.0], f64::from(at % 2))]).collect();
        let fit = fit_poisson(&rows).unwrap();
        assert!((fit.coefficients[1] - 0.25f64.ln()).abs() < 1e-9, "{fit:?}");
        assert!((fit.errors[1] - (0.1f64 * 40.0 / 38.0).sqrt()).abs() < 1e-9, "{fit:?}");
    }

    #[test]
    fn what_has_no_estimate_has_none() {
        let rows = |number: fn(f64) -> f64| (0..40).map(|at| ([1.0, f64::from(at)], number(f64::from(at)))).collect();
        let none: Vec<([f64; 2], f64)> = rows(|_| 0.0);
        assert_eq!(fit_poisson(&none), None);
        let alike: Vec<([f64; 2], f64)> = (0..40).map(|at| ([1.0, 1.0], f64::from(at))).collect();
        assert_eq!(fit_poisson(&alike), None, "regressors that are the same");
        assert_eq!(fit_poisson(&[([1.0], 3.0)]), None, "as many coefficients as rows");
    }
}
