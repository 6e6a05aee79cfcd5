"""Measures the service on a database of a million rows beside the same service on a database of one page (docs/SCALE.md).

The rows are copies of some that the service itself wrote: one workflow, its execution, a job, an assignment, a plan and a message,
each under other ids and at other times. So they have the form of whatever schema the service has.
"""

import argparse
import atexit
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

OWNER, OTHER = "scale-owner-key-0001", "scale-other-key-0002"
API, SERVICES = "/api/v1/agents", "/api/v1/services"
PAGE = 20
DEEP = 20_000
CLIENTS = 32


def say(*words):
    print("bench-scale:", *words, file=sys.stderr, flush=True)


class Service:
    """One process of the service on a folder of its own."""

    def __init__(self, binary, folder, port, **settings):
        self.binary, self.folder, self.port = binary, folder, port
        self.url = f"http://127.0.0.1:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LD_LIBRARY_PATH", "TZ")}
        environment |= {
            "APP_ENV": "dev", "APP_PORT": str(port), "DATA_DIR": str(folder), "RATE_LIMIT_REQUESTS": "0", "LOG_LEVEL": "info",
            "SERVICE_MAX_OPEN_JOBS_ADMIN": "100000", "ENGINE_MAX_OPEN": "100000",
        } | {name: str(value) for name, value in settings.items()}
        self.log = open(folder / "server.log", "ab")
        began = time.monotonic()
        self.process = subprocess.Popen([binary, "serve"], env=environment, cwd=folder, stderr=self.log, stdout=self.log)
        atexit.register(self.process.kill)
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                self.get("/health/ready", timeout=5)
                break
            if self.process.poll() is not None:
                raise SystemExit(f"the service does not start: see {folder}/server.log")
            time.sleep(0.01)
        self.ready_after = time.monotonic() - began

    def call(self, path, body=None, key=OWNER, timeout=60, method=None):
        headers = {"x-api-key": key, "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            self.link = answer.headers.get("link")
            return answer.read()

    def get(self, path, **more):
        return self.call(path, **more)

    def json(self, path, body=None, **more):
        return json.loads(self.call(path, body, **more))

    def metric(self, name):
        """Every line of a metric: its labels and its value."""
        found = []
        for line in self.get("/metrics").decode().splitlines():
            match = re.fullmatch(re.escape(name) + r"(\{.*\})? (\S+)", line)
            if match:
                found.append((match[1] or "", float(match[2])))
        return found

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()


def field(document, *names):
    return next(document[name] for name in names if name in document)


THREE_STEPS = {
    "name": "scale", "description": "A workflow of three steps",
    "steps": {
        "a": {"step_type": "data_processing", "action": {"kind": "jq", "program": "{n: (.n + 1)}"}, "input_mappings": {"n": "$.inputs.n"}},
        "b": {"step_type": "custom", "depends_on": ["a"]},
        "c": {"step_type": "custom", "depends_on": ["b"]},
    },
}
PURE_STEPS = {
    "name": "three steps",
    "steps": {
        "a": {"step_type": "custom"}, "b": {"step_type": "custom", "depends_on": ["a"]}, "c": {"step_type": "custom", "depends_on": ["b"]},
    },
}


class Template:
    """The rows that are copied, written by the service."""

    def __init__(self, service):
        made = service.json(f"{API}/workflows", THREE_STEPS)
        self.workflow, self.owner = made["id"], made["owner_id"]
        self.other = service.json(f"{API}/workflows", THREE_STEPS | {"name": "other"}, key=OTHER)["owner_id"]
        self.execution = service.json(f"{API}/workflows/{self.workflow}/execute?wait=20", {"inputs": {"n": 1}})["id"]
        service.call(f"{API}/registry", {"agent_id": "scale-agent", "capabilities": ["text_processing"]})
        self.plan = service.json(f"{API}/plans", {"name": "plan", "sub_tasks": [{"key": "k", "task_type": "text_processing"}]})["id"]
        self.planned = service.json(f"{API}/plans/{self.plan}/execute", {})["id"]
        self.assignment = None
        while not self.assignment:
            held = service.json(f"{API}/registry/scale-agent/assignments")
            self.assignment = held[0]["assignment_id"] if held else None
        report = f"{API}/plans/assignments/{self.assignment}"
        service.call(f"{report}/result", {"attempt": 1, "result": {"done": True}})
        service.get(f"{API}/executions/{self.planned}?wait=20")
        sent = service.json(f"{API}/messages/send", {"sender": "writer", "recipient": "reader", "content": {"text": "hello"}, "ttl": 86400})
        self.message = sent["message_id"]
        self.job = service.json(f"{SERVICES}/llm/inference", {"model": "llama-7b", "prompt": "hello"})["job_id"]
        service.call(f"{SERVICES}/jobs/{self.job}", method="DELETE")
        # The end of the job and of the plan is noted by background work.
        time.sleep(2)


# How often each table's template is copied: by workflows and executions, or by the things of which there are a fifth.
MANY = ("ai_agent_workflows", "agent_executions", "am_runs")
FIFTH = ("job", "am_jobs", "am_assignments", "am_assignment_attempts", "am_plans", "am_messages")
# Steps and events are copied for the older half of the executions: those that retention removes.
HISTORY = ("agent_step_executions", "am_events")
TIMES = ("created_at", "requested_at", "submitted_at", "placed_at", "queued_at", "started_at", "completed_at", "updated_at", "ended_at")


def fill(database, template, rows):
    """Copy the template's rows: `rows` workflows and executions, a fifth of the rest; two thirds belong to the template's owner."""
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -1000000")
    db.execute("PRAGMA temp_store = MEMORY")
    ids = [template.workflow, template.execution, template.plan, template.planned, template.assignment, template.message, template.job]
    db.execute("CREATE TEMP TABLE numbers (n INTEGER PRIMARY KEY)")
    db.execute("WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c WHERE n < ?) INSERT INTO numbers SELECT n FROM c", (rows,))
    for table in MANY + FIFTH + HISTORY:
        columns = [(name, kind, key) for _, name, kind, _, _, key in db.execute(f"PRAGMA table_info({table})")]
        named = [name for name, _, _ in columns]
        wanted = [template.job, template.assignment, template.message, template.plan]
        if table not in FIFTH:
            wanted = [template.workflow, template.execution]
        condition = " OR ".join(f'"{name}" = ?' for name, _, _ in columns for _ in wanted)
        found = db.execute(f"SELECT * FROM {table} WHERE {condition}", wanted * len(columns)).fetchall()
        first, last = 1, rows if table in MANY else rows // 5
        if table in HISTORY:
            last = rows // 2
        for row in found:
            values = dict(zip(named, row))
            select, bound = [], []
            for name, kind, key in columns:
                value = values[name]
                if kind == "INTEGER" and key and len([1 for column in columns if column[2]]) == 1:
                    select.append("NULL")
                elif name == "seq" and table == "am_messages":
                    select.append("n + 1")
                elif name == "held_since":
                    # The template's plan still has the slot of its ended run: the next start of a plan frees it.
                    select.append("NULL")
                elif name in ("owner_id", "client_id") and value == template.owner:
                    select.append("CASE n % 3 WHEN 0 THEN ? ELSE ? END")
                    bound += [template.other, template.owner]
                elif name in TIMES and isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d.\d\d:\d\d:\d\d\.\d{6}", value):
                    # From the first of a month to its 28th, in the order of the numbers.
                    select.append(
                        f"'2026-01-' || printf('%02d', 1 + n * 27 / {rows + 1}) || ? || printf('%02d:%02d:%02d.%06d',"
                        f" (n * 27 * 24 / {rows + 1}) % 24, (n * 27 * 1440 / {rows + 1}) % 60, (n * 27 * 86400 / {rows + 1}) % 60, n % 1000000) || ?"
                    )
                    bound += [value[10], value[26:]]
                elif isinstance(value, str) and any(one in value for one in ids + [values.get("id")] if isinstance(one, str)):
                    expression = "?"
                    bound.append(value)
                    for one in ids + ([values["id"]] if isinstance(values.get("id"), str) and values["id"] not in ids else []):
                        if one in value:
                            expression = f"replace({expression}, ?, ? || printf('_%07d', n))"
                            bound += [one, one]
                    select.append(expression)
                else:
                    select.append("?")
                    bound.append(value)
            listed = ", ".join(f'"{name}"' for name in named)
            began = time.monotonic()
            db.execute("BEGIN")
            db.execute(f"INSERT INTO {table} ({listed}) SELECT {', '.join(select)} FROM numbers WHERE n BETWEEN {first} AND {last}", bound)
            db.execute("COMMIT")
            say(f"{table}: {last - first + 1} rows in {time.monotonic() - began:.1f} s")
    # As at the first start on a database that is large already.
    if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'am_list_progress'").fetchone()[0]:
        db.execute("UPDATE am_list_progress SET place = 0, built_at = NULL")
    db.close()


def wait_for_lists(service):
    while True:
        made = service.metric("db_list_progress_ratio")
        if made and all(value >= 1 for _, value in made):
            # Else the kernel writes these gigabytes while the first round is measured.
            os.sync()
            return
        time.sleep(0.5)


def wrk(url, connections=1, seconds=3, script=None, key=OWNER, more=()):
    """Requests a second, 99th percentile in ms, and answers that were no 2xx."""
    command = ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s", "--latency", "-H", f"x-api-key: {key}"]
    if script:
        command += ["-s", str(script)]
    output = subprocess.run(command + [url, *more], capture_output=True, text=True, check=True).stdout
    unit = {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}
    number, suffix = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", output).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return rate, float(number) * unit[suffix], int(failed[1]) if failed else 0


def deep_cursor(service, path):
    """The address of the page that begins at row DEEP, by following links."""
    join = "&" if "?" in path else "?"
    address = f"{path}{join}limit=500"
    for _ in range(DEEP // 500):
        service.get(address)
        match = re.search(r"<([^>]+)>; rel=\"next\"", service.link or "")
        if not match:
            return None
        address = re.sub(r"^https?://[^/]+", "", match[1])
    return re.sub(r"limit=500", f"limit={PAGE}", address)


LISTS = {
    "GET /workflows": f"{API}/workflows",
    "GET /executions": f"{API}/executions",
    "GET /services/jobs": f"{SERVICES}/jobs",
    "inbox": f"{API}/messages/inbox?agent_id=reader",
}


class Report:
    def __init__(self):
        self.rows = []

    def add(self, what, full, empty, ratio, wanted, good):
        say(f"{what}: {full} | {empty} | {ratio} | wanted {wanted}{'' if good in (True, None) else '  MISSED'}")
        self.rows.append((what, full, empty, ratio, wanted, good))

    def table(self):
        lines = ["| at a million rows | full | one page | ratio | wanted |", "|---|---:|---:|---:|---|"]
        for what, full, empty, ratio, wanted, good in self.rows:
            shown = f"**{ratio}**" if good is False and ratio else ratio
            full = f"**{full}**" if good is False and not ratio else full
            lines.append(f"| {what} | {full} | {empty} | {shown} | {wanted} |")
        return "\n".join(lines) + "\n"


def pages(full, empty, report, seconds):
    for name, path in LISTS.items():
        join = "&" if "?" in path else "?"
        kinds = {"first page": f"{path}{join}limit={PAGE}"}
        if "inbox" not in path:
            kinds[f"offset {DEEP:,}"] = f"{path}{join}limit={PAGE}&offset={DEEP}"
            cursor = deep_cursor(full, path)
            if cursor:
                kinds[f"cursor at {DEEP:,}"] = cursor
        base_path = f"{path}{join}limit={PAGE}"
        for kind, address in kinds.items():
            ours, theirs = [], []
            for _ in range(3):
                theirs.append(wrk(empty.url + base_path, seconds=seconds))
                ours.append(wrk(full.url + address, seconds=seconds))
            own, base = statistics.median(p99 for _, p99, _ in ours), statistics.median(p99 for _, p99, _ in theirs)
            good = own <= 25 and own <= 2 * base and not any(failed for _, _, failed in ours)
            report.add(f"{name}, {kind}: p99", f"{own:.2f} ms", f"{base:.2f} ms", f"{own / base:.2f}", "≤ 2 times, ≤ 25 ms", good)
    for name, path in LISTS.items():
        join = "&" if "?" in path else "?"
        address = f"{path}{join}limit={PAGE}"
        ours, theirs = [], []
        for _ in range(3):
            theirs.append(wrk(empty.url + address, CLIENTS, seconds))
            ours.append(wrk(full.url + address, CLIENTS, seconds))
        own, base = statistics.median(rate for rate, _, _ in ours), statistics.median(rate for rate, _, _ in theirs)
        report.add(f"{name}, {CLIENTS} clients: requests a second", f"{own:,.0f}", f"{base:,.0f}", f"{own / base:.2f}", "≥ 0.8", own >= 0.8 * base)


def three_steps(full, empty, report, seconds, folder):
    rates = {}
    scripts = {}
    for service in (full, empty):
        workflow = service.json(f"{API}/workflows", PURE_STEPS)["id"]
        script = folder / f"execute-{service.port}.lua"
        script.write_text(f'wrk.method = "POST"\nwrk.body = "{{}}"\nwrk.headers["content-type"] = "application/json"\nwrk.path = "{API}/workflows/{workflow}/execute?wait=20"\n')
        scripts[service] = script
    for _ in range(3):
        for service in (empty, full):
            rates.setdefault(service, []).append(wrk(service.url, CLIENTS, seconds, scripts[service])[0])
    own, base = statistics.median(rates[full]), statistics.median(rates[empty])
    report.add("three-step workflows a second", f"{own:,.0f}", f"{base:,.0f}", f"{own / base:.2f}", "≥ 0.9", own >= 0.9 * base)


def create_script(folder):
    script = folder / "create.lua"
    body = json.dumps(PURE_STEPS).replace('"', '\\"')
    script.write_text(f'wrk.method = "POST"\nwrk.body = "{body}"\nwrk.headers["content-type"] = "application/json"\n')
    return script


def probes(full, report, seconds, folder):
    """/health/ready while as many clients list as create."""
    script = create_script(folder)
    load = [
        threading.Thread(target=wrk, args=(full.url + f"{API}/executions?limit={PAGE}", CLIENTS, seconds + 1)),
        threading.Thread(target=wrk, args=(full.url + f"{API}/workflows", CLIENTS, seconds + 1, script)),
    ]
    for thread in load:
        thread.start()
    time.sleep(0.5)
    _, p99, failed = wrk(full.url + "/health/ready", 1, seconds)
    for thread in load:
        thread.join()
    report.add(f"/health/ready while {CLIENTS} list and {CLIENTS} create: p99", f"{p99:.1f} ms", "", "", "≤ 50 ms, none refused", p99 <= 50 and not failed)


def queued_programs(binary, folders, ports, report):
    """Forty queued jq executions with two active at a time."""
    took = {}
    for folder, port in zip(folders, ports):
        service = Service(binary, folder, port, ENGINE_MAX_ACTIVE=2)
        wait_for_lists(service)
        workflow = service.json(f"{API}/workflows", THREE_STEPS)["id"]
        service.json(f"{API}/workflows/{workflow}/execute?wait=20", {"inputs": {"n": 1}})
        samples = []
        for _ in range(3):
            began = time.monotonic()
            started = [service.json(f"{API}/workflows/{workflow}/execute", {"inputs": {"n": n}})["id"] for n in range(40)]
            for execution in started:
                while service.json(f"{API}/executions/{execution}?wait=20")["status"] not in ("completed", "failed", "cancelled"):
                    pass
            samples.append(time.monotonic() - began)
        took[port] = statistics.median(samples)
        service.stop()
    own, base = took[ports[0]], took[ports[1]]
    report.add("40 queued jq executions, ENGINE_MAX_ACTIVE=2", f"{own:.2f} s", f"{base:.2f} s", f"{own / base:.2f}", "≤ 1.2", own <= 1.2 * base)


def idle(full, empty, report, seconds):
    before = {service: service.processor_seconds() for service in (full, empty)}
    time.sleep(seconds)
    own, base = ((service.processor_seconds() - before[service]) / seconds for service in (full, empty))
    report.add("idle process: share of a core", f"{100 * own:.2f} %", f"{100 * base:.2f} %", "", "≤ 1 %", own <= 0.01)


def walk(service):
    """One of each kind of write, and of reads that have held the lock or the processor."""
    def attempt(path, body=None, **more):
        with contextlib.suppress(urllib.error.HTTPError):
            return service.json(path, body, **more)
        return {}

    workflow = attempt(f"{API}/workflows", PURE_STEPS)["id"]
    attempt(f"{API}/workflows/{workflow}", PURE_STEPS | {"name": "changed"}, method="PUT")
    execution = attempt(f"{API}/workflows/{workflow}/execute?wait=5", {"inputs": {}})["id"]
    attempt(f"{API}/executions/{execution}/retry", {})
    attempt(f"{API}/executions/{execution}/cancel", {})
    with contextlib.suppress(urllib.error.HTTPError):
        service.call(f"{API}/workflows/{workflow}", method="DELETE")
    network = attempt(f"{API}/networks", {"name": "net", "agents": [workflow]})
    if "id" in network:
        attempt(f"{API}/networks/{network['id']}/optimize", {})
    plan = attempt(f"{API}/plans", {"name": "plan", "sub_tasks": [{"key": "k", "task_type": "text_processing"}]})
    attempt(f"{API}/plans/{plan.get('id')}/execute", {})
    attempt(f"{API}/plans/{plan.get('id')}/cancel", {})
    attempt(f"{API}/plans/metrics")
    attempt(f"{API}/registry", {"agent_id": "walker", "capabilities": ["io_bound"]})
    attempt(f"{API}/registry/walker/heartbeat", {})
    attempt(f"{API}/messages/send", {"sender": "writer", "recipient": "reader", "content": {"text": "again"}})
    attempt(f"{API}/messages/inbox?agent_id=reader&limit=100")
    attempt(f"{API}/messages/broadcast", {"sender": "writer", "content": {"text": "all"}})
    attempt(f"{API}/reader/communication-stats")
    job = attempt(f"{SERVICES}/llm/inference", {"model": "llama-7b", "prompt": "hello"})
    attempt(f"{SERVICES}/jobs/{job.get('job_id')}", method="DELETE")
    attempt(f"{API}/security/policies?name=walked&security_level=internal", {"max_concurrent_executions": 1000})
    attempt(f"{API}/workflows/{attempt(f'{API}/workflows', PURE_STEPS)['id']}/execute?wait=5", {})
    attempt(f"{API}/security/scan")
    attempt(f"{API}/security/security-dashboard")
    attempt(f"{API}/security/trust-scores")
    attempt(f"{API}/security/audit-logs?limit=100")


def longest_hold(service, report):
    before = sum(value for _, value in service.metric("db_long_writes_total"))
    walk(service)
    long = sum(value for _, value in service.metric("db_long_writes_total")) - before
    bounds = []
    for labels, count in service.metric("db_lock_held_seconds_bucket"):
        bounds.append((float(re.search(r'le="([^"]+)"', labels)[1].replace("+Inf", "inf")), count))
    total = max((count for _, count in bounds), default=0)
    least = min((bound for bound, count in sorted(bounds) if count >= total), default=float("nan"))
    report.add("longest hold of the write lock, one of each write", f"≤ {1000 * least:.0f} ms; {long:.0f} over 50 ms", "", "", "≤ 50 ms", long == 0)


def retention(binary, folder, port, report, seconds, rows, setting):
    """The older half of the executions is removed; one client reads and creates meanwhile."""
    # What is removed is missing afterwards: the next run fills the database anew.
    (folder / "filled").unlink(missing_ok=True)
    service = Service(binary, folder, port)
    wait_for_lists(service)
    script = create_script(folder)
    workflow = service.json(f"{API}/workflows", PURE_STEPS)["id"]
    get_path = f"{API}/workflows/{workflow}"
    base_get = wrk(service.url + get_path, 1, seconds)[1]
    base_create = wrk(service.url + f"{API}/workflows", 1, seconds, script)[1]
    total = int(service_total(service))
    service.stop()
    # The rows' times run through January 2026; half of them are older than the middle of it.
    middle = time.time() - time.mktime((2026, 1, 14, 12, 0, 0, 0, 0, 0))
    service = Service(binary, folder, port, **{setting: f"{int(middle // 86400)}d"})
    wait_for_lists(service)
    gets, creates, began = [], [], time.monotonic()
    while service_total(service) > total - rows // 2 + rows // 50 and time.monotonic() - began < 600:
        gets.append(wrk(service.url + get_path, 1, seconds)[1])
        creates.append(wrk(service.url + f"{API}/workflows", 1, seconds, script)[1])
    took = time.monotonic() - began
    removed = total - int(service_total(service))
    service.stop()
    for name, during, base in (("get", gets, base_get), ("create", creates, base_create)):
        own = statistics.median(during) if during else float("nan")
        report.add(f"retention of {removed:,} executions ({took:.0f} s): p99 of {name}", f"{own:.2f} ms", f"{base:.2f} ms before", f"{own / base:.2f}", "≤ 2 times", removed > 0 and own <= 2 * base)


def service_total(service):
    request = urllib.request.Request(service.url + f"{API}/executions?limit=1", headers={"x-api-key": OWNER})
    with urllib.request.urlopen(request, timeout=60) as answer:
        own = int(answer.headers["x-total-count"])
    return own * 3 / 2


def main():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--binary", required=True)
    parse.add_argument("--folder", required=True, type=pathlib.Path)
    parse.add_argument("--rows", type=int, default=1_000_000)
    parse.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parse.add_argument("--out", type=pathlib.Path, help="the page between whose marks the table is written")
    parse.add_argument("--retention-setting", default="RETENTION_EXECUTIONS")
    parse.add_argument("--only", default="", help="comma-separated parts: lists, load, steps, idle, hold, queued, retention")
    given = parse.parse_args()
    only = set(filter(None, given.only.split(",")))
    report = Report()
    folders, ports = (given.folder / "full", given.folder / "page"), (8231, 8232)

    for folder, port, rows in zip(folders, ports, (given.rows, 100)):
        if (folder / "filled").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        service = Service(given.binary, folder, port)
        template = Template(service)
        service.stop()
        began = time.monotonic()
        fill(folder / "coordinator.db", template, rows)
        say(f"{rows} rows written in {time.monotonic() - began:.0f} s, {(folder / 'coordinator.db').stat().st_size / 1e9:.2f} GB")
        began = time.monotonic()
        service = Service(given.binary, folder, port)
        wait_for_lists(service)
        say(f"lists made in {time.monotonic() - began:.0f} s")
        service.stop()
        (folder / "filled").touch()

    def wanted(part):
        return not only or part in only

    full, empty = (Service(given.binary, folder, port) for folder, port in zip(folders, ports))
    report.add("start: ready after", f"{full.ready_after:.2f} s", f"{empty.ready_after:.2f} s", "", "≤ 2 s", full.ready_after <= 2)
    for service in (full, empty):
        wait_for_lists(service)
    if wanted("idle"):
        time.sleep(5)
        idle(full, empty, report, 20)
    if wanted("lists"):
        pages(full, empty, report, given.seconds)
    if wanted("load"):
        probes(full, report, given.seconds, given.folder)
    if wanted("steps"):
        three_steps(full, empty, report, given.seconds, given.folder)
    if wanted("hold"):
        longest_hold(full, report)
    for service in (full, empty):
        service.stop()
    if wanted("queued"):
        queued_programs(given.binary, folders, ports, report)
    if wanted("retention"):
        retention(given.binary, folders[0], ports[0], report, given.seconds, given.rows, given.retention_setting)
    table = report.table()
    print(table)
    if given.out:
        page = given.out.read_text()
        head, rest = page.split("<!-- table -->\n", 1)
        _, tail = rest.split("<!-- end of table -->", 1)
        given.out.write_text(f"{head}<!-- table -->\n\n{table}\n<!-- end of table -->{tail}")


if __name__ == "__main__":
    main()
