"""Sends seeded random requests to a server under a limit of memory, and fails if it answers a 5xx, dies, or keeps the memory.

A 503 that says when to try again and a 501 with its reason are answers; every other 5xx is a fault. The report names the number
of each failing request: `--only N` sends that one alone.
"""

import argparse
import base64
import collections
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from generator import Requests

KEYS = {role: "fuzz-%s-key-0123456789" % role for role in ("admin", "client", "miner")}
LIVE_SECONDS = 1.0
MEMORY_KEPT = 64 * 2**20


class Server:
    """The service in a directory of its own, in a control group with a limit of memory where this host lets us make one."""

    def __init__(self, binary, memory):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fuzz-http-"))
        self.group = self.make_group(memory)
        self.log = open(self.folder / "log", "wb")
        self.binary, self.starts = binary, 0
        self.start()

    def start(self):
        settings = {
            "APP_ENV": "production", "APP_PORT": "0", "DATA_DIR": str(self.folder), "DATABASE_URL": "sqlite:///%s/fuzz.db" % self.folder,
            "ADMIN_API_KEYS": KEYS["admin"], "CLIENT_API_KEYS": KEYS["client"], "MINER_API_KEYS": KEYS["miner"],
            "LOG_FORMAT": "json", "LOG_LEVEL": "warn,agent_management::lifecycle=info", "JQ_TIMEOUT_MS": "500",
            "MESSAGE_KEYS": "fuzz:" + base64.b64encode(bytes(range(32))).decode(),
            "RATE_LIMIT_REQUESTS": "0",
        }
        environment = {**os.environ, **settings}
        self.process = subprocess.Popen([self.binary, "serve"], stderr=self.log, env=environment, preexec_fn=self.enter_group)
        self.starts += 1
        deadline = time.monotonic() + 60
        while len(found := re.findall(r'"ready","address":"[^"]*:(\d+)"', (self.folder / "log").read_text(errors="replace"))) < self.starts:
            if not self.alive() or time.monotonic() > deadline:
                sys.exit("the server did not start:\n" + (self.folder / "log").read_text())
            time.sleep(0.1)
        self.port = int(found[-1])

    def restart(self):
        """Kill the server, and start it on the same database."""
        self.process.kill()
        self.process.wait()
        self.start()

    @staticmethod
    def make_group(memory):
        for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            group = pathlib.Path(root) / ("fuzz-http-%d" % os.getpid())
            try:
                group.mkdir()
                (group / limit).write_text(str(memory))
                return group
            except OSError:
                if group.is_dir():
                    group.rmdir()
        print("no control group could be made: memory is only watched, not limited", file=sys.stderr)
        return None

    def enter_group(self):
        if self.group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def memory(self, name="VmRSS"):
        for line in open("/proc/%d/status" % self.process.pid):
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        return 0

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.terminate()
        status = self.process.wait(60)
        if self.group:
            self.group.rmdir()
        return status


class Report:
    """What was answered, from all threads."""

    def __init__(self):
        self.lock, self.statuses, self.refusals = threading.Lock(), collections.Counter(), collections.Counter()
        self.faults, self.slowest, self.live = [], 0.0, 0.0

    def answered(self, number, method, path, status, headers, body, seconds):
        told = (status == 503 and headers.get("retry-after")) or status == 501
        with self.lock:
            self.statuses[status] += 1
            if 400 <= status < 500:
                self.refusals["%s %s: %d %.200s" % (method, path, status, re.sub(rb',"request_id":"\w+"', b"", body).decode(errors="replace"))] += 1
            self.slowest = max(self.slowest, seconds)
            if status >= 500 and not told:
                self.faults.append("request %d: %s %.80s: %d %.300s" % (number, method, path, status, body.decode(errors="replace")))

    def lost(self, number, method, path, error):
        with self.lock:
            self.faults.append("request %d: %s %.80s: no answer: %r" % (number, method, path, error))


def target(path, query):
    quoted = urllib.parse.quote(path, safe="/@.~", errors="replace")
    return quoted + ("?" + urllib.parse.urlencode(query, errors="replace") if query else "")


