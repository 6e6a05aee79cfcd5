"""Measures what the marketplace and its ledger cost beside workflows and lists, and writes the tables of docs/ECONOMY.md.

Everything runs in one go, turn by turn, on two databases of the same build: `full` with a million ledger lines and 100,000 services
and requests, `page` with 10,000 of each. Rows are copies of some that the service wrote; the ledger's lines are made by the ledger's
own triggers, and `ledger verify` must find nothing at the end. The audit log is on, as always.
"""

import argparse
import calendar
import json
import os
import pathlib
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scale"))
from scale import API, CLIENTS, PAGE, PURE_STEPS, Report, SERVICES, Service, create_script, say, wrk  # noqa: E402

MARKET = f"{SERVICES}/marketplace"
LEDGER = f"{API}/ledger"
SELLER, CLIENT = "economy-seller-key-0001", "economy-client-key-0002"
FUNDS = 10_000_000
RATE_AGENT, SHOP_AGENT = "economy-worker", "economy-shop"
# Words of services' texts, by Zipf's law: the first is in many, the last in few.
WORDS = [a + b + c for a in "bcdfghjklmnpqrstvwxz" for b in "aeiou" for c in ("na", "ri", "ka", "lo", "te", "ma", "sar", "ren", "nim", "lox")]


class Economy:
    """What the service wrote by itself, of which rows are copied."""

    def __init__(self, service):
        self.seller = service.json(f"{API}/registry", {"agent_id": RATE_AGENT, "capabilities": ["text_processing"]}, key=SELLER)
        service.json(f"{API}/registry", {"agent_id": SHOP_AGENT, "capabilities": ["text_processing"]}, key=SELLER)
        self.client_id = service.json(f"{API}/workflows", PURE_STEPS, key=CLIENT)["owner_id"]
        service.json(f"{LEDGER}/deposits", {"owner": self.client_id, "amount": FUNDS})
        offer = {
            "agent_id": SHOP_AGENT, "name": "template of services", "description": "A service of which others are copies",
            "category": "data_analysis", "tags": ["template"], "base_price": 0.01,
        }
        self.template = service.json(f"{MARKET}/services", offer, key=SELLER)["id"]
        self.service = service.json(f"{MARKET}/services", offer | {"agent_id": RATE_AGENT, "name": "measured"}, key=SELLER)["id"]
        self.request = service.json(f"{MARKET}/requests", request_body(self.template), key=CLIENT)["id"]
        service.json(f"{MARKET}/requests/{self.request}/accept", {"agent_id": SHOP_AGENT}, key=SELLER)
        service.json(f"{MARKET}/requests/{self.request}/complete", {"results": {"done": True}}, key=SELLER)
        service.json(f"{MARKET}/requests/{self.request}/settle", {}, key=CLIENT)


def request_body(service):
    deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400 * 30))
    return {"service_id": service, "requirements": "what is wanted", "budget": 0.5, "deadline": deadline}


def columns(db, table):
    return [(name, kind, key) for _, name, kind, _, _, key in db.execute(f"PRAGMA table_info({table})")]


def copy_rows(db, table, where, bound, values):
    """Copy the first row of `where`: for each of `values`, with these columns replaced. Automatic numbers are given anew."""
    listed = columns(db, table)
    row = dict(zip([name for name, _, _ in listed], db.execute(f"SELECT * FROM {table} WHERE {where}", bound).fetchone()))
    keys = [name for name, kind, key in listed if key]
    named = [name for name, kind, key in listed if not (key and kind == "INTEGER" and len(keys) == 1)]
    marks = ", ".join("?" * len(named))
    statement = f"INSERT INTO {table} ({', '.join(named)}) VALUES ({marks})"
    db.execute("BEGIN")
    db.executemany(statement, ([(row | changed)[name] for name in named] for changed in values))
    db.execute("COMMIT")


