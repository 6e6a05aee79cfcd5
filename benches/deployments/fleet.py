"""Measures deployments, and writes the table of docs/DEPLOYMENTS.md: what keeping 50 instances costs, how soon 10 that are killed at random
serve again, and what the proxy adds to a call. Exits with an error when a figure misses its bound.

Everything runs on one service. What the supervision costs is what the service and the supervisor use with the instances, less what the
service uses without them. Calls through the proxy and to the instance itself take turns.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import random
import signal
import statistics
import sys
import time

BENCHES = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCHES / "scale"), str(BENCHES / "economy")]
from economy import write  # noqa: E402
from scale import API, OWNER, Service, wrk  # noqa: E402

DEPLOYMENTS = f"{API}/integration/deployments"
PATIENCE = 120
# The bounds, and the back-off before the first restart.
MOST_OF_A_CORE, MOST_REPAIR, BACK_OFF, MOST_OVERHEAD, LEAST_SHARE = 0.02, 5.0, 0.2, 0.3, 0.5


def say(*words):
    print("bench-deployments:", *words, file=sys.stderr, flush=True)


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def supervisor_of(folder):
    """The process of the supervisor whose directory is below `folder`."""
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0") if entry.name.isdigit() else []
            if "supervise" in words and any(word.startswith(str(folder)) for word in words):
                return int(entry.name)
    raise SystemExit("there is no supervisor")


def until(what, look, pause=0.05):
    """What `look` returns once it is true."""
    began = time.monotonic()
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"{what}: it did not come within {PATIENCE} s")
        time.sleep(pause)


class Deployment:
    """A workflow of one step with so many instances."""

    def __init__(self, service, name, count, program):
        self.service, self.count = service, count
        steps = {"a": {"step_type": "data_processing", "action": {"kind": "jq", "program": program}}}
        workflow = service.json(f"{API}/workflows", {"name": name, "steps": steps})["id"]
        # Checks at their usual interval. Not rolled out one by one: that is not what is measured.
        config = {"min_instances": count, "max_instances": count, "auto_scaling": False, "rollout_strategy": "blue-green", "min_memory_mb": 128}
        made = service.json(f"{DEPLOYMENTS}/config?workflow_id={workflow}&deployment_name={name}", config)
        self.id, self.interval = made["id"], made["health_check_interval"]
        service.json(f"{DEPLOYMENTS}/{self.id}/deploy", {})
        until(f"{count} instances", self.is_whole, 0.2)

    def health(self):
        return self.service.json(f"{DEPLOYMENTS}/{self.id}/health")

    def is_whole(self):
        state = self.service.json(f"{DEPLOYMENTS}/configs/{self.id}")
        return state["rollout"] is None and self.health()["healthy_instances"] == self.count

    def instances(self):
        rows = self.service.json(f"{DEPLOYMENTS}/instances?deployment_id={self.id}&limit=500")
        return [row for row in rows if row["state"] == "serving"]

    def restarts(self):
        return sum(one["restarts"] for one in self.health()["instances"])

    def end(self):
        self.service.call(f"{DEPLOYMENTS}/{self.id}", method="DELETE")
        until("the end", lambda: self.health()["total_instances"] == 0, 0.2)


def measure_supervision(service, fleet, supervisor, seconds, idle):
    """Shares of a core: supervision, the instances themselves."""
    pids = [one["pid"] for one in fleet.instances()]
    before = [processor_seconds(pid) for pid in (service.process.pid, supervisor, *pids)]
    began = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    after = [processor_seconds(pid) for pid in (service.process.pid, supervisor, *pids)]
    shares = [(late - early) / passed for late, early in zip(after, before)]
    return shares[0] + shares[1] - idle, sum(shares[2:])


def measure_repair(fleet, count, rounds):
    """Seconds from the kill of `count` random instances until all are healthy again, each round."""
    times = []
    for _ in range(rounds):
        before, chosen = fleet.restarts(), random.sample(fleet.instances(), count)
        began = time.monotonic()
        for one in chosen:
            os.kill(one["pid"], signal.SIGKILL)
        until("the repair", lambda: fleet.restarts() >= before + count and fleet.health()["healthy_instances"] == fleet.count, 0.02)
        times.append(time.monotonic() - began)
        # So that no instance ends often enough to wait for longer, or to be given up.
        time.sleep(31)
    return times


class Caller:
    """One kept connection that posts the same call again and again."""

    def __init__(self, port, path, headers):
        self.connection, self.path = http.client.HTTPConnection("127.0.0.1", port, timeout=30), path
        self.headers = {"content-type": "application/json"} | headers

    def milliseconds(self):
        began = time.perf_counter()
        self.connection.request("POST", self.path, b'{"inputs": {"n": 1}}', self.headers)
        answer = self.connection.getresponse()
        body = json.loads(answer.read())
        passed = (time.perf_counter() - began) * 1000
        if answer.status != 200 or body["status"] != "completed":
            raise SystemExit(f"a call failed: {answer.status} {body}")
        return passed


def call_script(folder, name, headers):
    script = folder / f"{name}.lua"
    lines = ["wrk.method = 'POST'", "wrk.body = '{\"inputs\": {\"n\": 1}}'", "wrk.headers['content-type'] = 'application/json'"]
    lines += [f"wrk.headers['{header}'] = '{value}'" for header, value in headers.items()]
    script.write_text("\n".join(lines) + "\n")
    return script


def measure_proxy(service, one, folder, calls, seconds, rounds):
    """Medians in ms by way of the proxy and without it, one call at a time; and both rates with eight callers."""
    (instance,) = one.instances()
    token = (folder / "deployments" / "tokens" / instance["id"]).read_text().strip()
    direct = {"authorization": f"Bearer {token}"}
    path = f"{DEPLOYMENTS}/{one.id}/invoke?wait=20"
    ways = [Caller(service.port, path, {"x-api-key": OWNER}), Caller(instance["port"], "/invoke?wait=20", direct)]
    times = ([], [])
    for turn in range(calls + 50):
        for way in (0, 1) if turn % 2 else (1, 0):
            passed = ways[way].milliseconds()
            if turn >= 50:
                times[way].append(passed)
    addresses = [(service.url + path, call_script(folder, "proxy", {})), (f"http://127.0.0.1:{instance['port']}/invoke?wait=20", call_script(folder, "direct", direct))]
    rates = ([], [])
    for turn in range(rounds):
        for way in (0, 1) if turn % 2 else (1, 0):
            address, script = addresses[way]
            rate, _, failed = wrk(address, 8, seconds, script)
            if failed:
                raise SystemExit(f"{failed} calls failed")
            rates[way].append(rate)
    return [statistics.median(found) for found in (*times, *rates)]


def main():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--binary", required=True)
    parse.add_argument("--folder", required=True, type=pathlib.Path)
    parse.add_argument("--instances", type=int, default=50)
    parse.add_argument("--kill", type=int, default=10)
    parse.add_argument("--rest", type=float, default=60, help="seconds of each measurement at rest")
    parse.add_argument("--calls", type=int, default=2000)
    parse.add_argument("--seconds", type=int, default=5, help="of each measurement of a rate")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--seed", type=int, default=1, help="of which instances are killed")
    parse.add_argument("--out", type=pathlib.Path, help="the page between whose marks the table is written")
    given = parse.parse_args()
    random.seed(given.seed)
    folder = given.folder.resolve()
    for old in folder.glob("coordinator.db*"):
        old.unlink()
    service = Service(given.binary, folder, 8271, DEPLOYMENT_ALLOW_ROOT="true" if os.geteuid() == 0 else "false")
    supervisor, living = None, []
    try:
        time.sleep(5)
        began, used = time.monotonic(), service.processor_seconds()
        time.sleep(given.rest)
        idle = (service.processor_seconds() - used) / (time.monotonic() - began)
        say(f"the service alone uses {idle:.2%} of a core")
        fleet = Deployment(service, "fleet", given.instances, ".n")
        living.append(fleet)
        supervisor = supervisor_of(folder)
        # What starts is measured and sampled more often for a while.
        time.sleep(10)
        supervision, own = measure_supervision(service, fleet, supervisor, given.rest, idle)
        memory = statistics.median(resident_mib(one["pid"]) for one in fleet.instances())
        repairs = measure_repair(fleet, given.kill, given.rounds)
        living.remove(fleet)
        fleet.end()
        one = Deployment(service, "one", 1, ".n")
        living.append(one)
        through, beside, rate, own_rate = measure_proxy(service, one, folder, given.calls, given.seconds, given.rounds)
    finally:
        for deployment in living:
            with contextlib.suppress(Exception, SystemExit):
                deployment.end()
        service.stop()
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(supervisor, signal.SIGTERM)
    figures = [
        (f"supervision of {given.instances} instances at rest, share of a core", f"{max(supervision, 0):.2%}", f"< {MOST_OF_A_CORE:.0%}", supervision < MOST_OF_A_CORE),
        ("their own processor time, share of a core", f"{own:.2%}", "", True),
        ("memory of an instance, median", f"{memory:.1f} MiB", "", True),
        (f"{given.kill} killed at random, all healthy again, slowest of {given.rounds}", f"{max(repairs):.2f} s", f"≤ {MOST_REPAIR + BACK_OFF:.1f} s", max(repairs) <= MOST_REPAIR + BACK_OFF),
        ("a call through the proxy, median", f"{through:.3f} ms", "", True),
        ("the same call to its instance, median", f"{beside:.3f} ms", "", True),
        ("what the proxy adds", f"{through - beside:.3f} ms", f"< {MOST_OVERHEAD} ms", through - beside < MOST_OVERHEAD),
        ("8 callers through the proxy, calls a second", f"{rate:.0f}", "", True),
        ("8 callers to the instance, calls a second", f"{own_rate:.0f}", "", True),
        ("the proxy's share of the instance's own rate", f"{rate / own_rate:.2f}", f"≥ {LEAST_SHARE}", rate / own_rate >= LEAST_SHARE),
    ]
    lines = ["| figure | measured | wanted |", "|---|---:|---|"] + [f"| {name} | {value} | {wanted} |" for name, value, wanted, _ in figures]
    lines += ["", f"Checks every {fleet.interval} s, as usual. The service alone used {idle:.2%} of a core, which is not counted."]
    text = "\n".join(lines)
    say("\n" + text)
    if given.out:
        write(given.out, "deployments", text)
    missed = [name for name, _, _, good in figures if not good]
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
