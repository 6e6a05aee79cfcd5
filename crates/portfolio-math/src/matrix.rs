//! Dense matrices, and the little linear algebra that the figures need.

use ndarray::ArrayView2;

use crate::error::{MathError, Result, finite, length};

/// A matrix of finite numbers, stored row by row. A matrix of a time series has a row for each period, oldest first,
/// and a column for each asset.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseMatrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl DenseMatrix {
    /// From values that are stored row by row. Fails if there are not rows × columns of them, or one is not finite.
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Result<Self> {
        length("matrix", rows * columns, values.len())?;
        finite("matrix", &values)?;
        Ok(Self { rows, columns, values })
    }

    /// From rows of one length. Fails as `new` does.
    pub fn from_rows(rows: &[Vec<f64>]) -> Result<Self> {
        let columns = rows.first().map_or(0, Vec::len);
        for row in rows {
            length("matrix", columns, row.len())?;
        }
        Self::new(rows.len(), columns, rows.concat())
    }

    /// From columns of one length. Fails as `new` does.
    pub fn from_columns(columns: &[Vec<f64>]) -> Result<Self> {
        Ok(Self::from_rows(columns)?.transposed())
    }

    /// From parts that are known to fit.
    pub(crate) fn filled(rows: usize, columns: usize, mut value: impl FnMut(usize, usize) -> f64) -> Self {
        let values = (0..rows * columns).map(|at| value(at / columns.max(1), at % columns.max(1))).collect();
        Self { rows, columns, values }
    }

    /// Number of rows: of periods, in a time series.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: of assets, in a time series.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// One row; empty beyond the last.
    pub fn row(&self, at: usize) -> &[f64] {
        self.values.get(at * self.columns..(at + 1) * self.columns).unwrap_or_default()
    }

    /// A copy of one column.
    pub fn column(&self, at: usize) -> Vec<f64> {
        (0..self.rows).map(|row| self.get(row, at)).collect()
    }

    /// One value; panics beyond the matrix, as an index does.
    pub fn get(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    /// Some rows, as a matrix of their own.
    pub(crate) fn rows_between(&self, from: usize, to: usize) -> Self {
        let values = self.values[from * self.columns..to * self.columns].to_vec();
        Self { rows: to - from, columns: self.columns, values }
    }

    pub(crate) fn transposed(&self) -> Self {
        Self::filled(self.columns, self.rows, |row, column| self.get(column, row))
    }

    /// The values on the diagonal, from the first row on.
    pub(crate) fn diagonal(&self) -> Vec<f64> {
        (0..self.rows.min(self.columns)).map(|at| self.get(at, at)).collect()
    }

    /// Each value changed by `change(row, column, value)`.
    pub(crate) fn map(mut self, mut change: impl FnMut(usize, usize, f64) -> f64) -> Self {
        let columns = self.columns.max(1);
        for (at, value) in self.values.iter_mut().enumerate() {
            *value = change(at / columns, at % columns, *value);
        }
        self
    }

    fn view(&self) -> Option<ArrayView2<'_, f64>> {
        ArrayView2::from_shape((self.rows, self.columns), &self.values).ok()
    }

    /// The product of this matrix, transposed, with another one of as many rows.
    pub(crate) fn transposed_times(&self, other: &Self) -> Self {
        // Shapes fit by construction.
        let product = self.view().zip(other.view()).map(|(own, other)| own.t().dot(&other)).unwrap_or_default();
        let (rows, columns) = product.dim();
        Self { rows, columns, values: product.iter().copied().collect() }
    }

    /// The product with a vector.
    pub(crate) fn times(&self, vector: &[f64]) -> Vec<f64> {
        (0..self.rows).map(|row| dot(self.row(row), vector)).collect()
    }

    /// The product of a symmetric matrix with a vector that is zero except at few places.
    pub(crate) fn times_sparse(&self, places: &[usize], values: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.columns];
        for (place, value) in places.iter().zip(values) {
            if *value != 0.0 {
                add_scaled(&mut sum, *value, self.row(*place));
            }
        }
        sum
    }

    /// Fails unless the matrix is a covariance: square, of the right size, symmetric, without a negative variance.
    pub(crate) fn check_covariance(&self, argument: &'static str, assets: usize) -> Result<()> {
        length(argument, assets, self.rows)?;
        length(argument, assets, self.columns)?;
        let largest = self.diagonal().iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        for row in 0..assets {
            if self.get(row, row) < 0.0 {
                return Err(MathError::invalid(argument, format!("the variance of asset {row} is negative")));
            }
            for column in 0..row {
                if (self.get(row, column) - self.get(column, row)).abs() > 1e-9 * largest {
                    return Err(MathError::invalid(argument, format!("not symmetric at {row}, {column}")));
                }
            }
        }
        if largest > 0.0 { Ok(()) } else { Err(MathError::invalid(argument, "all variances are 0")) }
    }
}

