"""Requests that ask for more than a server should give: each alone, then 32 at once, under a limit of memory.

`/health/live` answers within a second all the while; each bomb is refused (4xx), or fails its own run with a message that names a
limit, or simply ends; the server lives on, and so it does after a restart on the same database.
"""

import argparse
import http.client
import json
import re
import shutil
import sys
import threading
import time

from fuzz_http import KEYS, LIVE_SECONDS, Report, Server, probe

WAIT_SECONDS = 90


def chain(count, step):
    return {"s%d" % n: {**step, "depends_on": ["s%d" % (n - 1)] if n else []} for n in range(count)}


def nested(depth):
    return "[" * depth + "1" + "]" * depth


def workflow(name, steps, inputs, **more):
    return name, {"name": name, "steps": steps, "max_execution_time": 60, **more}, inputs


def definitions():
    """(name, workflow, inputs) of each bomb that is a run."""
    custom = {"step_type": "custom"}
    megabyte = "x" * 1_000_000
    doubling = {
        "s%d" % n: {
            "step_type": "custom",
            "depends_on": ["s%d" % (n - 1)] if n else [],
            "input_mappings": {"a": "$.steps.s%d.output" % (n - 1) if n else "$.inputs", "b": "$.steps.s%d.output" % (n - 1) if n else "$.inputs"},
        }
        for n in range(24)
    }
    jq = lambda program: {"step_type": "data_processing", "action": {"kind": "jq", "program": program}}
    deep = "reduce range(95) as $i (1; [.])"
    yield workflow("a long chain of large values", chain(1_000, custom), {"a": "y" * 5_000_000})
    yield workflow("repeated selectors", {"s": {**custom, "input_mappings": {"a": "$.inputs.a" + "[0,0,0]" * 14}}}, {"a": json.loads(nested(20))})
    yield workflow("a million matches", {"s": {**custom, "input_mappings": {"a": "$.inputs..*"}}}, {"a": list(range(1_000_000))})
    yield workflow("many mappings of one value", {"s": {**custom, "input_mappings": {"m%d" % n: "$.inputs.a" for n in range(200)}}}, {"a": megabyte})
    yield workflow("doubling", doubling, {"a": "z" * 10_000})
    yield workflow("a template of 8000 variables", {"s": {**custom, "input_mappings": {"a": "{{$.inputs.a}}" * 8_000}}}, {"a": "t" * 200_000})
    yield workflow("a deep output", {"s": jq(deep), **{"c%d" % n: {"step_type": "verification", "depends_on": ["s"], "action": {"kind": "check", "assert": "true"}} for n in range(40)}}, {})
    yield workflow("endless jq", {"s": jq("[repeat(1)]"), "t": jq("def f: f; f"), "u": jq("[range(1e9)]")}, {})
    patterns = {"allOf": [{"pattern": "(a{1,500}){1,5}%d" % n} for n in range(5_000)]}
    yield workflow("a schema of patterns", {"c": {"step_type": "verification", "action": {"kind": "check", "schema": patterns}}}, {})