def send(connection, role, request, number, report, requests):
    method, path, query, body, headers = request
    data = None if body is None else json.dumps(body).encode(errors="replace")
    headers = {"X-Api-Key": KEYS[role], **headers, **({"Content-Type": "application/json"} if data is not None else {})}
    start = time.monotonic()
    try:
        connection.request(method, target(path, query), data, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        # A connection that had been idle may be closed by the server, and a refused body need not be read to its end.
        if not isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
            report.lost(number, method, path, error)
        return
    report.answered(number, method, path, answer.status, {k.lower(): v for k, v in answer.getheaders()}, content, time.monotonic() - start)
    if answer.status in (200, 201, 202):
        try:
            requests.learn(method, path, json.loads(content))
        except ValueError:
            pass


def work(server, requests, numbers, report, deadline):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for number in numbers:
        if time.monotonic() > deadline or not server.alive():
            return
        role = ("client", "miner", *["admin"] * 48)[number % 50]
        send(connection, role, requests.request(number), number, report, requests)


def probe(server, report, done):
    """Ask `/health/live` five times a second; an answer after a second is a fault."""
    while not done.wait(0.2) and server.alive():
        start = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            report.lost(-1, "GET", "/health/live", error)
        seconds = time.monotonic() - start
        report.live = max(report.live, seconds)
        if seconds > LIVE_SECONDS:
            with report.lock:
                report.faults.append("/health/live took %.2f s" % seconds)


def settle(server, limit, seconds):
    """Wait until memory is below `limit`, and answer what it is then."""
    deadline = time.monotonic() + seconds
    while server.alive() and server.memory() > limit and time.monotonic() < deadline:
        time.sleep(1)
    return server.memory() if server.alive() else 0


def main():
    # The standard encoder recurses, and some values are deeper than it may by default.
    sys.setrecursionlimit(10_000)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--document", required=True, help="docs/openapi.json")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=300, help="stop sending after this many seconds")
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--memory-gb", type=float, default=3)
    parser.add_argument("--refusals", type=int, default=0, help="show so many of the most frequent 4xx")
    parser.add_argument("--only", type=int, help="send the request with this number alone, and show it")
    arguments = parser.parse_args()
    print("seed", arguments.seed, flush=True)
    requests = Requests(json.load(open(arguments.document)), arguments.seed)
    if arguments.only is not None:
        print(json.dumps(requests.request(arguments.only), indent=1)[:5_000])
    server, report, done = Server(arguments.binary, int(arguments.memory_gb * 2**30)), Report(), threading.Event()
    deadline = time.monotonic() + arguments.seconds
    numbers = [arguments.only] if arguments.only is not None else range(arguments.requests)
    # What the service loads once is not counted as kept.
    warm = numbers[: len(numbers) // 20]
    work(server, requests, warm, report, deadline)
    before = server.memory()
    watcher = threading.Thread(target=probe, args=(server, report, done))
    watcher.start()
    start = time.monotonic()
    rest = numbers[len(warm):]
    threads = [threading.Thread(target=work, args=(server, requests, rest[n :: arguments.threads], report, deadline)) for n in range(arguments.threads)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(2)
        if sys.stderr.isatty():
            print("\r%d of %d requests, %d MiB" % (sum(report.statuses.values()), len(numbers), server.memory() >> 20), end="", file=sys.stderr)
    seconds = time.monotonic() - start
    after = settle(server, before + MEMORY_KEPT, 120)
    done.set()
    watcher.join()
    alive, peak = server.alive(), server.memory("VmHWM") if server.alive() else 0
    status = server.stop()
    print("%d requests in %.0f s, slowest %.2f s, slowest /health/live %.3f s" % (sum(report.statuses.values()), seconds, report.slowest, report.live))
    print("statuses:", dict(sorted(report.statuses.items())))
    print("memory: %d MiB before, %d MiB after, %d MiB at most" % (before >> 20, after >> 20, peak >> 20))
    if not alive or status not in (0, -15):
        report.faults.append("the server died with status %s; its log is in %s" % (status, server.folder))
    elif after > before + MEMORY_KEPT:
        report.faults.append("%d MiB more are kept than before" % ((after - before) >> 20))
    if sum(report.statuses.values()) < len(numbers):
        print("%d requests were not answered or not sent in time" % (len(numbers) - sum(report.statuses.values())))
    if arguments.refusals:
        for refusal, count in report.refusals.most_common(arguments.refusals):
            print("%6d %s" % (count, refusal))
    for fault in report.faults[:50]:
        print("FAULT", fault)
    print("%d faults" % len(report.faults))
    if alive:
        shutil.rmtree(server.folder)
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
