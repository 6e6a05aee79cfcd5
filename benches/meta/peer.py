"""Second-order MAML on ten-shot sinusoids in plain PyTorch: the counterpart of `meta_bench speed`, turn by turn with it.

    python peer.py EXECUTABLE ITERATIONS [ROUNDS]

The settings are the defaults of `meta_bench`: 25 tasks an iteration, 10 support and 10 query examples, one inner step of 0.01, two
hidden layers of 40 units, Adam with 0.003. Two forms are timed: a loop over the tasks, as MAML is usually written, and
`torch.func.vmap` over them. One core each. Fails if the loop is not 1.5 times slower.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time

for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[name] = "1"

import torch
from torch.func import functional_call, grad, vmap

torch.set_num_threads(1)
TASKS, SHOTS, QUERIES, UNITS, INNER, OUTER, FIRST, WANTED = 25, 10, 10, 40, 0.01, 0.003, 50, 1.5


def network():
    layers = [torch.nn.Linear(1, UNITS), torch.nn.ReLU(), torch.nn.Linear(UNITS, UNITS), torch.nn.ReLU(), torch.nn.Linear(UNITS, 1)]
    return torch.nn.Sequential(*layers)


def tasks():
    amplitude = torch.empty(TASKS, 1, 1).uniform_(0.1, 5.0)
    phase = torch.empty(TASKS, 1, 1).uniform_(0.0, math.pi)
    x = torch.empty(TASKS, SHOTS + QUERIES, 1).uniform_(-5.0, 5.0)
    y = amplitude * torch.sin(x - phase)
    return x[:, :SHOTS], y[:, :SHOTS], x[:, SHOTS:], y[:, SHOTS:]


def loop_loss(model, batch):
    total = 0.0
    names = [name for name, _ in model.named_parameters()]
    for x, y, query_x, query_y in zip(*batch):
        parameters = list(model.parameters())
        loss = torch.nn.functional.mse_loss(model(x), y)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        adapted = {name: p - INNER * g for name, p, g in zip(names, parameters, gradients)}
        total = total + torch.nn.functional.mse_loss(functional_call(model, adapted, query_x), query_y)
    return total / TASKS


def vmap_loss(model, batch):
    parameters = dict(model.named_parameters())

    def loss(parameters, x, y):
        return torch.nn.functional.mse_loss(functional_call(model, parameters, x), y)

    def of_task(x, y, query_x, query_y):
        gradients = grad(loss)(parameters, x, y)
        return loss({name: p - INNER * gradients[name] for name, p in parameters.items()}, query_x, query_y)

    return vmap(of_task)(*batch).mean()


def speed(form, iterations):
    torch.manual_seed(1)
    model = network()
    optimiser = torch.optim.Adam(model.parameters(), lr=OUTER)
    begun = None
    for iteration in range(FIRST + iterations):
        if iteration == FIRST:
            begun = time.perf_counter()
        optimiser.zero_grad()
        form(model, tasks()).backward()
        optimiser.step()
    return iterations / (time.perf_counter() - begun)


def ours(executable, iterations):
    answer = subprocess.run([executable, "speed", str(iterations)], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)["meta_iterations_per_second"]


def main():
    executable, iterations = sys.argv[1], int(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    found = {"ours": [], "loop": [], "vmap": []}
    for _ in range(rounds):
        found["ours"].append(ours(executable, iterations))
        found["loop"].append(speed(loop_loss, iterations))
        found["vmap"].append(speed(vmap_loss, iterations))
    medians = {name: statistics.median(values) for name, values in found.items()}
    ratios = {name: statistics.median(o / p for o, p in zip(found["ours"], found[name])) for name in ["loop", "vmap"]}
    print(f"torch {torch.__version__}, meta-iterations a second, medians of {rounds} rounds: {medians}")
    print(f"ours beside the loop {ratios['loop']:.2f}, beside vmap {ratios['vmap']:.2f}")
    if ratios["loop"] < WANTED:
        sys.exit(f"not {WANTED} times as fast as plain PyTorch")


main()