def ask(server, method, path, body=None, key="admin", timeout=120):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    try:
        headers = {"X-Api-Key": KEYS[key]} if key else {}
        connection.request(method, path, data, {**headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    except (ConnectionError, http.client.RemoteDisconnected) as error:
        return 0, {"detail": repr(error)}
    finally:
        connection.close()
    try:
        return answer.status, json.loads(content)
    except ValueError:
        return answer.status, {}


def run(server, definition, inputs):
    """What became of a run: its status and error, or the refusal."""
    status, created = ask(server, "POST", "/api/v1/agents/workflows", definition)
    if status not in (200, 201):
        return status, json.dumps(created.get("detail"))
    status, begun = ask(server, "POST", "/api/v1/agents/workflows/%s/execute" % created["id"], {"workflow_id": created["id"], "inputs": inputs})
    if status not in (200, 201, 202):
        return status, json.dumps(begun.get("detail"))
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and server.alive():
        status, state = ask(server, "GET", "/api/v1/agents/executions/%s" % begun["id"])
        if status != 200:
            return status, json.dumps(state.get("detail"))
        if state["status"] in ("completed", "failed", "cancelled"):
            return state["status"], state.get("error_message") or state.get("error") or ""
        time.sleep(0.2)
    return "not ended", ""


def other_bombs():
    """(name, function of the server) of each bomb that is one request."""
    names = "&".join("%x" % n for n in range(12_000))
    yield "a query of many names without a key", lambda server: ask(server, "GET", "/api/v1/agents/workflows?" + names, key=None)
    yield "a query of many names", lambda server: ask(server, "GET", "/api/v1/agents/workflows?" + names)
    wide = b'{"name":"n","steps":{"a":' + b"[" + b"[]," * 3_000_000 + b"1]}}"
    yield "a body of ten megabytes", lambda server: ask(server, "POST", "/api/v1/agents/workflows", wide)
    deep = b'{"name":"n","steps":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield "a deep body", lambda server: ask(server, "POST", "/api/v1/agents/workflows", deep)

    def template(server):
        body = {"name": "t", "content": {"a": "{{a}}" * 8_000}, "message_type": "direct"}
        status, made = ask(server, "POST", "/api/v1/agents/bomber/templates", body)
        if status not in (200, 201):
            return status, made
        identifier = made.get("id") or made.get("template_id")
        return ask(server, "POST", "/api/v1/agents/bomber/templates/%s/render" % identifier, {"variables": {"a": "t" * 200_000}})

    yield "a message template", template

    def broadcast(server):
        body = {"sender": "bomber", "recipients": ["r%d" % n for n in range(400)], "content": {"a": "x" * 90_000}}
        return ask(server, "POST", "/api/v1/agents/messages/broadcast", body)

    yield "a message to 400 agents", broadcast


def main():
    sys.setrecursionlimit(10_000)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--memory-gb", type=float, default=3)
    arguments = parser.parse_args()
    memory = int(arguments.memory_gb * 2**30)
    runs, others = list(definitions()), list(other_bombs())
    server, report, done, faults = Server(arguments.binary, memory), Report(), threading.Event(), []
    watcher = threading.Thread(target=probe, args=(server, report, done))
    watcher.start()

    def explode(number):
        if number < len(runs):
            name, definition, inputs = runs[number]
            status, words = run(server, definition, inputs)
        else:
            name, send = others[number - len(runs)]
            status, answer = send(server)
            words = json.dumps(answer.get("detail", "")) if isinstance(answer, dict) else ""
        fine = status in ("completed", "failed", "cancelled", 503) or (isinstance(status, int) and 200 <= status < 500)
        if not fine or not server.alive():
            faults.append("%s: %s %s" % (name, status, words[:200]))
        return name, status, words

    count = len(runs) + len(others)
    for number in range(count):
        start, report.live = time.monotonic(), 0.0
        name, status, words = explode(number)
        row = (name, status, time.monotonic() - start, report.live, server.memory("VmHWM") >> 20 if server.alive() else -1, words)
        print("%-38s %-10s %6.2f s  live %.3f s  peak %5d MiB  %.120s" % row, flush=True)
        if not server.alive():
            break
    if server.alive():
        report.live = 0.0
        threads = [threading.Thread(target=explode, args=(n % count,)) for n in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("32 at once: live %.3f s, peak %d MiB" % (report.live, server.memory("VmHWM") >> 20 if server.alive() else -1))
    done.set()
    watcher.join()
    if server.alive():
        server.restart()
        status, _ = ask(server, "GET", "/health/ready")
        time.sleep(5)
        print("after a restart: %s, %d MiB" % (status, server.memory() >> 20))
    faults += report.faults
    if not server.alive():
        faults.append("the server died; its log is in %s" % server.folder)
    else:
        server.stop()
        shutil.rmtree(server.folder)
    for fault in faults[:50]:
        print("FAULT", re.sub(r"\s+", " ", fault))
    print("%d faults; /health/live may take %.0f s" % (len(faults), LIVE_SECONDS))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
