"""The coordinator and its miners, by their own SQL: python3 coordinator.py DATABASE JOBS

Offers queued jobs, oldest first, to the miners of the table `miner`, by the coordinator's rule; marks a job that is over
its time when it comes to it; sets RUNNING, then COMPLETED with a result. Ends when so many jobs are done, and prints the
id and the miner of each.
"""
import datetime
import json
import sqlite3
import sys
import time

database, wanted = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(database, timeout=20, isolation_level=None)
# An old library must leave checkpoints to the service.
db.execute("PRAGMA wal_autocheckpoint = 0")
db.row_factory = sqlite3.Row


def fits(needs, miner):
    has = json.loads(miner["capabilities"])
    gpus = has.get("gpus", [])
    if needs.get("region") and needs["region"] != miner["region"]:
        return False
    if needs.get("gpu") and needs["gpu"] not in [gpu["name"] for gpu in gpus]:
        return False
    if needs.get("min_vram_gb") and not any(gpu["memory_mb"] >= needs["min_vram_gb"] * 1024 for gpu in gpus):
        return False
    if needs.get("cuda") and needs["cuda"] not in str(has.get("cuda", "")):
        return False
    if not set(needs.get("models") or []) <= set(has.get("models", [])):
        return False
    return needs.get("max_price") is None or has.get("price", 0) <= needs["max_price"]


def take():
    now = str(datetime.datetime.now())
    db.execute("BEGIN IMMEDIATE")
    try:
        miners = db.execute("SELECT * FROM miner WHERE status = 'ONLINE' ORDER BY id").fetchall()
        for row in db.execute("SELECT * FROM job WHERE state = 'QUEUED' ORDER BY requested_at").fetchall():
            if row["expires_at"] < now:
                db.execute("UPDATE job SET state = 'EXPIRED', error = 'job expired' WHERE id = ?", (row["id"],))
                continue
            for miner in miners:
                if fits(json.loads(row["constraints"]), miner):
                    change = "UPDATE job SET state = 'RUNNING', assigned_miner_id = ? WHERE id = ?"
                    db.execute(change, (miner["id"], row["id"]))
                    return row, miner["id"]
    finally:
        db.execute("COMMIT")
    return None, None


done = 0
while done < wanted:
    row, miner = take()
    if row is None:
        time.sleep(0.02)
        continue
    payload = json.loads(row["payload"])
    result = {"service": payload["service_type"], "request": payload["service_request"], "by": miner}
    receipt = {"receipt_id": "r" + row["id"], "job_id": row["id"], "provider": miner, "price": 0.25}
    db.execute(
        "UPDATE job SET state = 'COMPLETED', result = ?, receipt = ?, receipt_id = ?, error = NULL WHERE id = ?",
        (json.dumps(result), json.dumps(receipt), receipt["receipt_id"], row["id"]),
    )
    print(row["id"], miner, flush=True)
    done += 1
