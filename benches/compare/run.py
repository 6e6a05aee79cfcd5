#!/usr/bin/env python3
"""Measure the running service against its running peers, and print one table (Markdown). Started by scripts/compare.sh.

First compare.py against the monolith's stack, then a durable workflow of three steps, turn by turn: through HTTP against
Restate (same wrk, same connections), and against DBOS, Duroxide and assay-engine, each called by a program of its
own.
Raw output goes into --out. Exit status 1 if any figure is void: an answer other than 2xx, or an execution that did not complete.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
UNIT = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def jq(program, **rest):
    return {"step_type": "data_processing", "action": {"kind": "jq", "program": program}, **rest}


THREE_STEPS = {
    "name": "three steps",
    "steps": {
        "a": jq(". + {a: 1}"),
        "b": jq("{b: (.x + 1)}", depends_on=["a"], input_mappings={"x": "$.steps.a.output.a"}),
        "c": jq("{c: (.x + 1)}", depends_on=["b"], input_mappings={"x": "$.steps.b.output.b"}),
    },
}


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * UNIT[unit]


class Bench:
    """What one run shares: the arguments, the raw output, and whether anything went wrong."""

    def __init__(self, args):
        self.args, self.out, self.void = args, pathlib.Path(args.out), []

    def keep(self, name, text):
        with open(self.out / f"{name}.txt", "a") as raw:
            raw.write(text + "\n")

    def call(self, url, body=None):
        headers = {"content-type": "application/json", "x-api-key": self.args.key}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return json.load(answer), answer.headers

    def wrk(self, name, url, body=None):
        """Requests a second, median and 99th percentile in ms, and the number of requests."""
        script = [f'wrk.headers["X-Api-Key"] = "{self.args.key}"']
        if body is not None:
            script += ['wrk.method = "POST"', 'wrk.headers["Content-Type"] = "application/json"', f"wrk.body = [[{json.dumps(body)}]]"]
        lua = self.out / f"{name}.lua"
        lua.write_text("\n".join(script))
        command = ["wrk", "-t1", f"-c{self.args.connections}", f"-d{self.args.seconds}s", "--timeout", "15s", "--latency", "-s", str(lua), url]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=self.args.seconds + 60).stdout
        self.keep(name, text)
        if "Non-2xx" in text or "Socket errors" in text:
            self.void.append(f"{name}: errors, see {self.out}/{name}.txt")
        # A deviation printed as 70.99% is no percentile: those begin their line.
        rate, median, p99, count = (re.search(pattern, text, re.MULTILINE)[1] for pattern in (
            r"Requests/sec:\s+([\d.]+)", r"^\s+50%\s+(\S+)", r"^\s+99%\s+(\S+)", r"(\d+) requests in"))
        return float(rate), milliseconds(median), milliseconds(p99), int(count)


def routes(bench):
    """compare.py as it is, and the peer's medians, which it does not print."""
    args = bench.args
    command = [sys.executable, str(HERE / "compare.py"), args.ours, args.peer, "--key", args.key, "--seconds", str(args.seconds),
               "--rounds", str(args.rounds), "--connections", str(args.connections)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 8 * args.rounds * (args.seconds + 5))
    bench.keep("compare", done.stdout + done.stderr)
    if done.returncode:
        bench.void.append(f"compare.py: {(done.stdout + done.stderr).strip()[-400:]}")
    workflow = bench.call(f"{args.peer}/api/v1/agents/workflows?limit=1")[0][0]["id"]
    creation = {"name": "bench", "steps": {"a": {"name": "a", "step_type": "data_processing"}}}
    medians = {
        "health": bench.wrk("peer-health", f"{args.peer}/health")[1],
        "get one workflow": bench.wrk("peer-get", f"{args.peer}/api/v1/agents/workflows/{workflow}")[1],
        "list 20 workflows": bench.wrk("peer-list", f"{args.peer}/api/v1/agents/workflows?limit=20")[1],
        "create a workflow": bench.wrk("peer-create", f"{args.peer}/api/v1/agents/workflows", creation)[1],
    }
    goals = {"get one workflow": 30, "list 20 workflows": 20, "create a workflow": 20}
    line = re.compile(r"(.{20}) ours\s+(\d+)/s \(p99 (\S+)\)\s+peer\s+(\d+)/s \(p99 (\S+)\)\s+ratio\s+([\d.]+)")
    for work, ours, p99, peer, _, ratio in line.findall(done.stdout):
        work = work.strip()
        yield work, float(ours), milliseconds(p99), "FastAPI, SQLModel", float(peer), medians[work], float(ratio), goals.get(work)


def three_steps(bench):
    """The workflow on ours; what wrk counted must have completed, by the service's own count."""
    args = bench.args
    workflow = bench.call(f"{args.ours}/api/v1/agents/workflows", THREE_STEPS)[0]["id"]
    execute = f"{args.ours}/api/v1/agents/workflows/{workflow}/execute?wait=10"
    body = {"workflow_id": workflow, "inputs": {}}
    first = bench.call(execute, body)[0]
    if first["status"] != "completed":
        raise SystemExit(f"the three-step workflow does not complete: {first}")

    def completed():
        url = f"{args.ours}/api/v1/agents/executions?workflow_id={workflow}&status=completed&limit=1"
        return int(bench.call(url)[1]["X-Total-Count"])

    def measure():
        before = completed()
        figures = bench.wrk("ours-three-steps", execute, body)
        if completed() - before < figures[3]:
            bench.void.append("three steps: not every execution that was answered had completed")
        return figures

    return measure


