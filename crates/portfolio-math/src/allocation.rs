//! What an optimiser is asked, and what it answers.

use crate::{
    error::{MathError, Result, at_least, bounded, finite, length, within},
    matrix::{DenseMatrix, dot},
};

/// How far limits may miss each other and still count as met: the accuracy that optimisers reach.
pub(crate) const LIMIT_TOLERANCE: f64 = 1e-7;

/// What weights may be. They always sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct AllocationLimits {
    /// Each asset's least weight; below 0 allows selling short.
    pub lower: Vec<f64>,
    /// Each asset's greatest weight.
    pub upper: Vec<f64>,
    /// Limits of sums of weights.
    pub sectors: Vec<SectorLimit>,
    /// How far the weights may be from the present ones; `None` for any distance.
    pub turnover: Option<TurnoverLimit>,
}

/// A limit of the sum of some weights.
#[derive(Debug, Clone, PartialEq)]
pub struct SectorLimit {
    /// The name, for errors.
    pub name: String,
    /// The assets, by their index.
    pub assets: Vec<usize>,
    /// The least sum.
    pub least: f64,
    /// The greatest sum.
    pub most: f64,
}

/// A limit of what is traded.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnoverLimit {
    /// The present weights.
    pub current: Vec<f64>,
    /// The sum of all weights' absolute changes at most: buying and selling half of a portfolio is 1.
    pub most: f64,
}

impl AllocationLimits {
    /// Weights from 0 to 1.
    pub fn long_only(assets: usize) -> Self {
        Self::between(assets, 0.0, 1.0)
    }

    /// The same range for each weight.
    pub fn between(assets: usize, lower: f64, upper: f64) -> Self {
        Self { lower: vec![lower; assets], upper: vec![upper; assets], sectors: Vec::new(), turnover: None }
    }

    /// Fails if a limit has not the right size, or no weights can satisfy the bounds or a sector.
    pub(crate) fn check(&self, assets: usize) -> Result<()> {
        length("lower", assets, self.lower.len())?;
        length("upper", assets, self.upper.len())?;
        finite("lower", &self.lower)?;
        finite("upper", &self.upper)?;
        if let Some(at) = (0..assets).find(|at| self.lower[*at] > self.upper[*at]) {
            return Err(MathError::invalid("lower", format!("the bound of asset {at} is above its upper bound")));
        }
        let all: Vec<usize> = (0..assets).collect();
        let whole = SectorLimit { name: "all assets".to_owned(), assets: all, least: 1.0, most: 1.0 };
        self.check_sum(&whole, "upper", "lower")?;
        for sector in &self.sectors {
            finite("sectors", &[sector.least, sector.most])?;
            let mut seen = vec![false; assets];
            for asset in &sector.assets {
                let Some(seen) = seen.get_mut(*asset) else {
                    return Err(MathError::invalid("sectors", format!("'{}' has no asset {asset}", sector.name)));
                };
                if std::mem::replace(seen, true) {
                    return Err(MathError::invalid("sectors", format!("'{}' has asset {asset} twice", sector.name)));
                }
            }
            if sector.least > sector.most {
                return Err(MathError::invalid("sectors", format!("'{}' has its least above its most", sector.name)));
            }
            self.check_sum(sector, "sectors", "sectors")?;
        }
        if let Some(turnover) = &self.turnover {
            length("current", assets, turnover.current.len())?;
            finite("current", &turnover.current)?;
            within("turnover", turnover.most, 0.0, f64::MAX)?;
        }
        Ok(())
    }

    fn check_sum(&self, sector: &SectorLimit, too_low: &'static str, too_high: &'static str) -> Result<()> {
        let sum = |bounds: &[f64]| sector.assets.iter().map(|asset| bounds[*asset]).sum::<f64>();
        let (least, most) = (sum(&self.lower), sum(&self.upper));
        let refuse = |argument, reason| Err(MathError::Infeasible { argument, reason });
        if most < sector.least - LIMIT_TOLERANCE {
            return refuse(
                too_low,
                format!("the upper bounds of {} sum to {most}, below {}", sector.name, sector.least),
            );
        }
        if least > sector.most + LIMIT_TOLERANCE {
            return refuse(
                too_high,
                format!("the lower bounds of {} sum to {least}, above {}", sector.name, sector.most),
            );
        }
        Ok(())
    }

    /// Whether weights are within all limits, to the accuracy that optimisers reach.
    pub(crate) fn allow(&self, weights: &[f64]) -> bool {
        let bounds = self.lower.iter().zip(&self.upper).zip(weights);
        let in_bounds = bounds.clone().all(|((l, u), w)| (*l - LIMIT_TOLERANCE..=*u + LIMIT_TOLERANCE).contains(w));
        let in_sectors = self.sectors.iter().all(|sector| {
            let sum: f64 = sector.assets.iter().map(|asset| weights[*asset]).sum();
            (sector.least - LIMIT_TOLERANCE..=sector.most + LIMIT_TOLERANCE).contains(&sum)
        });
        let traded = self.turnover.as_ref().is_none_or(|turnover| {
            let changes = weights.iter().zip(&turnover.current).map(|(new, old)| (new - old).abs());
            changes.sum::<f64>() <= turnover.most + LIMIT_TOLERANCE
        });
        in_bounds && in_sectors && traded
    }

