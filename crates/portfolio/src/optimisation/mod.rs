//! Weights for tokens from their recorded prices, and how strategies would have done over them. Nothing is stored.

mod allocate;
mod policy;
mod requests;

use std::{collections::BTreeMap, sync::OnceLock};

use am_core::boxed;
use am_db::codec::Timestamp;
use am_portfolio_math::{
    BacktestOptions, BacktestStrategy, DenseMatrix, MathError, RebalanceRule, asset_returns, backtest,
};
use chrono::TimeDelta;

pub use self::policy::{AllocationPolicies, BookLevels, PolicyAnswer, PolicyFault};
pub use self::requests::{
    AllocationMethod, AllocationRequest, AllocationResult, BacktestChange, BacktestRequest, BacktestResult,
    FrontierPoint, ReturnViewRequest, SectorBound,
};
use self::{allocate::find_weights, policy::PolicyAsker, requests::MAX_PRICES};
use crate::{
    PortfolioService,
    error::{PortfolioError, Result},
    prices::day_of,
    reports::{AlignedPrices, PERIODS_PER_YEAR, read_days},
};

/// Days of prices by default.
const DEFAULT_DAYS: i64 = 365;
/// Daily returns that weights are chosen from at least.
const MIN_RETURNS: usize = 20;
/// AIT that a backtest begins with by default.
const DEFAULT_VALUE: f64 = 10_000.0;
/// Daily returns that a backtest chooses from by default.
const DEFAULT_WINDOW: usize = 90;
/// Days between two choices of a backtest by default.
const DEFAULT_STEP: usize = 30;
/// Points in the whole.
const POINTS: f64 = 100.0;
/// Basis points in the whole.
const BASIS_POINTS: f64 = 10_000.0;

