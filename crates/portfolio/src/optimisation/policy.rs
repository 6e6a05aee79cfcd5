//! Weights as a learned policy of the environment `portfolio_management` acts. The policy runs a book of its own for each token,
//! split between AIT and the token, through the recorded days, and the weight of a token is the share of it that its book holds
//! at the end, over the sum of these shares.
//!
//! What the environment has as levels is measured each day from the days until then: the regime by the mean of the last
//! [`RECENT_DAYS`] returns in standard errors, the valuation by the distance of the logarithm of the price from its mean in
//! standard deviations, the volatility by the deviation of the recent returns against that of all, the drawdown by what the book
//! has lost since its peak.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use am_portfolio_math::{DenseMatrix, MathError};
use tokio::runtime::Handle;

/// Daily returns that are recent.
pub(super) const RECENT_DAYS: usize = 20;
/// Exposure of a book at its begin, in fifths.
const INITIAL_EXPOSURE: usize = 2;
/// Exposure of a book that is wholly in its token.
const WHOLE_EXPOSURE: f64 = 5.0;
/// Standard errors beyond which a market rises or falls.
const REGIME_ERRORS: f64 = 1.0;
/// Distances from the mean at which the next level of valuation begins, in standard deviations.
const VALUATION_EDGES: [f64; 4] = [-1.5, -0.5, 0.5, 1.5];
/// Ratio of the recent deviation to that of all days above which a market is turbulent.
const TURBULENT_RATIO: f64 = 1.25;
/// Loss since the peak of a level of drawdown.
const DRAWDOWN_STEP: f64 = 0.03;
/// The deepest level of drawdown.
const DEEPEST_DRAWDOWN: usize = 3;

/// What a policy sees of a token's market and of its book, as levels from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookLevels {
    /// Fifths of the book that are in the token, 0 to 5.
    pub exposure: usize,
    /// Whether the market falls, is flat, or rises: 0 to 2.
    pub regime: usize,
    /// From cheap to expensive: 0 to 4.
    pub valuation: usize,
    /// Whether the market is calm or turbulent: 0 or 1.
    pub volatility: usize,
    /// How much the book has lost since its peak, 0 to 3.
    pub drawdown: usize,
}

/// Why a policy did not act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyFault {
    /// There is none of this name, or it is none of `portfolio_management`.
    Unusable(String),
    /// It can't be asked now.
    Unavailable(String),
}

/// The answer of [`AllocationPolicies`], which comes later.
pub type PolicyAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PolicyFault>> + Send + 'a>>;

/// Learned policies that choose exposures.
pub trait AllocationPolicies: Send + Sync {
    /// The version that a reference names: `name`, `name@version` or `name@alias`.
    fn find_version<'a>(&'a self, reference: &'a str) -> PolicyAnswer<'a, String>;

    /// The next exposure of each book, as this version acts.
    fn next_exposures<'a>(&'a self, version: &'a str, books: Vec<BookLevels>) -> PolicyAnswer<'a, Vec<usize>>;
}

/// A version that is asked from a thread that may block.
pub(super) struct PolicyAsker {
    pub policies: Arc<dyn AllocationPolicies>,
    pub version: String,
    pub runtime: Handle,
    /// Why it did not act; the computation's own error does not say so.
    pub fault: OnceLock<PolicyFault>,
}

impl PolicyAsker {
    fn ask(&self, books: Vec<BookLevels>) -> Result<Vec<usize>, MathError> {
        let count = books.len();
        let answered = self.runtime.block_on(self.policies.next_exposures(&self.version, books));
        let wrong = || Err(PolicyFault::Unavailable("the policy answered for other books".to_owned()));
        let answered = answered.and_then(|found| if found.len() == count { Ok(found) } else { wrong() });
        answered.map_err(|fault| {
            drop(self.fault.set(fault));
            MathError::NotSolved { reason: "the policy did not answer".to_owned() }
        })
    }

    /// The weights, and how many days were walked through.
    pub(super) fn weights(&self, returns: &DenseMatrix) -> Result<(Vec<f64>, u32), MathError> {
        walk(returns, &|books| self.ask(books))
    }
}

/// A book of the policy's.
#[derive(Clone, Debug)]
struct TokenBook {
    returns: Vec<f64>,
    exposure: usize,
    value: f64,
    peak: f64,
}

