"""Writes the fixtures that am-portfolio-math is tested with.

    python -m venv venv && venv/bin/pip install --requirement benches/portfolio/requirements.txt
    venv/bin/python benches/portfolio/fixtures.py STOCK_PRICES

risk.json: empyrical's definitions, recomputed with NumPy on series from a seed; scikit-learn's covariances.
pypfopt.json: every optimiser and covariance that PyPortfolioOpt has too, on the data of its published example.

STOCK_PRICES is tests/resources/stock_prices.csv of PyPortfolioOpt's repository (MIT licence, copyright Robert Andrew
Martin), which its package does not contain: daily closing prices of 20 stocks, 1989-12-29 to 2018-04-11.
"""

import json
import pathlib
import sys
import warnings

import cvxpy as cp
import numpy as np
import pandas as pd
from pypfopt import BlackLittermanModel, EfficientCVaR, EfficientFrontier, HRPOpt, expected_returns, risk_models
from pypfopt.black_litterman import market_implied_prior_returns, market_implied_risk_aversion
from scipy.stats import norm
from sklearn import covariance as sk

# Where it is installed too (pip install empyrical-reloaded==0.7.1), the recomputed definitions are compared with its own.
try:
    import empyrical
except ImportError:
    empyrical = None

FIXTURES = pathlib.Path(__file__).parents[2] / "crates/portfolio-math/src/tests/fixtures"
# The solver's accuracy: weights are compared to 1e-4, figures to 1e-6.
EXACT = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}


def write(name, value):
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    (FIXTURES / name).write_text(text + "\n")


def nullable(value):
    return float(value) if np.isfinite(value) else None


def figures(returns, benchmark, free, per_year):
    """empyrical's definitions; what it answers as NaN is null."""
    n = len(returns)
    values = np.concatenate([[1.0], np.cumprod(1 + returns)])
    peaks = np.maximum.accumulate(values)
    depths = (values - peaks) / peaks
    trough = int(np.argmin(depths))
    depth = float(depths[trough])
    peak = int(np.argmax(values[: trough + 1]))
    after = np.nonzero(values[trough:] >= values[peak])[0]
    recovery = int(trough + after[0]) if depth < 0 and len(after) else None
    excess = returns - free
    yearly = float(values[-1] ** (per_year / n) - 1)
    deviation = np.std(returns, ddof=1) if n > 1 else np.nan
    downside = np.sqrt(np.mean(np.minimum(excess, 0) ** 2)) * np.sqrt(per_year)
    with np.errstate(all="ignore"):
        sharpe = np.mean(excess) / np.std(excess, ddof=1) * np.sqrt(per_year) if n > 1 else np.nan
        sortino = np.mean(excess) * per_year / downside
    other = benchmark - free
    residual = other - other.mean()
    beta = np.mean(residual * excess) / np.mean(residual**2) if n > 1 else np.nan
    alpha = (np.mean(excess - beta * other) + 1) ** per_year - 1

    def cvar(cutoff):
        at = int((n - 1) * cutoff)
        return float(np.mean(np.partition(returns, at)[: at + 1]))

    return {
        "annual_return": yearly,
        "volatility": nullable(deviation * np.sqrt(per_year)),
        "depth": depth,
        "peak": peak if depth < 0 else 0,
        "trough": trough if depth < 0 else 0,
        "recovery": recovery,
        "sharpe_ratio": nullable(sharpe),
        "sortino_ratio": nullable(sortino),
        "calmar_ratio": yearly / abs(depth) if depth < 0 else None,
        "beta": nullable(beta),
        "alpha": nullable(alpha),
        "var_95": float(np.percentile(returns, 5)),
        "var_99": float(np.percentile(returns, 1)),
        "gaussian_var_95": nullable(returns.mean() + deviation * norm.ppf(0.05)),
        "gaussian_var_99": nullable(returns.mean() + deviation * norm.ppf(0.01)),
        "cvar_95": cvar(0.05),
        "cvar_99": cvar(0.01),
    }


def compare(found, returns, benchmark, free, per_year):
    alpha, beta = empyrical.alpha_beta(returns, benchmark, risk_free=free, annualization=per_year)
    own = {
        "annual_return": empyrical.annual_return(returns, annualization=per_year),
        "volatility": empyrical.annual_volatility(returns, annualization=per_year),
        "depth": empyrical.max_drawdown(returns),
        "sharpe_ratio": empyrical.sharpe_ratio(returns, risk_free=free, annualization=per_year),
        "sortino_ratio": empyrical.sortino_ratio(returns, required_return=free, annualization=per_year),
        "calmar_ratio": empyrical.calmar_ratio(returns, annualization=per_year),
        "alpha": alpha,
        "beta": beta,
        "var_95": empyrical.value_at_risk(returns, 0.05),
        "var_99": empyrical.value_at_risk(returns, 0.01),
        "cvar_95": empyrical.conditional_value_at_risk(returns, 0.05),
        "cvar_99": empyrical.conditional_value_at_risk(returns, 0.01),
    }
    for name, value in own.items():
        assert abs(found[name] - value) <= 1e-9 * max(1, abs(value)), (name, found[name], value)


