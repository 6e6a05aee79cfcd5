"""Times am-portfolio-math beside PyPortfolioOpt on the same returns, turn by turn, each on one core.

    python peer.py EXECUTABLE PLACE [ROUNDS]

Prints a table. Fails if an optimiser is less than five times as fast, or finds a worse portfolio than its peer. The
covariance that they are given is timed as well, and only shown.
"""

import json
import os
import subprocess
import sys
import time
import warnings

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[name] = "1"

import numpy as np
import pandas as pd
from pypfopt import BlackLittermanModel, EfficientCVaR, EfficientFrontier, HRPOpt, expected_returns, risk_models

ASSETS, PERIODS, CALLS, WANTED = 500, 756, 3, 5.0


def market():
    """Three years of daily returns: a market, ten sectors, and noise of each asset's own."""
    rng = np.random.default_rng(7)
    common = rng.normal(0.0004, 0.009, PERIODS)
    sectors = rng.normal(0, 0.006, (PERIODS, 10))[:, np.arange(ASSETS) % 10]
    load, own = rng.uniform(0.5, 1.5, ASSETS), rng.uniform(0.008, 0.025, ASSETS)
    returns = common[:, None] * load + sectors + rng.normal(size=(PERIODS, ASSETS)) * own + rng.normal(0, 0.0003, ASSETS)
    return pd.DataFrame(returns, columns=[f"A{at:03}" for at in range(ASSETS)])


def peers(returns):
    """Each optimiser as PyPortfolioOpt has it, and how good weights are by its objective: lower is better."""
    mu = expected_returns.mean_historical_return(returns, returns_data=True)
    S = risk_models.CovarianceShrinkage(returns, returns_data=True).ledoit_wolf()
    m, s, r = mu.values, S.values, returns.values

    def cvar(w):
        losses = np.sort(-(r @ w))[::-1]
        size = 0.05 * len(losses)
        whole = int(size)
        return (losses[:whole].sum() + (size - whole) * losses[whole]) / size

    found = {"ledoit_wolf": (
        lambda: risk_models.CovarianceShrinkage(returns, returns_data=True).ledoit_wolf().values[:, 0], None)}
    for suffix, bounds, target in [("", (0, 1), 0.2), (" at most 0.02 each", (0, 0.02), 0.12)]:
        ef = lambda bounds=bounds, **more: EfficientFrontier(mu, S, weight_bounds=bounds, **more)
        variance = lambda w: w @ s @ w
        # The default solver, OSQP, gives up on the maximum Sharpe ratio at its limit of iterations.
        found |= {
            f"minimum_variance{suffix}": (lambda ef=ef: ef().min_volatility(), variance),
            f"maximum_sharpe{suffix}": (
                lambda ef=ef: ef(solver="CLARABEL").max_sharpe(0.02),
                lambda w: -(m @ w - 0.02) / np.sqrt(variance(w))),
            f"quadratic_utility{suffix}": (lambda ef=ef: ef().max_quadratic_utility(2), lambda w: variance(w) - m @ w),
            f"efficient_return{suffix}": (lambda ef=ef, target=target: ef().efficient_return(target), variance),
            f"efficient_risk{suffix}": (lambda ef=ef: ef().efficient_risk(0.15), lambda w: -(m @ w)),
            f"minimum_cvar{suffix}": (
                lambda bounds=bounds: EfficientCVaR(mu, returns, weight_bounds=bounds).min_cvar(), cvar),
        }
    found["hierarchical_risk_parity"] = (lambda: HRPOpt(returns).optimize(), None)
    values = pd.Series(1.0, index=returns.columns)

    def views():
        model = BlackLittermanModel(S, pi="market", market_caps=values, absolute_views={"A001": 0.1, "A100": 0.2})
        weights = model.bl_weights()
        model.bl_cov()
        return weights

    found["black_litterman"] = (views, None)
    return found


def timed(call):
    best = float("inf")
    for _ in range(CALLS):
        began = time.perf_counter()
        answer = call()
        best = min(best, time.perf_counter() - began)
    return best, np.array(list(answer.values()) if hasattr(answer, "values") else answer)


def main():
    warnings.filterwarnings("ignore")
    executable, place, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 3
    returns = market()
    path = os.path.join(place, "returns.csv")
    np.savetxt(path, returns.values, delimiter=",", fmt="%.17g")
    own, other, answers = {}, {}, {}
    tasks = peers(returns)
    for _ in range(rounds):
        for line in subprocess.run([executable, path], check=True, capture_output=True, text=True).stdout.splitlines():
            row = json.loads(line)
            own.setdefault(row["name"], []).append(row["seconds"])
            answers[row["name"]] = np.array(row["weights"])
        for name, (call, _) in tasks.items():
            seconds, weights = timed(call)
            other.setdefault(name, []).append((seconds, weights))
    print(f"{ASSETS} assets, {PERIODS} periods, one core, median of {rounds} rounds in turn\n")
    print("| | here | PyPortfolioOpt | times as fast | weights differ by at most | objective, here less there |")
    print("|---|---|---|---|---|---|")
    failed = []
    for name, (_, objective) in tasks.items():
        here, there = np.median(own[name]), np.median([seconds for seconds, _ in other[name]])
        weights = other[name][-1][1]
        ratio = there / here
        apart = np.abs(answers[name] - weights).max()
        worse = objective(answers[name]) - objective(weights) if objective else 0.0
        # Solvers of low accuracy break constraints by about this much.
        if worse > 1e-4 or (ratio < WANTED and name != "ledoit_wolf"):
            failed.append(name)
        print(f"| {name.replace('_', ' ')} | {here * 1e3:.1f} ms | {there * 1e3:.1f} ms | {ratio:.1f} | {apart:.1e} "
              f"| {worse:+.1e} |" if objective else
              f"| {name.replace('_', ' ')} | {here * 1e3:.1f} ms | {there * 1e3:.1f} ms | {ratio:.1f} | {apart:.1e} | |")
    if failed:
        sys.exit(f"too slow, or worse than the peer: {', '.join(failed)}")


main()
