"""Makes a database of audit entries, and measures how a server answers from it. Standard library only."""

import argparse
import hashlib
import http.client
import json
import random
import sqlite3
import statistics
import sys
import time
import urllib.parse

SECURITY = "/api/v1/agents/security"
START = 1_767_225_600  # 2026-01-01
BASE = {"SECURITY_VIOLATION": 90, "SANDBOX_BREACH": 85, "ACCESS_DENIED": 70, "VERIFICATION_FAILED": 50, "EXECUTION_FAILED": 30,
        "STEP_FAILED": 20, "EXECUTION_CANCELLED": 15, "WORKFLOW_DELETED": 10, "WORKFLOW_CREATED": 5, "EXECUTION_STARTED": 3,
        "EXECUTION_COMPLETED": 1, "STEP_STARTED": 1, "STEP_COMPLETED": 1, "VERIFICATION_COMPLETED": 1, "WORKFLOW_UPDATED": 0}
FACTOR = {"PUBLIC": 1.0, "INTERNAL": 1.2, "CONFIDENTIAL": 1.5, "RESTRICTED": 2.0}
# Of a thousand entries.
SHARE = {"STEP_STARTED": 330, "STEP_COMPLETED": 320, "EXECUTION_STARTED": 100, "EXECUTION_COMPLETED": 90, "WORKFLOW_UPDATED": 60,
         "VERIFICATION_COMPLETED": 40, "STEP_FAILED": 20, "WORKFLOW_CREATED": 15, "EXECUTION_FAILED": 12, "EXECUTION_CANCELLED": 5,
         "VERIFICATION_FAILED": 4, "ACCESS_DENIED": 2, "WORKFLOW_DELETED": 1, "SECURITY_VIOLATION": 0.9, "SANDBOX_BREACH": 0.1}


def moment(micros):
    seconds, rest = divmod(micros, 1_000_000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(START + seconds)) + f".{rest:06d}"


def rows(count):
    random.seed(7)
    events, weights = list(SHARE), list(SHARE.values())
    levels, level_weights = list(FACTOR), [25, 60, 14.5, 0.5]
    for n in range(count):
        event = random.choices(events, weights)[0]
        level = random.choices(levels, level_weights)[0]
        # One workflow in a thousand and one user in a hundred does much of it, as in life.
        workflow = f"agent_{int(10_000 * random.random() ** 3):08x}"
        user = f"key_{int(1000 * random.random() ** 3):020x}"
        data = {"resource": "step", "action": "done", "execution_time": round(random.random() * 50, 6), "memory_usage": 512}
        risk = min(100, int(BASE[event] * FACTOR[level]))
        at = moment(n * 12_000_000)
        yield (f"audit_{n:012x}", event, at, workflow, f"exec_{n // 12:010x}", f"step_{n % 5:08x}", user, level, "127.0.0.1",
               "bench", json.dumps(data), "null", "null", risk, int(risk >= 70), None, None, None, at)


def leaf(row):
    """What crates/audit/src/leaf.rs makes of a row that the coordinator wrote."""
    digest = hashlib.sha256(b"\0aitbc agent_audit_logs 1\ncoordinator\n")
    for cell in row:
        kind = b"n" if cell is None else b"i" if isinstance(cell, int) else b"t"
        content = b"" if cell is None else str(cell).encode()
        digest.update(kind + len(content).to_bytes(4, "big") + content)
    return digest.hexdigest()


def seal(connection):
    """Leaves, as the server gives them to rows it sees, but in one transaction; counters come by the table's trigger."""
    rest = connection.execute(
        "SELECT * FROM agent_audit_logs l WHERE NOT EXISTS (SELECT 1 FROM am_audit_entries e WHERE e.audit_id = l.id)"
        " ORDER BY rowid")
    with connection:
        connection.executemany(
            "INSERT INTO am_audit_entries (audit_id, leaf_hash, source, event_type, security_level, risk_score,"
            " requires_investigation) VALUES (?, ?, 'coordinator', ?, ?, ?, ?)",
            [(row[0], leaf(row), row[1], row[7], row[13], row[14]) for row in rest.fetchall()])