def risk():
    rng = np.random.default_rng(20260301)
    series = []
    for size, per_year, drift, spread in [
        (1, 252, 0.01, 0.02),
        (2, 252, -0.01, 0.02),
        (5, 12, 0.02, 0.05),
        (60, 12, 0.006, 0.04),
        (252, 252, 0.0005, 0.012),
        (253, 365, -0.001, 0.03),
        (1000, 252, 0.0004, 0.02),
        (101, 52, 0.0, 0.08),
    ]:
        market = np.round(rng.normal(drift, spread, size), 6)
        returns = np.round(0.7 * market + rng.standard_t(5, size) * spread * 0.4, 6).clip(-0.9)
        for free in [0.0, 0.0001]:
            found = figures(returns, market, free, per_year)
            if empyrical and size > 2:
                compare(found, returns, market, free, per_year)
            series.append({
                "returns": returns.tolist(),
                "benchmark": market.tolist(),
                "risk_free": free,
                "periods_per_year": per_year,
                "figures": found,
            })
    covariances = []
    for size, assets in [(30, 4), (120, 12), (20, 30), (252, 25)]:
        factor = rng.normal(0.0005, 0.01, (size, 1))
        spread = rng.uniform(0.005, 0.03, assets)
        returns = np.round(factor * rng.uniform(0.2, 1.6, assets) + rng.normal(size=(size, assets)) * spread, 6)
        wolf, wolf_delta = sk.ledoit_wolf(returns)
        oracle, oracle_delta = sk.oas(returns)
        covariances.append({
            "returns": returns.tolist(),
            "sample": np.cov(returns, rowvar=False).tolist(),
            "correlation": np.corrcoef(returns, rowvar=False).tolist(),
            "ledoit_wolf": wolf.tolist(),
            "ledoit_wolf_shrinkage": float(wolf_delta),
            "oracle": oracle.tolist(),
            "oracle_shrinkage": float(oracle_delta),
        })
    return {"numpy": np.__version__, "series": series, "covariances": covariances}


def frontier(mu, S, bounds, solve, prepare=lambda ef: None, free=0.02):
    ef = EfficientFrontier(mu, S, weight_bounds=bounds, solver="CLARABEL", solver_options=EXACT)
    prepare(ef)
    solve(ef)
    performance = ef.portfolio_performance(risk_free_rate=free)
    return {"weights": ef.weights.tolist(), "performance": [float(value) for value in performance]}


def optimisers(mu, S):
    sectors = {ticker: name for name, tickers in {
        "tech": ["GOOG", "AAPL", "FB", "BABA", "AMZN", "AMD"],
        "finance": ["BAC", "MA", "JPM"],
        "energy": ["XOM", "RRC"],
    }.items() for ticker in tickers}
    lower, upper = {"energy": 0.1, "finance": 0.05}, {"tech": 0.2, "finance": 0.2}
    even = np.ones(len(mu)) / len(mu)
    objectives = {
        "minimum_variance": lambda ef: ef.min_volatility(),
        "maximum_sharpe": lambda ef: ef.max_sharpe(0.02),
        "quadratic_utility": lambda ef: ef.max_quadratic_utility(2),
        "efficient_return": lambda ef: ef.efficient_return(0.2),
        "efficient_risk": lambda ef: ef.efficient_risk(0.19),
    }
    limits = {
        "long_only": ((0, 1), lambda ef: None),
        "short": ((-1, 1), lambda ef: None),
        "bounded": ((0.01, 0.13), lambda ef: None),
        "sectors": ((0, 1), lambda ef: ef.add_sector_constraints(sectors, lower, upper)),
        # PyPortfolioOpt's maximum Sharpe ratio does not scale such a constraint, so it is left out.
        "turnover": ((0, 1), lambda ef: ef.add_constraint(lambda w: cp.norm(w - even, 1) <= 0.8)),
    }
    found = {}
    for limit, (bounds, prepare) in limits.items():
        for objective, solve in objectives.items():
            if (limit, objective) != ("turnover", "maximum_sharpe"):
                found[f"{limit}/{objective}"] = frontier(mu, S, bounds, solve, prepare)
    return {
        "sectors": [
            {"name": name, "assets": [at for at, ticker in enumerate(mu.index) if sectors.get(ticker) == name],
             "least": lower.get(name, -10), "most": upper.get(name, 10)}
            for name in ["tech", "finance", "energy"]
        ],
        "turnover": 0.8,
        "answers": found,
    }


def cvars(mu, returns):
    found = []
    for confidence, target, bounds in [
        (0.95, None, (0, 1)), (0.8, None, (0, 1)), (0.95, 0.2, (0, 1)), (0.95, None, (0.01, 0.13)), (0.95, None, (-1, 1)),
    ]:
        cv = EfficientCVaR(mu, returns, beta=confidence, weight_bounds=bounds, solver="CLARABEL", solver_options=EXACT)
        cv.min_cvar() if target is None else cv.efficient_return(target)
        performance = [float(value) for value in cv.portfolio_performance()]
        found.append({"confidence": confidence, "target": target, "bounds": bounds, "weights": cv.weights.tolist(),
                      "performance": performance})
    return found


