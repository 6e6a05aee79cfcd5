#!/usr/bin/env python3
"""Measure by how much one principal's flood delays another's single requests, and print one table (Markdown).

Starts the service given by --binary on a database of its own. First B's requests are measured alone; then A floods the engine, the jq
workers, assignments and plans, and B's are measured again. Exit status 1 if a median is more than --most times as long.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

A, B = "flooding-admin-key-0123456789", "single-admin-key-9876543210"
GROUP = "/api/v1/agents"
# So long does one program of the flood take, about: a tenth of a second of processor time.
LONG = "reduce range(200000) as $i (0; . + 1)"


class Service:
    """A running service, and requests to it."""

    def __init__(self, binary, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
            "APP_ENV": "production",
            "APP_PORT": str(self.port),
            "DATA_DIR": folder,
            "ADMIN_API_KEYS": f"{A},{B}",
            "CLIENT_API_KEYS": "client-key-0123456789abcdef",
            "MINER_API_KEYS": "miner-key-0123456789abcdefg",
            "LOG_LEVEL": "error",
        }
        self.process = subprocess.Popen([binary, "serve"], env=environment, cwd=folder)
        self.until(lambda: self.call(A, "GET", "/health/ready", None), 120)

    def until(self, done, seconds):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return done()
            except (OSError, AssertionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def ask(self, key, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "x-api-key": key}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.headers, json.loads(answer.read() or b"null")

    def call(self, key, method, path, body=None):
        return self.ask(key, method, path, body)[1]

    def count(self, key, path):
        """How many rows the list at this path has."""
        return int(self.ask(key, "GET", path)[0]["x-total-count"])

    def workflow(self, key, steps):
        return self.call(key, "POST", f"{GROUP}/workflows", {"name": "fairness", "steps": steps})["id"]

    def run(self, key, workflow, wait=60):
        path = f"{GROUP}/workflows/{workflow}/execute?wait={wait}"
        return self.call(key, "POST", path, {})


def jq(program):
    return {"step_type": "data_processing", "action": {"kind": "jq", "program": program}}


def agent():
    return {"step_type": "inference", "action": {"kind": "agent", "task_type": "text_processing"}}


def kinds(service, key):
    """What is measured: a name, and one request from its start to its end."""
    quick = service.workflow(key, {"q": jq("1 + 1")})
    computing = service.workflow(key, {"c": jq(LONG)})
    no_jq = service.workflow(key, {"i": {"step_type": "custom"}})

    def completed(workflow):
        def once():
            done = service.run(key, workflow)
            assert done["status"] == "completed", done
        return once

    def plan():
        sub_task = {"key": "s", "task_type": "text_processing"}
        made = service.call(key, "POST", f"{GROUP}/plans", {"name": "p", "sub_tasks": [sub_task]})
        body = {"wait_for_agents": True}
        begun = service.call(key, "POST", f"{GROUP}/plans/{made['id']}/execute", body)
        service.call(key, "POST", f"{GROUP}/plans/{made['id']}/cancel", {})
        assert begun["id"], begun

    return {
        "execution without jq": completed(no_jq),
        "execution of a quick program": completed(quick),
        "execution of a long program": completed(computing),
        "plan begun and cancelled": plan,
    }


def flood(service, size):
    """A's requests: programs for minutes, executions that wait for an agent, and plans up to the limit."""
    long = service.workflow(A, {str(at): jq(LONG) for at in range(8)})
    waits = service.workflow(A, {"w": agent()})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: service.run(A, waits if at % 4 == 0 else long, 0), range(size)))
    for _ in range(40):
        sub_task = {"key": "s", "task_type": "text_processing"}
        made = service.call(A, "POST", f"{GROUP}/plans", {"name": "p", "sub_tasks": [sub_task]})
        try:
            service.call(A, "POST", f"{GROUP}/plans/{made['id']}/execute", {"wait_for_agents": True})
        except urllib.error.HTTPError as refused:
            assert refused.code == 409, refused
            return


def medians(measured, times):
    found = {}
    for name, once in measured.items():
        took = []
        for _ in range(times):
            began = time.monotonic()
            once()
            took.append(time.monotonic() - began)
        found[name] = statistics.median(took)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--size", type=int, default=2000, help="executions that the flood begins")
    parser.add_argument("--times", type=int, default=31, help="requests of each kind")
    parser.add_argument("--most", type=float, default=2.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = Service(args.binary.resolve(), folder)
        try:
            measured = kinds(service, B)
            medians(measured, 3)
            alone = medians(measured, args.times)
            flood(service, args.size)
            beside = medians(measured, args.times)
            left = service.count(A, f"{GROUP}/executions?status=running&limit=1")
        finally:
            service.process.terminate()
            service.process.wait(60)
    print("| request of B | alone, ms | beside A's flood, ms | times |\n|---|---|---|---|")
    for name, seconds in alone.items():
        print(f"| {name} | {seconds * 1e3:.1f} | {beside[name] * 1e3:.1f} | {beside[name] / seconds:.2f} |")
    print(f"\n{left} executions of A were running at the end.")
    bad = [name for name, seconds in alone.items() if beside[name] > args.most * seconds]
    if bad:
        sys.exit(f"more than {args.most} times as long: {', '.join(bad)}")
    if left < 10:
        sys.exit("the flood ended before the measurement: --size is too small")


if __name__ == "__main__":
    main()
