"""The tree-structured Parzen estimator of am-performance-math beside Optuna's, on three functions: the same trials and seeds, one
core, turn by turn. Writes the table between the markers of docs/METHODS.md.

    peer.py BENCH TRIALS SEEDS
"""

import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def branin(at):
    x, y = at
    square = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return square**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def rosenbrock(at):
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in zip(at, at[1:]))


ALPHA = [1.0, 1.2, 3.0, 3.2]
A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
P = [
    [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
    [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
    [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
    [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
]


def hartmann6(at):
    return -sum(
        alpha * math.exp(-sum(a * (x - p) ** 2 for a, x, p in zip(row, at, place)))
        for alpha, row, place in zip(ALPHA, A, P)
    )


FUNCTIONS = [
    (branin, [(-5, 10), (0, 15)], 0.397887357729738),
    (rosenbrock, [(-2, 2)] * 4, 0.0),
    (hartmann6, [(0, 1)] * 6, -3.322368011415515),
]


def optuna_search(function, bounds, least, trials, seed):
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))

    def objective(trial):
        return function([trial.suggest_float(f"x{at}", low, high) for at, (low, high) in enumerate(bounds)])

    began = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    return study.best_value - least, (time.perf_counter() - began) / trials


def main():
    bench, trials, seeds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    own = json.loads(subprocess.check_output([bench, str(trials), str(seeds)]))
    lines = [
        f"| function ({trials} trials, {seeds} seeds) | mean regret | Optuna {optuna.__version__} | share | µs a trial | Optuna | times |",
        "|---|---|---|---|---|---|---|",
    ]
    for found, (function, bounds, least) in zip(own, FUNCTIONS):
        peers = [optuna_search(function, bounds, least, trials, seed) for seed in range(seeds)]
        regret = statistics.mean(regret for regret, _ in peers)
        seconds = statistics.mean(seconds for _, seconds in peers)
        mine = statistics.mean(found["regrets"])
        lines.append(
            f"| {found['name']} | {mine:.4g} | {regret:.4g} | {mine / regret:.2f} | {1e6 * found['seconds']:.0f} |"
            f" {1e6 * seconds:.0f} | {seconds / found['seconds']:.0f} |"
        )
    table = "\n".join(lines)
    print(table)
    document = pathlib.Path("docs/METHODS.md")
    text = document.read_text()
    before, rest = text.split("<!-- search -->", 1)
    _, after = rest.split("<!-- /search -->", 1)
    document.write_text(f"{before}<!-- search -->\n{table}\n<!-- /search -->{after}")


main()
