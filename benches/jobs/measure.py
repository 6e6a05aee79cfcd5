"""What open jobs cost a server: python3 measure.py PORT PID KEY DATABASE LOG [--jobs N] [--seconds S]

Puts N jobs into the queue over HTTP and measures the processor time of the server's process, as a share of one core: before
there are any, with all of them open while nobody commits, and while another process commits ten times a second and changes
no job. Then a miner ends ten of them, one after another: how long until a client that waits is answered, and until the end
is told of. How long a look at the whole queue takes stands in the server's log. Prints a table; fails when open jobs add
more than 1 % of a core at rest.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import sqlite3
import sys
import threading
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("port", type=int)
arguments.add_argument("pid", type=int)
arguments.add_argument("key")
arguments.add_argument("database")
arguments.add_argument("log")
arguments.add_argument("--jobs", type=int, default=10_000)
arguments.add_argument("--seconds", type=float, default=30)
asked = arguments.parse_args()
TICKS = os.sysconf("SC_CLK_TCK")
CLIENTS = 16


def cpu():
    with open(f"/proc/{asked.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def share():
    """Of a core, in percent."""
    begun, before = time.monotonic(), cpu()
    time.sleep(asked.seconds)
    return (cpu() - before) / (time.monotonic() - begun) * 100


def submit(count):
    connection = http.client.HTTPConnection("127.0.0.1", asked.port)
    headers = {"X-Api-Key": asked.key, "Content-Type": "application/json"}
    body = json.dumps({"blend_file_url": "https://example.com/a.blend", "frame_end": 1000})
    ids = []
    for _ in range(count):
        connection.request("POST", "/api/v1/services/blender/render", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise SystemExit(f"{answer.status}: {text}")
        ids.append(json.loads(text)["job_id"])
    return ids


def committing(stop):
    db = sqlite3.connect(asked.database, timeout=20, isolation_level=None)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("CREATE TABLE IF NOT EXISTS bench_heartbeat (at REAL)")
    while not stop.wait(0.1):
        db.execute("INSERT INTO bench_heartbeat VALUES (?)", (time.time(),))


def noticed(job):
    """Seconds from a miner's commit to the answer of a client that waits."""
    connection = http.client.HTTPConnection("127.0.0.1", asked.port)
    db = sqlite3.connect(asked.database, timeout=20, isolation_level=None)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    ended = []

    def end():
        time.sleep(2)
        db_here = sqlite3.connect(asked.database, timeout=20, isolation_level=None)
        db_here.execute("PRAGMA wal_autocheckpoint = 0")
        db_here.execute("UPDATE job SET state = 'COMPLETED', result = '{}' WHERE id = ?", (job,))
        ended.append(time.monotonic())

    thread = threading.Thread(target=end)
    thread.start()
    connection.request("GET", f"/api/v1/services/jobs/{job}?wait=30", headers={"X-Api-Key": asked.key})
    answer = json.loads(connection.getresponse().read())
    came = time.monotonic()
    thread.join()
    if answer["status"] != "COMPLETED":
        raise SystemExit(answer)
    waited = came - ended[0]
    begun = time.monotonic()
    while db.execute("SELECT ended_at FROM am_jobs WHERE id = ?", (job,)).fetchone()[0] is None:
        time.sleep(0.005)
    return waited, waited + time.monotonic() - begun


time.sleep(5)
empty = share()
begun = time.monotonic()
with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
    ids = [job for some in pool.map(submit, [asked.jobs // CLIENTS] * CLIENTS) for job in some]
rate = len(ids) / (time.monotonic() - begun)
time.sleep(5)
rest = share()
stop = threading.Event()
writer = threading.Thread(target=committing, args=(stop,))
writer.start()
busy = share()
waits = [noticed(job) for job in ids[:10]]
stop.set()
writer.join()
with open(asked.log) as log:
    lines = [json.loads(line) for line in log if "read the job queue" in line]
looks = sorted(line["seconds"] for line in lines if line["open"] >= len(ids) * 0.9)
waited, told = ([pair[at] for pair in waits] for at in (0, 1))
print("| measured | |")
print("|---|---|")
print(f"| jobs put into the queue, {CLIENTS} clients | {rate:.0f} a second |")
print(f"| no jobs, nobody commits | {empty:.2f} % of a core |")
print(f"| {len(ids)} open jobs, nobody commits | {rest:.2f} % |")
print(f"| {len(ids)} open jobs, another process commits 10 times a second | {busy:.2f} % |")
print(f"| a job's end to the answer of who waits for it, of 10: median, most | {sorted(waited)[5] * 1000:.0f} ms, {max(waited) * 1000:.0f} ms |")
print(f"| a job's end to its being told of (webhook, audit log): median, most | {sorted(told)[5] * 1000:.0f} ms, {max(told) * 1000:.0f} ms |")
print(f"| a look at all that is open, of {len(looks)}: median, most | {looks[len(looks) // 2] * 1000:.0f} ms, {looks[-1] * 1000:.0f} ms |")
if rest - empty > 1:
    print(f"open jobs cost {rest - empty:.2f} % of a core at rest, over 1 %", file=sys.stderr)
    sys.exit(1)
