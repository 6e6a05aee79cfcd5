"""Prints what scripts/rl-serving.sh measured as a table: the median round of each kind of load."""

import json
import statistics
import sys

BATCH = 1024

rounds = {}
for line in open(sys.argv[1]):
    kind, requests, microseconds, bad, p50, p99 = line.split()
    if int(bad):
        sys.exit(f"{kind}: {bad} requests failed")
    rate = int(requests) / (int(microseconds) / 1e6)
    rounds.setdefault(kind, []).append((rate, float(p50) / 1000, float(p99) / 1000))
run = json.load(open(sys.argv[2]))


def median(kind, column):
    return statistics.median(row[column] for row in rounds[kind])


health, act, single = median("health", 0), median("act", 0), median("idle", 0)
batch, exact = BATCH * median("batch", 0), BATCH * median("exact", 0)
idle, busy = median("idle", 2), median("training", 2)
print("| what | measured | against | ratio |")
print("|---|---:|---|---:|")
print(f"| `act`, one state, 32 connections, a second | {act:,.0f} (p99 {median('act', 2):.1f} ms) | `/health`: {health:,.0f} | {act / health:.2f} |")
print(f"| {BATCH} states a call, states a second | {batch:,.0f} | one state a call, 32 connections: {act:,.0f} | {batch / act:.1f} |")
print(f"| the same | {batch:,.0f} | one state a call, one connection: {single:,.0f} | {batch / single:.0f} |")
print(f"| the same, exact | {exact:,.0f} | one state a call, 32 connections: {act:,.0f} | {exact / act:.1f} |")
print(f"| p99 of one connection while a run trains, ms | {busy:.2f} | idle: {idle:.2f} | {busy / idle:.2f} |")
print()
print(f"The run did {run['steps_per_second']:,.0f} environment steps a second meanwhile.")