def later(text, microseconds):
    """A stored moment, so much later."""
    seconds, rest = text[:19], int(text[20:26])
    total = rest + microseconds
    moment = time.strptime(seconds.replace("T", " "), "%Y-%m-%d %H:%M:%S")
    moment = time.strftime(f"%Y-%m-%d{text[10]}%H:%M:%S", time.gmtime(calendar.timegm(moment) + total // 1_000_000))
    return f"{moment}.{total % 1_000_000:06d}{text[26:]}"


def fill(database, economy, lines, things):
    """`lines` ledger lines of two accounts, `things` services and requests."""
    random.seed(lines)
    db = sqlite3.connect(database, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000", "temp_store = MEMORY"):
        db.execute(f"PRAGMA {pragma}")
    began = time.monotonic()
    weights = [1 / (k + 1) for k in range(len(WORDS))]
    template = dict(zip([name for name, _, _ in columns(db, "am_market_services")], db.execute("SELECT * FROM am_market_services WHERE id = ?", (economy.template,)).fetchone()))

    def services():
        for n in range(things):
            words = random.choices(WORDS, weights, k=12)
            rated = random.randrange(0, 40)
            total = sum(random.choices((1, 2, 3, 4, 5), (1, 1, 2, 4, 4), k=rated))
            yield {
                "id": f"{economy.template}_{n:07d}", "name": " ".join(words[:3]), "description": "offers " + " ".join(words[3:]),
                "tags": json.dumps([words[0]]), "base_price": random.randrange(100_000, 100_000_000_000),
                "category": template["category"], "rating_count": rated, "rating_sum": total,
                "rating": total / rated if rated else 0, "jobs": random.randrange(0, 200),
                "created_at": later(template["created_at"], n), "agent_id": f"{SHOP_AGENT}-{n // 100}",
            }

    copy_rows(db, "am_market_services", "id = ?", (economy.template,), services())
    db.execute("UPDATE am_market_categories SET services = services + ? WHERE category = ?", (things, template["category"]))
    moment = db.execute("SELECT created_at FROM am_market_requests WHERE id = ?", (economy.request,)).fetchone()[0]
    requests = ({"id": f"{economy.request}_{n:07d}", "execution_id": None, "created_at": later(moment, n)} for n in range(things))
    copy_rows(db, "am_market_requests", "id = ?", (economy.request,), requests)
    happened = db.execute("SELECT number FROM am_market_request_events WHERE request_id = ? ORDER BY number", (economy.request,)).fetchall()
    for (number,) in happened:
        changed = ({"request_id": f"{economy.request}_{n:07d}"} for n in range(things))
        copy_rows(db, "am_market_request_events", "request_id = ? AND number = ?", (economy.request, number), changed)
    say(f"{things} services and requests in {time.monotonic() - began:.1f} s")

    # Transfers of one unit from the client's wallet to the market's fees and back: two lines each, made by the trigger.
    began = time.monotonic()
    wallet = db.execute("SELECT id FROM am_ledger_accounts WHERE owner = ? AND purpose = 'WALLET'", (economy.client_id,)).fetchone()[0]
    other = db.execute("SELECT id FROM am_ledger_accounts WHERE owner = 'system' AND purpose = 'FEES'").fetchone()[0]
    last = max(row[0] for row in db.execute("SELECT posted_at FROM am_ledger_accounts WHERE id IN (?, ?)", (wallet, other)))
    entry = db.execute("SELECT id FROM am_ledger_entries WHERE spent = 0 ORDER BY created_at DESC LIMIT 1").fetchone()[0]
    made = [(f"{entry}_{n:07d}", later(last, n + 1)) for n in range(lines // 2)]
    values = ({"id": name, "created_at": at, "once_key": None, "reverses": None, "kind": "TRANSFER"} for name, at in made)
    copy_rows(db, "am_ledger_entries", "id = ?", (entry,), values)
    move = """UPDATE am_ledger_accounts SET balance = balance + ?, lines = lines + 1, posted_at = ?, last_entry = ?, last_other = ?, last_is_fee = 0
              WHERE id = ?"""

    def moves():
        for n, (name, at) in enumerate(made):
            unit = -1 if n % 2 == 0 else 1
            yield unit, at, name, other, wallet
            yield -unit, at, name, wallet, other

    db.execute("BEGIN")
    db.executemany(move, moves())
    db.execute("COMMIT")
    say(f"{lines} ledger lines in {time.monotonic() - began:.1f} s")
    db.close()
    # Else the kernel writes these gigabytes while the first round is measured.
    os.sync()
    return wallet


def ids_of(database, state, count, service):
    """Requests of the measured service in a state: at most `count`, the oldest."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    found = db.execute("SELECT id FROM am_market_requests WHERE service_id = ? AND state = ? ORDER BY created_at LIMIT ?", (service, state, count)).fetchall()
    db.close()
    return [row[0] for row in found]


def count_of(database, state, service):
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    (found,) = db.execute("SELECT count(*) FROM am_market_requests WHERE service_id = ? AND state = ?", (service, state)).fetchone()
    db.close()
    return found


STEPS_SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
local threads = 0
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end
function init(args)
  paths, at = {}, 0
  local n = 0
  for line in io.lines("%s") do
    if n %% %d == number then paths[#paths + 1] = line end
    n = n + 1
  end
end
function request()
  at = at + 1
  return wrk.format(nil, paths[at] or "/used-up", nil, [[%s]])
end
"""
"""Each thread asks for paths of its own, one after the other."""

PATHS_SCRIPT = """
wrk.method = "GET"
function init(args)
  paths, at = {}, 0
  for line in io.lines("%s") do paths[#paths + 1] = line end
end
function request()
  at = at %% #paths + 1
  return wrk.format(nil, paths[at])
end
"""


class Measured:
    """A service with what is measured on it."""

    def __init__(self, service, economy, folder, wallet):
        self.service, self.economy, self.folder, self.wallet = service, economy, folder, wallet
        self.database = folder / "coordinator.db"
        self.workflow = service.json(f"{API}/workflows", PURE_STEPS, key=CLIENT)["id"]

    def script(self, name, text):
        file = self.folder / name
        file.write_text(text)
        return file

    def create_rate(self, seconds):
        text = json.dumps(request_body(self.economy.service)).replace('"', '\\"')
        script = self.script("request.lua", f'wrk.method = "POST"\nwrk.body = "{text}"\nwrk.headers["content-type"] = "application/json"\n')
        rate, _, failed = wrk(self.service.url + f"{MARKET}/requests", CLIENTS, seconds, script, key=CLIENT)
        if failed:
            raise SystemExit(f"{failed} requests were refused: see {self.folder}/server.log")
        return rate

    def workflow_rate(self, seconds):
        return wrk(self.service.url + f"{API}/workflows", CLIENTS, seconds, create_script(self.folder), key=CLIENT)[0]

    def step_rate(self, before, after, verb, body, key, seconds, count):
        """How many requests a second go from one state to the next: counted in the database."""
        ids = ids_of(self.database, before, count, self.economy.service)
        listed = self.folder / "paths.txt"
        listed.write_text("".join(f"{MARKET}/requests/{one}/{verb}\n" for one in ids))
        script = self.script(f"{verb}.lua", STEPS_SCRIPT % (listed, 2, json.dumps(body)))
        had = count_of(self.database, after, self.economy.service)
        wrk(self.service.url, CLIENTS, seconds, script, key=key)
        done = count_of(self.database, after, self.economy.service) - had
        if done >= len(ids):
            raise SystemExit(f"{verb}: {done} requests were not enough to measure with: fewer --seconds")
        return done / seconds

    def bring_to(self, before, after, verb, body, key, wanted):
        """Without measuring, until so many are in the next state."""
        while count_of(self.database, after, self.economy.service) < wanted:
            if count_of(self.database, before, self.economy.service) < 100:
                raise SystemExit(f"{verb}: too few requests are {before}")
            with_all = 1_000_000
            ids = ids_of(self.database, before, with_all, self.economy.service)
            listed = self.folder / "paths.txt"
            listed.write_text("".join(f"{MARKET}/requests/{one}/{verb}\n" for one in ids))
            script = self.script(f"{verb}.lua", STEPS_SCRIPT % (listed, 2, json.dumps(body)))
            wrk(self.service.url, CLIENTS, 2, script, key=key)


ACCEPT = ("OPEN", "ACCEPTED", "accept", {"agent_id": RATE_AGENT}, SELLER)
COMPLETE = ("ACCEPTED", "COMPLETED", "complete", {"results": {"done": True}}, SELLER)
SETTLE = ("COMPLETED", "SETTLED", "settle", {}, CLIENT)


def trade(measured, seconds, rounds):
    """Rates of each step of a request and of creating a workflow, turn by turn: a list of each, by name."""
    rates = {}
    for turn in range(rounds):
        for one in measured[:: 1 if turn % 2 == 0 else -1]:
            def note(name, rate):
                rates.setdefault((one, name), []).append(rate)

            note("workflow", one.workflow_rate(seconds))
            note("create", one.create_rate(seconds))
            # Enough for the next steps, which may be twice as fast.
            wanted = int(2.5 * seconds * rates[(one, "workflow")][-1])
            while count_of(one.database, "OPEN", one.economy.service) < 1.2 * wanted:
                one.create_rate(2)
            note("accept", one.step_rate(*ACCEPT, seconds, wanted))
            one.bring_to(*ACCEPT, wanted)
            note("complete", one.step_rate(*COMPLETE, seconds, wanted))
            one.bring_to(*COMPLETE, wanted)
            note("pay", one.step_rate(*SETTLE, seconds, wanted))
    return {key: statistics.median(found) for key, found in rates.items()}


def read_rates(measured, paths, seconds, rounds):
    """Requests a second and the 99th percentile of each path, turn by turn."""
    found = {}
    for _ in range(rounds):
        for name, path in paths.items():
            for one in measured:
                address, script = path(one)
                rate, _, failed = wrk(one.service.url + address, CLIENTS, seconds, script, key=CLIENT)
                _, p99, failed_alone = wrk(one.service.url + address, 1, seconds, script, key=CLIENT)
                if failed or failed_alone:
                    raise SystemExit(f"{name}: {failed + failed_alone} answers were errors: see {one.folder}/server.log")
                found.setdefault((one, name), []).append((rate, p99))
    return {key: [statistics.median(values) for values in zip(*samples)] for key, samples in found.items()}


def searches(one):
    """Queries of one and two words, frequent and rare ones, some within a category or a price."""
    random.seed(7)
    weights = [1 / (k + 1) for k in range(len(WORDS))]
    paths = []
    for n in range(200):
        words = random.choices(WORDS, weights, k=1 + n % 2)
        more = ("", "&category=data_analysis", "&max_price=500", "&sort=price")[n % 4]
        paths.append(f"{MARKET}/services?q={'%20'.join(words)}&limit={PAGE}{more}")
    listed = one.folder / "searches.txt"
    listed.write_text("\n".join(paths) + "\n")
    return "/", one.script("search.lua", PATHS_SCRIPT % listed)


READS = {
    "get": lambda one: (f"{API}/workflows/{one.workflow}", None),
    "list": lambda one: (f"{API}/workflows?limit={PAGE}", None),
    "balance": lambda one: (f"{LEDGER}/accounts/{one.wallet}/balance", None),
    "statement": lambda one: (f"{LEDGER}/accounts/{one.wallet}/statement?limit={PAGE}", None),
    "search": searches,
}


class EconomyReport(Report):
    def table(self):
        lines = ["| | a million lines, 100,000 services | 10,000 of each | ratio | wanted |", "|---|---:|---:|---:|---|"]
        for what, full, small, ratio, wanted, good in self.rows:
            shown = f"**{ratio}**" if good is False else ratio
            lines.append(f"| {what} | {full} | {small} | {shown} | {wanted} |")
        return "\n".join(lines) + "\n"


def report_trade(report, full, small, rates):
    base = rates[(full, "workflow")]
    report.add("creating a workflow, a second", f"{base:,.0f}", f"{rates[(small, 'workflow')]:,.0f}", f"{base / rates[(small, 'workflow')]:.2f}", "", None)
    for name in ("create", "accept", "complete", "pay"):
        own, less = rates[(full, name)], rates[(small, name)]
        report.add(f"{name}, a second", f"{own:,.0f}", f"{less:,.0f}", f"{own / less:.2f}", "≥ 0.9 of the small one", own >= 0.9 * less)
        report.add(f"{name}, of creating a workflow", f"{own / base:.2f}", f"{less / rates[(small, 'workflow')]:.2f}", f"{own / base:.2f}", "≥ 0.4", own >= 0.4 * base)


def report_reads(report, full, small, found):
    for name, beside, least in (("balance", "get", 0.5), ("statement", "list", 0.5)):
        own, less, base = (found[key][0] for key in ((full, name), (small, name), (full, beside)))
        word = "one workflow" if beside == "get" else "a page of workflows"
        report.add(f"{name}, a second", f"{own:,.0f}", f"{less:,.0f}", f"{own / less:.2f}", "≥ 0.9 of the small one", own >= 0.9 * less)
        report.add(f"{name}, of {word}", f"{own / base:.2f}", f"{less / found[(small, beside)][0]:.2f}", f"{own / base:.2f}", f"≥ {least}", own >= least * base)
    own, base = found[(full, "search")][1], found[(full, "list")][1]
    report.add("search: p99", f"{own:.2f} ms", f"{found[(small, 'search')][1]:.2f} ms", "", "", None)
    report.add("search: p99, of a page of workflows", f"{own / base:.2f}", f"{found[(small, 'search')][1] / found[(small, 'list')][1]:.2f}", f"{own / base:.2f}", "≤ 5", own <= 5 * base)


def verify(binary, folder):
    """`ledger verify` on a database; its exit status says whether the books balance."""
    done = subprocess.run([binary, "ledger", "verify"], env={"DATA_DIR": str(folder), "APP_ENV": "dev", "PATH": "/usr/bin"}, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the books of {folder} do not balance:\n{done.stdout}{done.stderr}")
    say(f"{folder.name}: {done.stdout.strip()[:200]}")


def write(page, marker, text):
    document = page.read_text()
    begin, end = f"<!-- {marker} -->\n", f"<!-- end of {marker} -->"
    if begin not in document or end not in document:
        raise SystemExit(f"{page} has no marks for {marker}")
    head, rest = document.split(begin, 1)
    _, tail = rest.split(end, 1)
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def main():
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--binary", required=True)
    parse.add_argument("--figures", help="the executable that simulates rings and shoppers; without it their tables are left as they are")
    parse.add_argument("--folder", required=True, type=pathlib.Path)
    parse.add_argument("--lines", type=int, default=1_000_000)
    parse.add_argument("--small", type=int, default=10_000)
    parse.add_argument("--things", type=int, default=100_000, help="services and requests in the full database")
    parse.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--only", default="", help="comma-separated parts: trade, reads, simulations")
    parse.add_argument("--out", type=pathlib.Path, help="the page between whose marks the tables are written")
    given = parse.parse_args()
    given.folder = given.folder.resolve()
    only = set(filter(None, given.only.split(",")))

    def wanted(part):
        return not only or part in only

    tables = {}
    if given.figures and wanted("simulations"):
        for part in ("trust", "recommendations"):
            tables[f"{part} figures"] = subprocess.run([given.figures, part], check=True, capture_output=True, text=True).stdout
            print(tables[f"{part} figures"])
    if wanted("trade") or wanted("reads"):
        report, measured = EconomyReport(), []
        sizes = ((given.folder / "full", 8241, given.lines, given.things), (given.folder / "page", 8242, given.small, given.small))
        for folder, port, lines, things in sizes:
            for old in folder.glob("coordinator.db*"):
                old.unlink()
            service = Service(given.binary, folder, port)
            economy = Economy(service)
            service.stop()
            wallet = fill(folder / "coordinator.db", economy, lines, things)
            verify(given.binary, folder)
            measured.append((folder, port, economy, wallet))
        measured = [Measured(Service(given.binary, folder, port), economy, folder, wallet) for folder, port, economy, wallet in measured]
        full, small = measured
        if wanted("trade"):
            report_trade(report, full, small, trade(measured, given.seconds, given.rounds))
        if wanted("reads"):
            for one in measured:
                for _ in range(PAGE):
                    one.service.json(f"{API}/workflows", PURE_STEPS, key=CLIENT)
            report_reads(report, full, small, read_rates(measured, READS, given.seconds, given.rounds))
        for one in measured:
            one.service.stop()
            verify(given.binary, one.folder)
        tables["speed"] = report.table()
        print(tables["speed"])
    if given.out:
        for marker, text in tables.items():
            write(given.out, marker, text)


if __name__ == "__main__":
    main()