    /// Weights without the solver's rounding: within their bounds exactly, and their sum 1.
    pub(crate) fn tidy(&self, weights: &[f64]) -> Vec<f64> {
        let mut tidy: Vec<f64> = weights
            .iter()
            .zip(self.lower.iter().zip(&self.upper))
            .map(|(weight, (lower, upper))| {
                let close = |bound: f64| (weight - bound).abs() < 1e-9;
                if close(*lower) {
                    *lower
                } else if close(*upper) {
                    *upper
                } else {
                    weight.clamp(*lower, *upper)
                }
            })
            .collect();
        // What is left over goes to the weights that have room for it, the largest first.
        let mut order: Vec<usize> = (0..tidy.len()).collect();
        order.sort_by(|a, b| tidy[*b].total_cmp(&tidy[*a]));
        for at in order {
            let missing = 1.0 - tidy.iter().sum::<f64>();
            if missing == 0.0 {
                break;
            }
            tidy[at] = (tidy[at] + missing).clamp(self.lower[at], self.upper[at]);
        }
        tidy
    }
}

/// The assets that weights are searched for.
#[derive(Debug, Clone, Copy)]
pub struct AllocationProblem<'a> {
    /// The covariance of a year's returns.
    pub covariance: &'a DenseMatrix,
    /// The expected return of each asset in a year; `None` where only risk counts.
    pub expected_returns: Option<&'a [f64]>,
    /// A year's risk-free return, for Sharpe ratios.
    pub risk_free_rate: f64,
    /// What weights may be.
    pub limits: &'a AllocationLimits,
}

impl<'a> AllocationProblem<'a> {
    pub(crate) fn assets(&self) -> usize {
        self.limits.lower.len()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let assets = self.assets();
        at_least("assets", 1, assets)?;
        bounded("assets", 0, assets)?;
        self.limits.check(assets)?;
        self.covariance.check_covariance("covariance", assets)?;
        finite("risk_free_rate", &[self.risk_free_rate])?;
        if let Some(returns) = self.expected_returns {
            length("expected_returns", assets, returns.len())?;
            finite("expected_returns", returns)?;
        }
        Ok(())
    }

    /// The expected returns of an objective that needs them.
    pub(crate) fn returns(&self) -> Result<&'a [f64]> {
        self.expected_returns.ok_or_else(|| MathError::invalid("expected_returns", "this objective needs them"))
    }

    pub(crate) fn variance(&self, weights: &[f64]) -> f64 {
        dot(&self.covariance.times(weights), weights)
    }

    /// An answer with its expected figures.
    pub(crate) fn answer(&self, weights: Vec<f64>, status: SolveStatus, iterations: u32, gap: f64) -> Allocation {
        let volatility = self.variance(&weights).max(0.0).sqrt();
        let expected_return = self.expected_returns.map(|returns| dot(returns, &weights));
        let sharpe_ratio =
            expected_return.filter(|_| volatility > 0.0).map(|expected| (expected - self.risk_free_rate) / volatility);
        Allocation { weights, expected_return, volatility, sharpe_ratio, status, iterations, gap }
    }
}

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub enum AllocationObjective {
    /// The least variance.
    MinimumVariance,
    /// The highest expected excess return by volatility.
    MaximumSharpe,
    /// The least variance of those with an expected return.
    EfficientReturn {
        /// A year's return at least.
        target_return: f64,
    },
    /// The highest expected return of those with a volatility.
    EfficientRisk {
        /// A year's volatility at most.
        target_volatility: f64,
    },
    /// The highest expected return less half of `risk_aversion` times the variance.
    QuadraticUtility {
        /// How much variance counts against return, above 0.
        risk_aversion: f64,
    },
    /// Risk contributions in the proportion of the budgets.
    RiskParity {
        /// Each asset's part of the risk, above 0; they are scaled to sum to 1. `None` for equal parts.
        budgets: Option<Vec<f64>>,
    },
}

/// What is minimised, and under which constraint beside the limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum MeanVarianceAim {
    /// The least variance.
    MinimumVariance,
    /// The least variance at this return or above.
    EfficientReturn(f64),
    /// The highest return at this volatility or below.
    EfficientRisk(f64),
    /// The highest return less half of this times the variance.
    QuadraticUtility(f64),
    /// The highest excess return by volatility.
    MaximumSharpe,
    /// The highest return, at any risk.
    MaximumReturn,
}

/// Why an optimiser stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SolveStatus {
    /// The conditions of an optimum hold to the wanted accuracy.
    Optimal,
    /// The solver could not improve the answer further; the conditions hold to a lower accuracy, about 1e-4.
    AlmostOptimal,
    /// The method computes its answer directly and searches for nothing.
    Direct,
}

impl SolveStatus {
    /// A word that can be shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optimal => "optimal",
            Self::AlmostOptimal => "almost_optimal",
            Self::Direct => "direct",
        }
    }

    /// The reason in a sentence that can be shown.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Optimal => "the conditions of an optimum hold to the wanted accuracy",
            Self::AlmostOptimal => "the solver could not improve the answer further; its accuracy is reduced",
            Self::Direct => "the method computes its answer directly",
        }
    }
}

/// Weights with what they promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Each asset's weight; they sum to 1.
    pub weights: Vec<f64>,
    /// A year's expected return; `None` without expected returns of assets.
    pub expected_return: Option<f64>,
    /// A year's expected volatility.
    pub volatility: f64,
    /// Expected return above the risk-free rate, by volatility; `None` where one is missing or volatility is 0.
    pub sharpe_ratio: Option<f64>,
    /// Why the optimiser stopped.
    pub status: SolveStatus,
    /// Steps of the method.
    pub iterations: u32,
    /// By how much the conditions of an optimum are missed, relative to the objective: the duality gap, or for risk
    /// parity the largest difference of a risk contribution from its budget.
    pub gap: f64,
}