def program(bench, name, command):
    """A peer that is a program with callers of its own: it prints its figures, or fails if one execution did not complete."""
    args = bench.args
    command = [*command, "--seconds", str(args.seconds), "--callers", str(args.connections)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.seconds + 120)
    except subprocess.TimeoutExpired:
        bench.void.append(f"{name}: it does not end")
        return None
    bench.keep(name, done.stdout + done.stderr)
    line = re.search(r"^rate=.*$", done.stdout, re.MULTILINE)
    if done.returncode or not line:
        bench.void.append(f"{name}: {(done.stdout + done.stderr).strip()[-400:]}")
        return None
    return dict(part.split("=") for part in line[0].split())


def settled(figures):
    """The medians of a program's rates and of its median latencies, and its settings, as SQLite has told them."""
    seen = [each for each in figures if each]
    if not seen:
        return float("nan"), None, "void"
    settings = {f"SQLite, {each['journal_mode'].upper()}, synchronous={each['synchronous'].upper()}" for each in seen}
    rate, median = (statistics.median(float(each[name]) for each in seen) for name in ("rate", "median_ms"))
    return rate, median, " or ".join(sorted(settings))


def engines(bench):
    args = bench.args
    answer = bench.call(args.restate, "x")[0]
    if answer != "x-a-b-c":
        raise SystemExit(f"Restate answers {answer!r}")
    # What raw output is called, name in the table, wanted ratio, command.
    programs = [
        ("duroxide", "duroxide", 1.0, args.duroxide),
        ("duroxide-own", "duroxide", None, args.duroxide, "--synchronous", "as-shipped"),
        ("assay", "assay-engine", 1.0, args.assay),
    ]
    ours_once, ours, restate, dbos = three_steps(bench), [], [], []
    others = {output: [] for output, *_ in programs}
    for _ in range(args.rounds):
        ours.append(ours_once())
        restate.append(bench.wrk("restate", args.restate, "x"))
        text = subprocess.run([sys.executable, str(HERE / "dbos_peer.py")], capture_output=True, text=True, check=True, timeout=300).stdout
        bench.keep("dbos", text)
        dbos.append(max(float(rate) for rate in re.findall(r"threads\s+([\d.]+)", text)))
        for output, _, _, *command in programs:
            others[output].append(program(bench, output, command))
    rate, _, p99, _ = map(statistics.median, zip(*ours))
    other, median, _, _ = map(statistics.median, zip(*restate))
    yield "durable three-step workflow", rate, p99, "Restate", other, median, rate / other, 2.5
    other = statistics.median(dbos)
    yield "durable three-step workflow", rate, p99, "DBOS (its best of 1, 8, 32 threads)", other, None, rate / other, 20
    for output, name, goal, *_ in programs:
        other, median, settings = settled(others[output])
        yield "durable three-step workflow", rate, p99, f"{name} ({settings})", other, median, rate / other, goal


def resident(pid):
    """MB resident of a process and its children: every shared page counted once for each."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = {who: int(pathlib.Path(f"/proc/{who}/statm").read_text().split()[1]) for who in [str(pid), *children]}
    mb = {who: count * 4096 / 1e6 for who, count in pages.items()}
    return mb.pop(str(pid)), list(mb.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--ours", "--peer", "--restate", "--duroxide", "--assay", "--key", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--pid", type=int, required=True, help="our server's process, for its memory at rest")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    args = parser.parse_args()
    bench = Bench(args)
    own, workers = resident(args.pid)
    begun = time.monotonic()
    lines = ["| work | ours, a second | our p99, ms | against | a second | its median, ms | ratio | wanted |", "|---|---:|---:|---|---:|---:|---:|---:|"]
    for work, ours, p99, name, other, median, ratio, goal in [*routes(bench), *engines(bench)]:
        lines.append(f"| {work} | {ours:.0f} | {p99:.2f} | {name} | {other:.0f} | {'' if median is None else f'{median:.2f}'} | {ratio:.1f} | {'' if goal is None else f'≥ {goal}'} |")
    lines.append("")
    lines.append(f"Memory at rest: {own:.0f} MB" + (f", and {len(workers)} jq workers of {max(workers):.0f} MB" if workers else "") + f". "
                 f"{args.connections} connections, {args.rounds} rounds of {args.seconds} s, medians; {time.monotonic() - begun:.0f} s in all.")
    lines += [f"VOID: {reason}" for reason in bench.void]
    table = "\n".join(lines)
    (bench.out / "table.md").write_text(table + "\n")
    print(table)
    return 1 if bench.void else 0


if __name__ == "__main__":
    sys.exit(main())
