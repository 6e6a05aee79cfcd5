#!/usr/bin/env python3
"""Measure by how much one principal's flood delays another's single requests, and print one table (Markdown).

For each shared place the service given by --binary is started on a database of its own. First B's requests are measured alone; then A
floods the place, and B's are measured again. What makes A's requests runs at the lowest priority, since it is on the same machine only
here. Exit status 1 if a median is more than --most times as long. Needs wrk, and the example message_load beside the binary.
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
            "MESSAGE_KEYS": "m1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "LOG_LEVEL": "error",
        }
        self.binary, self.folder = binary, folder
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

    def end(self):
        self.process.terminate()
        self.process.wait(60)

    def run(self, key, workflow, wait=60):
        path = f"{GROUP}/workflows/{workflow}/execute?wait={wait}"
        return self.call(key, "POST", path, {})


def jq(program):
    return {"step_type": "data_processing", "action": {"kind": "jq", "program": program}}


def agent():
    return {"step_type": "inference", "action": {"kind": "agent", "task_type": "text_processing"}}


def background(*command):
    """Start a command that floods; returns what ends it."""
    process = subprocess.Popen(["nice", "-n", "19", *map(str, command)], stdout=subprocess.DEVNULL)

    def end():
        assert process.poll() is None, f"the flood ended too early: {command[0]} with {process.returncode}"
        process.terminate()
        process.wait(60)

    return end


def completed(service, key, workflow):
    done = service.run(key, workflow)
    assert done["status"] == "completed", done


def begin_plan(service, key):
    sub_task = {"key": "s", "task_type": "text_processing"}
    made = service.call(key, "POST", f"{GROUP}/plans", {"name": "p", "sub_tasks": [sub_task]})
    return service.call(key, "POST", f"{GROUP}/plans/{made['id']}/execute", {"wait_for_agents": True})["id"], made["id"]


class Executions:
    """A: programs for minutes, executions that wait for an agent, and plans up to the limit."""

    size = 2000

    def kinds(self, service):
        quick = service.workflow(B, {"q": jq("1 + 1")})
        computing = service.workflow(B, {"c": jq(LONG)})
        no_jq = service.workflow(B, {"i": {"step_type": "custom"}})

        def plan():
            _, made = begin_plan(service, B)
            service.call(B, "POST", f"{GROUP}/plans/{made}/cancel", {})

        return {
            "execution without jq": lambda: completed(service, B, no_jq),
            "execution of a quick program": lambda: completed(service, B, quick),
            "execution of a long program": lambda: completed(service, B, computing),
            "plan begun and cancelled": plan,
        }

    def flood(self, service):
        long = service.workflow(A, {str(at): jq(LONG) for at in range(8)})
        waits = service.workflow(A, {"w": agent()})
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda at: service.run(A, waits if at % 4 == 0 else long, 0), range(self.size)))
        try:
            for _ in range(40):
                begin_plan(service, A)
        except urllib.error.HTTPError as refused:
            assert refused.code == 409, refused

        def end():
            left = service.count(A, f"{GROUP}/executions?status=running&limit=1")
            assert left >= 10, "the flood ended before the measurement"

        return end


class Writer:
    """A: workflows made by 32 connections, as fast as they are answered."""

    def kinds(self, service):
        made = service.workflow(B, {"i": {"step_type": "custom"}})
        return {
            "workflow made": lambda: service.workflow(B, {"i": {"step_type": "custom"}}),
            "workflow read": lambda: service.call(B, "GET", f"{GROUP}/workflows/{made}"),
        }

    def flood(self, service):
        script = pathlib.Path(service.folder, "flood.lua")
        body = json.dumps({"name": "flood", "steps": {"i": {"step_type": "custom"}}})
        script.write_text(
            'wrk.method = "POST"\n'
            f"wrk.body = [[{body}]]\n"
            'wrk.headers["content-type"] = "application/json"\n'
            f'wrk.headers["x-api-key"] = "{A}"\n'
        )
        url = f"http://127.0.0.1:{service.port}{GROUP}/workflows"
        return background("wrk", "-t1", "-c32", "-d600", "-s", script, url)


class Sockets:
    """A: a thousand sockets and 1500 messages a second between them."""

    rate = 1500

    def load(self, service, key, names, *more):
        program = service.binary.parent / "examples" / "message_load"
        return [program, "--address", f"127.0.0.1:{service.port}", "--token", key, "--names", names, *more]

    def kinds(self, service):
        for name in ("b1", "b2"):
            service.call(B, "POST", "/api/v1/agents/registry", {"agent_id": name, "capabilities": ["text_processing"]})

        def over_sockets():
            more = ["--sockets", "2", "--rate", "20", "--seconds", "5", "--warm-up", "1"]
            done = subprocess.run(map(str, self.load(service, B, "b", *more)), capture_output=True, check=True)
            return json.loads(done.stdout)["ms_to_recipient"]["p50"] / 1e3

        def send():
            service.call(B, "POST", "/api/v1/agents/messages/send", {"sender": "b1", "recipient": "b2", "content": {"text": "x"}})

        return {"message sent over HTTP": send, "message from socket to socket": (over_sockets, 3)}

    def flood(self, service):
        more = ["--sockets", "1000", "--rate", self.rate, "--seconds", "600"]
        end = background(*self.load(service, A, "a", *more))
        # Sockets are opened first.
        service.until(lambda: self.flowing(service), 60)
        return end

    def flowing(self, service):
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        counted = [line for line in page.splitlines() if line.startswith("messages_pushed_total")]
        assert sum(float(line.split()[-1]) for line in counted) > 5000, counted


class Training:
    """A: thirty training runs without end."""

    def kinds(self, service):
        def train():
            body = {"environment": "CartPole-v1", "steps": 20000, "policy": "b", "evaluation_episodes": 1}
            done = service.call(B, "POST", f"{GROUP}/performance/rl/runs?wait=100", body)
            assert done["status"] == "completed", done

        return {"training of 20 000 steps": (train, 5)}

    def flood(self, service):
        for at in range(30):
            body = {"environment": "CartPole-v1", "steps": 100_000_000, "policy": f"a{at}"}
            service.call(A, "POST", f"{GROUP}/performance/rl/runs", body)
        # For half of TRAINING_SLICE_SECONDS those who come count as equal.
        time.sleep(31)
        return lambda: None


PLACES = [Executions, Writer, Sockets, Training]


def medians(kinds, times):
    found = {}
    for name, once in kinds.items():
        once, count = once if isinstance(once, tuple) else (once, times)
        took = []
        for _ in range(min(count, times)):
            began = time.monotonic()
            measured = once()
            # Some measure themselves, without the start of a program.
            took.append(measured if isinstance(measured, float) else time.monotonic() - began)
        found[name] = statistics.median(took)
    return found


def measure(place, binary, times):
    """B's medians alone and beside A's flood, by the kind of request."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(binary, folder)
        try:
            kinds = place.kinds(service)
            medians(kinds, 2)
            alone = medians(kinds, times)
            end = place.flood(service)
            beside = medians(kinds, times)
            end()
        finally:
            service.end()
    return {name: (seconds, beside[name]) for name, seconds in alone.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--times", type=int, default=31, help="requests of each kind")
    parser.add_argument("--most", type=float, default=2.0)
    parser.add_argument("--places", nargs="*", default=[place.__name__ for place in PLACES], help="default: all")
    args = parser.parse_args()
    print("| place | request of B | alone, ms | beside A's flood, ms | times |\n|---|---|---|---|---|", flush=True)
    bad = []
    for place in PLACES:
        if place.__name__ not in args.places:
            continue
        for name, (alone, beside) in measure(place(), args.binary.resolve(), args.times).items():
            print(f"| {place.__name__.lower()} | {name} | {alone * 1e3:.1f} | {beside * 1e3:.1f} | {beside / alone:.2f} |", flush=True)
            if beside > args.most * alone:
                bad.append(name)
    if bad:
        sys.exit(f"more than {args.most} times as long: {', '.join(bad)}")


if __name__ == "__main__":
    main()