/// The sum of products of two vectors. Four sums at once, which the processor adds side by side.
pub(crate) fn dot(left: &[f64], right: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (left_blocks, right_blocks) = (left.chunks_exact(4), right.chunks_exact(4));
    let rest: f64 = left_blocks.remainder().iter().zip(right_blocks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left_blocks.zip(right_blocks) {
        for at in 0..4 {
            sums[at] += a[at] * b[at];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// Adds `factor` times a vector.
pub(crate) fn add_scaled(sum: &mut [f64], factor: f64, vector: &[f64]) {
    for (sum, value) in sum.iter_mut().zip(vector) {
        *sum += factor * value;
    }
}

/// The arithmetic mean; 0 of no values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// An upper triangular factor R with R'R = matrix, of a positive semidefinite matrix: rows of directions without
/// variance are left out. Cholesky with the largest pivot first (Higham, Accuracy and Stability of Numerical
/// Algorithms, 10.3). Fails if a direction has negative variance.
pub(crate) fn semidefinite_factor(matrix: &DenseMatrix, argument: &'static str) -> Result<DenseMatrix> {
    let size = matrix.rows();
    let mut left = matrix.diagonal();
    let largest = left.iter().fold(0.0_f64, |most, value| most.max(*value));
    let tolerance = largest * f64::EPSILON * size as f64;
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let mut taken = vec![false; size];
    for _ in 0..size {
        let free = (0..size).filter(|at| !taken[*at]);
        let Some(pivot) = free.max_by(|a, b| left[*a].total_cmp(&left[*b])) else { break };
        if left[pivot] <= tolerance {
            break;
        }
        let mut row = matrix.row(pivot).to_vec();
        for before in &rows {
            add_scaled(&mut row, -before[pivot], before);
        }
        let scale = left[pivot].sqrt();
        for (at, value) in row.iter_mut().enumerate() {
            *value = if taken[at] { 0.0 } else { *value / scale };
        }
        row[pivot] = scale;
        taken[pivot] = true;
        for (left, value) in left.iter_mut().zip(&row) {
            *left -= value * value;
        }
        rows.push(row);
    }
    let negative = (0..size).find(|at| !taken[*at] && left[*at] < -1e-7 * largest);
    match negative {
        Some(at) => Err(MathError::invalid(argument, format!("not positive semidefinite, at asset {at}"))),
        None => Ok(DenseMatrix { rows: rows.len(), columns: size, values: rows.concat() }),
    }
}

/// Solves a square system by Gaussian elimination with partial pivoting; `None` if it is singular.
pub(crate) fn solve(matrix: &DenseMatrix, right: &[f64]) -> Option<Vec<f64>> {
    let size = matrix.rows();
    let mut rows: Vec<Vec<f64>> = (0..size)
        .map(|at| {
            let mut row = matrix.row(at).to_vec();
            row.push(right[at]);
            row
        })
        .collect();
    let largest = matrix.values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    for step in 0..size {
        let pivot = (step..size).max_by(|a, b| rows[*a][step].abs().total_cmp(&rows[*b][step].abs()))?;
        if rows[pivot][step].abs() <= largest * f64::EPSILON {
            return None;
        }
        rows.swap(step, pivot);
        let (done, open) = rows.split_at_mut(step + 1);
        for row in open {
            let factor = row[step] / done[step][step];
            if factor != 0.0 {
                add_scaled(&mut row[step..], -factor, &done[step][step..]);
            }
        }
    }
    let mut solution = vec![0.0; size];
    for at in (0..size).rev() {
        let known = dot(&rows[at][at + 1..size], &solution[at + 1..]);
        solution[at] = (rows[at][size] - known) / rows[at][at];
    }
    Some(solution)
}