impl PortfolioService {
    /// Prices of `tokens` on the days on which all have one.
    async fn price_matrix(
        &self,
        tokens: &[String],
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<AlignedPrices> {
        let to = to.unwrap_or_else(|| self.now());
        let from = from
            .unwrap_or_else(|| Timestamp(to.0.checked_sub_signed(TimeDelta::days(DEFAULT_DAYS)).unwrap_or_default()));
        if from >= to {
            return Err(PortfolioError::invalid("to", "must be later than `from`"));
        }
        let days = usize::try_from((to.0 - from.0).num_days() + 1).unwrap_or(usize::MAX);
        if days.saturating_mul(tokens.len()) > MAX_PRICES {
            let text = format!("tokens times days must be at most {MAX_PRICES}: ask for a shorter time");
            return Err(PortfolioError::invalid("from", text));
        }
        let mut conn = self.0.db.read_list().await?;
        let history = read_days(&mut conn, tokens, (&day_of(from), &day_of(to)), days).await?;
        drop(conn);
        let names: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let aligned = history.aligned(&names)?;
        aligned.filter(|aligned| aligned.days.len() > MIN_RETURNS).ok_or_else(|| {
            let text = format!("The tokens have recorded prices on fewer than {} common days", MIN_RETURNS + 1);
            PortfolioError::Conflict("price_missing", text)
        })
    }

    /// Find weights.
    ///
    /// # Errors
    /// [`PortfolioError::Invalid`] with all faults; [`PortfolioError::Conflict`] where prices are missing; [`PortfolioError::Math`] where
    /// no weights satisfy the bounds; [`PortfolioError::Busy`] when a policy can't be asked now.
    #[boxed]
    pub async fn optimise(&self, request: AllocationRequest) -> Result<AllocationResult> {
        request.check().map_err(PortfolioError::Invalid)?;
        let asker = self.policy_asker(request.policy.as_deref()).await?;
        let aligned = self.price_matrix(&request.tokens, request.from, request.to).await?;
        let compute = move || {
            let returns = asset_returns(&aligned.prices)?;
            let found =
                find_weights(&request, asker.as_ref(), &returns).map_err(|error| acted(asker.as_ref(), error))?;
            Ok(AllocationResult {
                method: request.method,
                policy: asker.map(|asker| asker.version),
                weights: request.tokens.iter().cloned().zip(found.weights).collect(),
                expected_return: found.expected_return,
                volatility: found.volatility,
                sharpe_ratio: found.sharpe_ratio,
                cvar: found.cvar,
                value_at_risk: found.value_at_risk,
                measured_from: aligned.days.first().cloned().unwrap_or_default(),
                measured_to: aligned.days.last().cloned().unwrap_or_default(),
                observations: returns.rows(),
                shrinkage: found.shrinkage,
                status: found.status.to_owned(),
                iterations: found.iterations,
                gap: found.gap,
                frontier: found.frontier,
            })
        };
        tokio::task::spawn_blocking(compute).await.map_err(|_| PortfolioError::Interrupted)?
    }

    /// Find out how a strategy would have done.
    ///
    /// # Errors
    /// As [`PortfolioService::optimise`].
    #[boxed]
    pub async fn backtest(&self, request: BacktestRequest) -> Result<BacktestResult> {
        request.check().map_err(PortfolioError::Invalid)?;
        let asker = self.policy_asker(request.policy.as_deref()).await?;
        let aligned = self.price_matrix(&request.tokens, request.from, request.to).await?;
        let options = self.backtest_options(&request);
        let compute = move || {
            let found = tested(&request, asker.as_ref(), &aligned, &options);
            found.map_err(|error| acted(asker.as_ref(), error))
        };
        tokio::task::spawn_blocking(compute).await.map_err(|_| PortfolioError::Interrupted)?
    }

    /// The version that `reference` names, to be asked by a computation.
    async fn policy_asker(&self, reference: Option<&str>) -> Result<Option<PolicyAsker>> {
        let Some(reference) = reference else { return Ok(None) };
        let policies = self.0.policies.clone();
        let version = policies.find_version(reference).await.map_err(policy_error)?;
        Ok(Some(PolicyAsker { policies, version, runtime: tokio::runtime::Handle::current(), fault: OnceLock::new() }))
    }

    fn backtest_options(&self, request: &BacktestRequest) -> BacktestOptions {
        let rule = match (request.rebalance_days, request.drift_points) {
            (Some(periods), _) => RebalanceRule::Every { periods },
            (None, Some(points)) => RebalanceRule::Drift { band: points / POINTS },
            (None, None) => RebalanceRule::Never,
        };
        let rate = request.risk_free_rate.unwrap_or(0.0);
        BacktestOptions {
            initial_value: request.initial_value.unwrap_or(DEFAULT_VALUE),
            fee_rate: f64::from(self.0.settings.fee_bps) / BASIS_POINTS,
            slippage_rate: f64::from(self.0.settings.slippage_bps) / BASIS_POINTS,
            rule,
            periods_per_year: PERIODS_PER_YEAR,
            risk_free_per_period: (1.0 + rate).powf(1.0 / PERIODS_PER_YEAR) - 1.0,
        }
    }
}

fn policy_error(fault: PolicyFault) -> PortfolioError {
    match fault {
        PolicyFault::Unusable(text) => PortfolioError::invalid("policy", text),
        PolicyFault::Unavailable(text) => PortfolioError::Busy(text),
    }
}

/// The error of a computation, which is the policy's where it did not answer.
fn acted(asker: Option<&PolicyAsker>, error: impl Into<PortfolioError>) -> PortfolioError {
    let fault = asker.and_then(|asker| asker.fault.get());
    fault.map_or_else(|| error.into(), |fault| policy_error(fault.clone()))
}

fn tested(
    request: &BacktestRequest,
    asker: Option<&PolicyAsker>,
    aligned: &AlignedPrices,
    options: &BacktestOptions,
) -> Result<BacktestResult> {
    let named = |weights: &[f64]| -> BTreeMap<String, f64> {
        request.tokens.iter().cloned().zip(weights.iter().copied()).collect()
    };
    let report = match (&request.weights, request.method) {
        (Some(weights), _) => {
            let weights: Vec<f64> =
                request.tokens.iter().map(|token| weights.get(token).copied().unwrap_or(0.0)).collect();
            backtest(&aligned.prices, &BacktestStrategy::Fixed(&weights), options)?
        }
        (None, method) => {
            let asked =
                AllocationRequest::by_method(&request.tokens, method.unwrap_or(AllocationMethod::MinimumVariance));
            let choose = |returns: &DenseMatrix| -> std::result::Result<Vec<f64>, MathError> {
                find_weights(&asked, asker, returns).map(|found| found.weights)
            };
            let (window, step) = (request.window.unwrap_or(DEFAULT_WINDOW), request.step.unwrap_or(DEFAULT_STEP));
            backtest(&aligned.prices, &BacktestStrategy::WalkForward { window, step, choose: &choose }, options)?
        }
    };
    let day = |period: usize| aligned.days.get(period).cloned().unwrap_or_default();
    let changes = report.rebalances.iter().map(|change| BacktestChange {
        day: day(change.period),
        weights: named(&change.weights),
        turnover: change.turnover,
        cost: change.cost,
    });
    Ok(BacktestResult {
        days: aligned.days[report.first_period..].to_vec(),
        rebalances: changes.collect(),
        values: report.values,
        total_cost: report.total_cost,
        total_turnover: report.total_turnover,
        annual_return: report.figures.annual_return,
        volatility: report.figures.volatility,
        max_drawdown: report.figures.max_drawdown.depth,
        sharpe_ratio: report.figures.sharpe_ratio,
        sortino_ratio: report.figures.sortino_ratio,
        calmar_ratio: report.figures.calmar_ratio,
    })
}