def black_litterman(S):
    tickers = list(S.columns)
    values = pd.Series({
        "GOOG": 927e9, "AAPL": 1.19e12, "FB": 574e9, "BABA": 533e9, "AMZN": 867e9, "GE": 96e9, "AMD": 43e9, "WMT": 339e9,
        "BAC": 301e9, "GM": 51e9, "T": 61e9, "UAA": 78e9, "SHLD": 0, "XOM": 295e9, "RRC": 1e9, "BBY": 22e9, "MA": 288e9,
        "PFE": 212e9, "JPM": 422e9, "SBUX": 102e9,
    })[tickers]
    aversion = 2.5
    views = [
        ([("SBUX", 1.0)], -0.20, None),
        ([("GOOG", 1.0), ("FB", -1.0)], 0.10, None),
        ([("BAC", 0.5), ("JPM", 0.5), ("T", -0.5), ("GE", -0.5)], 0.15, None),
    ]
    confident = [(picks, expected, confidence) for (picks, expected, _), confidence in zip(views, [0.25, 0.6, 1.0])]
    found = []
    for chosen in [views, confident]:
        P = np.zeros((len(chosen), len(tickers)))
        for row, (picks, _, _) in enumerate(chosen):
            for ticker, pick in picks:
                P[row, tickers.index(ticker)] = pick
        Q = np.array([expected for _, expected, _ in chosen])
        confidences = [confidence for _, _, confidence in chosen]
        more = {} if confidences[0] is None else {"omega": "idzorek", "view_confidences": confidences}
        bl = BlackLittermanModel(S, pi="market", market_caps=values, Q=Q, P=P, tau=0.05, risk_aversion=aversion, **more)
        weights = bl.bl_weights()
        found.append({
            "views": [{"picks": [[tickers.index(ticker), pick] for ticker, pick in picks], "return": expected,
                       "confidence": confidence} for picks, expected, confidence in chosen],
            "prior": bl.pi.ravel().tolist(),
            "returns": bl.bl_returns().tolist(),
            "covariance": bl.bl_cov().values.tolist(),
            "weights": [float(weights[ticker]) for ticker in tickers],
        })
    return {"market_values": values.tolist(), "risk_aversion": aversion, "tau": 0.05, "answers": found,
            "prior_with_rate": market_implied_prior_returns(values, aversion, S, 0.02).tolist()}


def pypfopt(path):
    prices = pd.read_csv(path, parse_dates=True, index_col="date")
    mu = expected_returns.mean_historical_return(prices)
    S = risk_models.sample_cov(prices)
    whole = prices.dropna()
    returns = expected_returns.returns_from_prices(whole)
    hrp = {}
    for linkage in ["single", "complete", "average"]:
        model = HRPOpt(returns)
        model.optimize(linkage)
        performance = [float(value) for value in model.portfolio_performance(risk_free_rate=0.0)]
        hrp[linkage] = {"weights": model.weights.tolist(), "performance": performance}
    shrinkage = lambda: risk_models.CovarianceShrinkage(whole)
    constant, factor = shrinkage(), shrinkage()
    covariances = {
        "sample": risk_models.sample_cov(whole),
        "semi": risk_models.semicovariance(whole, benchmark=0.0001),
        "exponential": risk_models.exp_cov(whole, span=120),
        "ledoit_wolf": shrinkage().ledoit_wolf(),
        "constant_correlation": constant.ledoit_wolf("constant_correlation"),
        "single_factor": factor.ledoit_wolf("single_factor"),
        "oracle_approximating": shrinkage().oracle_approximating(),
        "shrunk": shrinkage().shrunk_covariance(0.3),
    }
    market = returns.mean(axis=1)
    return {
        "source": "PyPortfolioOpt 1.6.0 (MIT licence), tests/resources/stock_prices.csv; see benches/portfolio/fixtures.py",
        "tickers": list(prices.columns),
        "expected_returns": mu.tolist(),
        "covariance": S.values.tolist(),
        "prices": whole.values.tolist(),
        "optimisers": optimisers(mu, S),
        "cvar": cvars(mu, returns),
        "hrp": hrp,
        "black_litterman": black_litterman(S),
        "covariances": {name: matrix.values.tolist() for name, matrix in covariances.items()},
        "shrinkages": {"constant_correlation": float(constant.delta), "single_factor": float(factor.delta)},
        "returns": {
            "mean": expected_returns.mean_historical_return(whole).tolist(),
            "arithmetic": expected_returns.mean_historical_return(whole, compounding=False).tolist(),
            "ema": expected_returns.ema_historical_return(whole, span=200).tolist(),
            "capm": expected_returns.capm_return(whole, risk_free_rate=0.02).tolist(),
        },
        "market_risk_aversion": float(market_implied_risk_aversion((1 + market).cumprod(), risk_free_rate=0.02)),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    FIXTURES.mkdir(parents=True, exist_ok=True)
    write("risk.json", risk())
    write("pypfopt.json", pypfopt(sys.argv[1]))
