#!/usr/bin/env python3
"""Measure two builds of the service turn by turn in one run, and print one table (Markdown): what a change costs.
Started by scripts/compare-builds.sh. Exit status 1 if a figure is void, or if the new build has less than --least of the old one's requests.
"""
import argparse
import statistics
import sys

from run import Bench, three_steps


class Build(Bench):
    """One of the two, with the same work in its database as the other."""

    def __init__(self, args, name, url):
        super().__init__(args)
        self.name, self.url = name, url
        self.args = argparse.Namespace(**{**vars(args), "ours": url})
        self.creation = {"name": "bench", "steps": {"a": {"name": "a", "step_type": "data_processing"}}}
        for _ in range(100):
            self.workflow = self.call(f"{url}/api/v1/agents/workflows", self.creation)[0]["id"]
        flow = three_steps(self)
        base = f"{url}/api/v1/agents/workflows"
        self.work = {
            "get one workflow": lambda: self.wrk(f"{name}-get", f"{base}/{self.workflow}"),
            "list 20 workflows": lambda: self.wrk(f"{name}-list", f"{base}?limit=20"),
            "create a workflow": lambda: self.wrk(f"{name}-create", base, self.creation),
            "three-step workflow": flow,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--old", "--new", "--key", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--least", type=float, default=0.97)
    args = parser.parse_args()
    old, new = Build(args, "old", args.old), Build(args, "new", args.new)
    print("| work | old, a second | new, a second | ratio | old p99, ms | new p99, ms |\n|---|---:|---:|---:|---:|---:|")
    slower = False
    # Reading comes first: lists become slower with what creating leaves.
    for work in old.work:
        figures = {"old": [], "new": []}
        for turn in range(args.rounds):
            for build in (old, new) if turn % 2 == 0 else (new, old):
                figures[build.name].append(build.work[work]())
        rate = {name: statistics.median(each[0] for each in rows) for name, rows in figures.items()}
        p99 = {name: statistics.median(each[2] for each in rows) for name, rows in figures.items()}
        ratio = rate["new"] / rate["old"]
        slower |= ratio < args.least
        print(f"| {work} | {rate['old']:.0f} | {rate['new']:.0f} | {ratio:.3f} | {p99['old']:.2f} | {p99['new']:.2f} |", flush=True)
    for reason in old.void + new.void:
        print(f"VOID: {reason}")
    return 1 if slower or old.void or new.void else 0


if __name__ == "__main__":
    sys.exit(main())