def fill(database, count, scores):
    connection = sqlite3.connect(database)
    marks = ", ".join("?" * 19)
    with connection:
        connection.executemany(
            "INSERT INTO agent_audit_logs (id, event_type, timestamp, workflow_id, execution_id, step_id, user_id, security_level,"
            " ip_address, user_agent, event_data, previous_state, new_state, risk_score, requires_investigation,"
            f" investigation_notes, cryptographic_hash, signature_valid, created_at) VALUES ({marks})", rows(count))
    seal(connection)
    with connection:
        connection.executemany(
            "INSERT INTO agent_trust_scores (id, entity_type, entity_id, trust_score, reputation_score, total_executions,"
            " successful_executions, failed_executions, verification_success_rate, security_violations, policy_violations,"
            " sandbox_breaches, last_execution, last_violation, average_execution_time, execution_history, violation_history,"
            " created_at, updated_at) VALUES (?, 'workflow', ?, ?, 60.0, 10, 7, 3, 70.0, 0, 0, 0, NULL, NULL, 1.5, '[]', '[]', ?, ?)",
            ((f"trust_{n:08x}", f"agent_{n:08x}", random.random() * 100, moment(n), moment(n)) for n in range(scores)))
    connection.close()


class Client:
    def __init__(self, port, key):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.key = key

    def get(self, path, method="GET"):
        self.connection.request(method, path, headers={"X-Api-Key": self.key})
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            sys.exit(f"{path}: {answer.status} {body[:300]!r}")
        return answer, body


def timed(work, times):
    took = []
    for _ in range(times):
        before = time.perf_counter()
        work()
        took.append((time.perf_counter() - before) * 1000)
    took.sort()
    return statistics.median(took), took[min(len(took) - 1, int(len(took) * 0.99))]


def next_page(answer):
    for part in (answer.headers.get("Link") or "").split(", "):
        if 'rel="next"' in part:
            return part[part.index("<") + 1:part.index(">")]
    return None


def wait_sealed(client, count):
    before = time.perf_counter()
    while json.loads(client.get(f"{SECURITY}/security-stats")[1])["audit_statistics"]["total"] < count:
        time.sleep(1)
    size = 0
    while size < count:
        client.connection.request("GET", f"{SECURITY}/audit-tree/head", headers={"X-Api-Key": client.key})
        answer = client.connection.getresponse()
        body = json.loads(answer.read())
        size = body.get("size", 0) if answer.status == 200 else 0
        time.sleep(0.5 if size < count else 0)
    return time.perf_counter() - before


def questions(count):
    logs = f"{SECURITY}/audit-logs"
    middle, often, seldom = count // 2, "agent_00000000", "agent_00002000"
    named = {
        "dashboard": f"{SECURITY}/security-dashboard",
        "statistics": f"{SECURITY}/security-stats",
        "one entry": f"{logs}/audit_{middle:012x}",
        "inclusion proof": f"{SECURITY}/audit-tree/inclusion/audit_{middle:012x}",
        "a trust score": f"{SECURITY}/trust-scores/workflow/agent_00000123",
        "a trust score explained": f"{SECURITY}/trust-scores/workflow/agent_00000123/explain",
    }
    filters = {
        "all": "", "event, common": "event_type=step_started", "event, rare": "event_type=sandbox_breach",
        "workflow, busy": f"workflow_id={often}", "workflow, quiet": f"workflow_id={seldom}",
        "execution": f"execution_id=exec_{middle // 12:010x}", "step, shared by 200 000": "step_id=step_00000001",
        "user, busy": "user_id=key_" + "0" * 20, "level, common": "security_level=internal", "level, rare": "security_level=restricted",
        "to investigate": "requires_investigation=true", "not to investigate": "requires_investigation=false",
        "risk from 90": "risk_score_min=90", "risk to 0": "risk_score_max=0", "risk 40 to 60": "risk_score_min=40&risk_score_max=60",
        "event and level, nothing there": "event_type=workflow_updated&risk_score_min=50",
        "busy workflow and rare event": f"workflow_id={often}&event_type=security_violation",
        "busy user, rare level, not to investigate":
            "user_id=key_" + "0" * 20 + "&security_level=restricted&requires_investigation=false",
        "level and event, rare": "security_level=restricted&event_type=execution_cancelled",
        "common event, rare level, risk": "event_type=step_completed&security_level=restricted&risk_score_min=2",
    }
    for name, text in filters.items():
        named[f"page of 100: {name}"] = f"{logs}?limit=100&{text}".rstrip("&")
    return named