impl TokenBook {
    fn levels(&self, days: usize) -> BookLevels {
        let past = &self.returns[..days];
        let recent = &past[days - RECENT_DAYS..];
        let (mean, deviation) = moments(recent);
        let (_, usual) = moments(past);
        let errors = mean / (deviation / (RECENT_DAYS as f64).sqrt()).max(f64::MIN_POSITIVE);
        let regime = match errors {
            errors if errors < -REGIME_ERRORS => 0,
            errors if errors > REGIME_ERRORS => 2,
            _ => 1,
        };
        let prices: Vec<f64> = past
            .iter()
            .scan(0.0, |price, change| {
                *price += change.ln_1p();
                Some(*price)
            })
            .collect();
        let (fair, spread) = moments(&prices);
        let dear = (prices[days - 1] - fair) / spread.max(f64::MIN_POSITIVE);
        BookLevels {
            exposure: self.exposure,
            regime,
            valuation: VALUATION_EDGES.iter().filter(|edge| dear > **edge).count(),
            volatility: usize::from(deviation > usual * TURBULENT_RATIO),
            drawdown: (((1.0 - self.value / self.peak) / DRAWDOWN_STEP) as usize).min(DEEPEST_DRAWDOWN),
        }
    }

    fn pass(&mut self, change: f64) {
        self.value *= 1.0 + self.exposure as f64 / WHOLE_EXPOSURE * change;
        self.peak = self.peak.max(self.value);
    }
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
}

/// Walk through the days; `next` answers the exposures after each.
fn walk(
    returns: &DenseMatrix,
    next: &dyn Fn(Vec<BookLevels>) -> Result<Vec<usize>, MathError>,
) -> Result<(Vec<f64>, u32), MathError> {
    let days = returns.rows();
    if days < RECENT_DAYS {
        let reason = format!("a policy needs {RECENT_DAYS} daily returns");
        return Err(MathError::Invalid { argument: "from", reason });
    }
    let book = |token| TokenBook { returns: returns.column(token), exposure: INITIAL_EXPOSURE, value: 1.0, peak: 1.0 };
    let mut books: Vec<TokenBook> = (0..returns.columns()).map(book).collect();
    let mut steps = 0;
    for day in RECENT_DAYS..=days {
        let levels = books.iter().map(|book| book.levels(day)).collect();
        for (book, exposure) in books.iter_mut().zip(next(levels)?) {
            book.exposure = exposure;
            if let Some(change) = book.returns.get(day).copied() {
                book.pass(change);
            }
        }
        steps += 1;
    }
    let whole: usize = books.iter().map(|book| book.exposure).sum();
    if whole == 0 {
        return Err(MathError::NotSolved { reason: "the policy holds none of the tokens now".to_owned() });
    }
    Ok((books.iter().map(|book| book.exposure as f64 / whole as f64).collect(), steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token that rises evenly, one that falls, and one that swings.
    fn returns(days: usize) -> DenseMatrix {
        let rows: Vec<Vec<f64>> = (0..days)
            .map(|day| {
                let swing = if day % 2 == 0 { 0.03 } else { -0.03 };
                vec![0.01 + swing / 30.0, -0.01 + swing / 30.0, if day + 5 > days { 4.0 * swing } else { swing }]
            })
            .collect();
        DenseMatrix::from_rows(&rows).unwrap()
    }

    #[test]
    fn levels_are_measured_from_the_days_before() {
        let matrix = returns(60);
        let books = |days| -> Vec<BookLevels> {
            let book = |token| TokenBook { returns: matrix.column(token), exposure: 2, value: 0.93, peak: 1.0 };
            (0..3).map(|token| book(token).levels(days)).collect()
        };
        let (early, late) = (books(20), books(60));
        assert_eq!((late[0].regime, late[1].regime, late[2].regime), (2, 0, 1));
        assert_eq!((late[0].valuation, late[1].valuation), (4, 0), "the highest and the lowest price of all");
        assert_eq!((early[2].volatility, late[2].volatility), (0, 1));
        assert_eq!(late[0].drawdown, 2, "seven percent below the peak");
    }

    #[test]
    fn weights_are_what_the_books_hold() {
        // It follows the regime.
        let follow = |books: Vec<BookLevels>| -> Result<Vec<usize>, MathError> {
            let next = |book: &BookLevels| match book.regime {
                0 => book.exposure.saturating_sub(1),
                2 => (book.exposure + 1).min(5),
                _ => book.exposure,
            };
            Ok(books.iter().map(next).collect())
        };
        let (weights, steps) = walk(&returns(60), &follow).unwrap();
        assert_eq!(steps, 41);
        assert!((weights[0] - 5.0 / 7.0).abs() < 1e-12 && weights[1] == 0.0, "{weights:?}");
        let none = walk(&returns(60), &|books| Ok(vec![0; books.len()]));
        assert!(matches!(none, Err(MathError::NotSolved { .. })), "it holds nothing: {none:?}");
        assert!(walk(&returns(10), &follow).is_err());
    }
}
