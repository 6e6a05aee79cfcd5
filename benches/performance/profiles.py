"""Measures profiles of agents at 100,000 beside 1,000, and writes the table of docs/METHODS.md.

Everything runs in one go, turn by turn, on two databases of the same build, filled by copying rows that the service wrote; its own
triggers keep the counts. The audit log is on, as always.
"""

import argparse
import contextlib
import math
import os
import pathlib
import random
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.request

BENCHES = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCHES / "scale"), str(BENCHES / "economy")]
from economy import columns, copy_rows, write  # noqa: E402
from scale import API, Service, create_script, say, wrk  # noqa: E402

PROFILES = f"{API}/performance/profiles"
SUMMARY = f"{API}/performance/analytics/performance-summary"
HOURS = 24 * 7


def fill(database, count):
    """Copy the profile `measured` until there are `count`, over the hours of a week."""
    random.seed(count)
    db = sqlite3.connect(database, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000", "temp_store = MEMORY"):
        db.execute(f"PRAGMA {pragma}")
    scores = [min(100.0, max(0.0, random.gauss(60, 18))) for _ in range(count)]
    names = [f"copy-{number:06d}" for number in range(count)]
    ids = [f"perf_{number:012x}" for number in range(count)]
    of = ("agent_id = ?", ("measured",))
    copy_rows(db, "agent_performance_profiles", *of, ({"id": key, "profile_id": key, "agent_id": name, "overall_score": score} for key, name, score in zip(ids, names, scores)))
    # As score_bucket has it: the floor of 256 times the hyperbolic arcsine.
    rows = ({"agent_id": name, "id": key, "score": score, "bucket": math.floor(256 * math.asinh(score))} for key, name, score in zip(ids, names, scores))
    copy_rows(db, "am_profiles", *of, rows)
    # The hour of one row, and those before it.
    hour = db.execute("SELECT hour FROM am_profile_metrics WHERE agent_id = 'measured' AND metric = 'overall_score'").fetchone()[0]
    hours = [db.execute("SELECT strftime('%Y-%m-%dT%H', ? || ':00:00', ?)", (hour, f"-{back} hours")).fetchone()[0] for back in range(HOURS - 1)]
    values = ({"agent_id": name, "value": score, "hour": hours[number % len(hours)]} for number, (name, score) in enumerate(zip(names, scores)))
    copy_rows(db, "am_profile_metrics", "agent_id = ? AND metric = 'overall_score'", ("measured",), values)
    db.execute("UPDATE am_profile_work SET place = (SELECT max(rowid) FROM agent_performance_profiles) WHERE name = 'coordinator'")
    db.execute("PRAGMA optimize")
    found = db.execute("SELECT count(*) FROM am_profiles").fetchone()[0]
    assert found == count + 1 and columns(db, "am_profiles"), found
    db.close()


def report_script(folder):
    script = folder / "report.lua"
    script.write_text('wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\nlocal n = 0\nrequest = function()\n  n = n + 1\n  return wrk.format(nil, nil, nil, \'{"metrics": {"accuracy": \' .. 50 + n % 50 .. \', "latency": \' .. n % 9 .. "}}")\nend\n')
    return script


@contextlib.contextmanager
def peer(python, database, port):
    """The monolith's stack on a copy of a database; its address."""
    copy = database.with_name("peer.db")
    with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(copy)) as to:
        source.backup(to)
    command = [python, "-m", "uvicorn", "peer:app", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=pathlib.Path(__file__).parent, env={**os.environ, "PEER_DB": str(copy.resolve())})
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/openapi.json").read()
                break
            assert process.poll() is None, "the peer ended"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def beside_peer(python, service, rounds, seconds):
    """Reads of one profile a second by 16 clients, here and by the peer, in turns."""
    path, ours, theirs = f"{PROFILES}/measured", [], []
    with peer(python, service.folder / "coordinator.db", 8263) as url:
        for turn in range(rounds):
            for rates, address in ((ours, service.url), (theirs, url))[:: 1 if turn % 2 else -1]:
                rate, _, failed = wrk(address + path, 16, seconds)
                assert not failed, (address, failed)
                rates.append(rate)
    return statistics.median(ours), statistics.median(theirs)


def main():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--binary", required=True)
    parse.add_argument("--folder", required=True, type=pathlib.Path)
    parse.add_argument("--full", type=int, default=100_000)
    parse.add_argument("--small", type=int, default=1_000)
    parse.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--peer", help="the Python that has FastAPI and SQLModel")
    parse.add_argument("--out", type=pathlib.Path, help="the page between whose marks the table is written")
    given = parse.parse_args()
    services = []
    for name, port, count in (("full", 8261, given.full), ("small", 8262, given.small)):
        folder = given.folder / name
        for old in folder.glob("coordinator.db*"):
            old.unlink()
        service = Service(given.binary, folder, port)
        service.json(PROFILES, {"agent_id": "measured", "initial_metrics": {"accuracy": 60}})
        service.stop()
        fill(folder / "coordinator.db", count)
        services.append(Service(given.binary, folder, port))
    full, small = services
    reads = {"summary": SUMMARY, "ranking page": f"{PROFILES}?agent_type=hermes", "profile": f"{PROFILES}/measured"}
    rates = {name: ([], []) for name in reads}
    writes = {"report of two metrics": [], "workflow create": []}
    script, create = report_script(given.folder), create_script(given.folder)
    for turn in range(given.rounds):
        for name, path in reads.items():
            for at, service in enumerate((full, small)[:: 1 if turn % 2 else -1]):
                rate, _, failed = wrk(service.url + path, 1, given.seconds)
                assert not failed, (name, failed)
                rates[name][at if turn % 2 else 1 - at].append(rate)
        for name, path, body in (("report of two metrics", f"{PROFILES}/measured/metrics", script), ("workflow create", f"{API}/workflows", create)):
            rate, _, failed = wrk(full.url + path, 16, given.seconds, body)
            assert not failed, (name, failed)
            writes[name].append(rate)
    lines = ["| one client, reads a second | 100,000 profiles | 1,000 | time, ratio | wanted |", "|---|---:|---:|---:|---|"]
    for name, (large, few) in rates.items():
        large, few = statistics.median(large), statistics.median(few)
        wanted = "" if name == "profile" else "≤ 2"
        lines.append(f"| {name} | {large:.0f} | {few:.0f} | {few / large:.2f} | {wanted} |")
    reported, created = (statistics.median(writes[name]) for name in writes)
    lines += ["", "| 16 clients, a second, 100,000 profiles | rate | of workflow creates | wanted |", "|---|---:|---:|---|"]
    lines.append(f"| report of two metrics | {reported:.0f} | {reported / created:.2f} | ≥ 0.5 |")
    lines.append(f"| workflow create | {created:.0f} | 1 | |")
    if given.peer:
        ours, theirs = beside_peer(given.peer, full, given.rounds, given.seconds)
        lines += ["", "| 16 clients, reads of one profile a second | here | FastAPI, SQLModel | times | wanted |", "|---|---:|---:|---:|---|"]
        lines.append(f"| profile | {ours:.0f} | {theirs:.0f} | {ours / theirs:.1f} | ≥ 20 |")
    text = "\n".join(lines)
    say(text)
    for service in services:
        service.stop()
    if given.out:
        write(given.out, "profiles", text)


if __name__ == "__main__":
    main()
