"""The coordinator and one of its miners, as a step's job meets them: python3 miner.py DATABASE

Takes what its machine can do, oldest first, by its own SQL. What it does with a job is in the prompt:
`hold` (never ends), `fail` (fails the first time), else the prompt comes back in capitals. Prints each row it took.
"""
import datetime
import json
import sqlite3
import sys
import time

GPUS = ["nvidia"]
MEMORY_MB, CUDA, MODELS, PRICE, REGION = 24576, "11.8, 12.4", ["llm", "whisper"], 0.25, "eu"

db = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
# An old library must leave checkpoints to the service.
db.execute("PRAGMA wal_autocheckpoint = 0")
db.row_factory = sqlite3.Row
failed = set()


def fits(needs):
    return (
        needs.get("region", REGION) == REGION
        and needs.get("gpu", GPUS[0]) in GPUS
        and needs.get("min_vram_gb", 0) * 1024 <= MEMORY_MB
        and needs.get("cuda", "") in CUDA
        and all(model in MODELS for model in needs.get("models", []))
        and needs.get("max_price", PRICE) >= PRICE
    )


def take():
    db.execute("BEGIN IMMEDIATE")
    try:
        now = str(datetime.datetime.now())
        rows = db.execute("SELECT * FROM job WHERE state = 'QUEUED' AND expires_at > ? ORDER BY requested_at", (now,))
        for row in rows.fetchall():
            if fits(json.loads(row["constraints"])):
                db.execute("UPDATE job SET state = 'RUNNING', assigned_miner_id = 'miner-1' WHERE id = ?", (row["id"],))
                return row
    finally:
        db.execute("COMMIT")


while True:
    row = take()
    if row is None:
        time.sleep(0.02)
        continue
    print(json.dumps(dict(row)), flush=True)
    prompt = json.loads(row["payload"])["service_request"]["prompt"]
    if prompt == "hold":
        continue
    if prompt == "fail" and prompt not in failed:
        failed.add(prompt)
        db.execute("UPDATE job SET state = 'FAILED', error = 'out of memory' WHERE id = ?", (row["id"],))
        continue
    receipt = {"receipt_id": "r" + row["id"], "job_id": row["id"], "provider": "miner-1", "price": PRICE, "proof": {"pi": "p"}}
    db.execute(
        "UPDATE job SET state = 'COMPLETED', result = ?, receipt = ?, receipt_id = ? WHERE id = ?",
        (json.dumps({"text": prompt.upper()}), json.dumps(receipt), receipt["receipt_id"], row["id"]),
    )