SCANS = {
    "dashboard": [
        "SELECT * FROM agent_audit_logs ORDER BY created_at DESC LIMIT 50",
        "SELECT * FROM agent_audit_logs WHERE requires_investigation ORDER BY created_at DESC LIMIT 10",
        "SELECT count(*), sum(requires_investigation) FROM agent_audit_logs NOT INDEXED",
        "SELECT count(*), avg(trust_score), sum(trust_score >= 80), sum(trust_score < 20) FROM agent_trust_scores NOT INDEXED",
    ],
    "statistics": [
        "SELECT event_type, count(*) FROM agent_audit_logs NOT INDEXED GROUP BY event_type",
        "SELECT sum(risk_score <= 30), sum(risk_score <= 70), sum(risk_score <= 90), count(*) FROM agent_audit_logs NOT INDEXED",
        "SELECT trust_score / 20, count(*) FROM agent_trust_scores NOT INDEXED GROUP BY CAST(trust_score / 20 AS INTEGER)",
    ],
    "page of 100: level, rare": [
        "SELECT * FROM agent_audit_logs WHERE security_level = 'RESTRICTED' ORDER BY created_at DESC LIMIT 100"],
    "page of 100: to investigate": [
        "SELECT * FROM agent_audit_logs WHERE requires_investigation ORDER BY created_at DESC LIMIT 100"],
}


def measure(client, database, count, times):
    table = []
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    scans = {}
    for name, statements in SCANS.items():
        scans[name] = timed(lambda: [connection.execute(sql).fetchall() for sql in statements], 5)[0]
    connection.close()
    for name, path in questions(count).items():
        answer, body = client.get(path)
        told = json.loads(body)
        found = len(told) if isinstance(told, list) else ""
        table.append((name, found, *timed(lambda: client.get(path), times), scans.get(name)))
        if not name.startswith("page") or not next_page(answer):
            continue
        # As deep as 20 pages lead; offsets, as the monolith's clients ask for them.
        at = answer
        for _ in range(20):
            link = next_page(at)
            if not link:
                break
            at, body = client.get(link)
            path = link
        deep = urllib.parse.unquote(path)
        table.append((name + ", 20 pages on", len(json.loads(body)), *timed(lambda: client.get(deep), times), None))
    offset = f"{SECURITY}/audit-logs?limit=100&offset=9000"
    table.append(("page of 100: all, offset 9000", 100, *timed(lambda: client.get(offset), times), None))
    return table


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    filling = commands.add_parser("fill")
    filling.add_argument("database")
    measuring = commands.add_parser("measure")
    measuring.add_argument("database")
    measuring.add_argument("port", type=int)
    measuring.add_argument("key")
    measuring.add_argument("--requests", type=int, default=200)
    for command in (filling, measuring):
        command.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.command == "fill":
        fill(given.database, given.rows, given.rows // 10)
        return
    client = Client(given.port, given.key)
    print(f"sealed {given.rows} entries after {wait_sealed(client, given.rows):.1f} s", file=sys.stderr)
    table = measure(client, given.database, given.rows, given.requests)
    print("| question | entries | median ms | p99 ms | full scan, ms |\n|---|---|---|---|---|")
    for name, found, median, p99, scan in table:
        print(f"| {name} | {found} | {median:.2f} | {p99:.2f} | {'' if scan is None else f'{scan:.0f}'} |")
    slow = [name for name, _, median, _, _ in table if median >= 50]
    if slow:
        sys.exit("over 50 ms at the median: " + ", ".join(slow))


if __name__ == "__main__":
    main()
