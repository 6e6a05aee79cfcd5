"""The coordinator and a miner as they are today: python3 miner.py DATABASE [MODEL...]

The miner registers its GPU by product name, its driver's version and the models that it has loaded, takes jobs by the
coordinator's rule, looks for their kind at the top level of the payload, and reports everything, failures too, through the
route for results. A prompt `fail` fails.
"""
import json
import sqlite3
import sys
import time

GPU = {"name": "NVIDIA GeForce RTX 4090", "memory_mb": 24564, "architecture": "ada_lovelace"}
CAPABILITIES = {"gpus": [GPU], "cuda": "550.54.15", "models": sys.argv[2:], "price": 0.01, "region": "localhost"}

db = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
db.execute("PRAGMA wal_autocheckpoint = 0")
db.row_factory = sqlite3.Row


def register():
    now = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime())
    db.execute(
        "INSERT OR REPLACE INTO miner (id, region, capabilities, concurrency, status, inflight, extra_metadata, last_heartbeat,"
        " jobs_completed, jobs_failed, total_job_duration_ms, average_job_duration_ms)"
        " VALUES ('gpu-1', 'localhost', ?, 1, 'active', 0, '{}', ?, 0, 0, 0, 0.0)",
        (json.dumps(CAPABILITIES), now),
    )


def fits(needs):
    if needs.get("region") and needs["region"] != "localhost":
        return False
    if needs.get("gpu") and needs["gpu"] not in [gpu["name"] for gpu in CAPABILITIES["gpus"]]:
        return False
    if not any(gpu["memory_mb"] >= (needs.get("min_vram_gb") or 0) * 1024 for gpu in CAPABILITIES["gpus"]):
        return False
    if needs.get("cuda") and needs["cuda"] not in CAPABILITIES["cuda"]:
        return False
    if not set(needs.get("models") or []) <= set(CAPABILITIES["models"]):
        return False
    return needs.get("max_price") is None or CAPABILITIES["price"] <= needs["max_price"]


def poll():
    db.execute("BEGIN IMMEDIATE")
    try:
        for row in db.execute("SELECT * FROM job WHERE state = 'QUEUED' ORDER BY requested_at").fetchall():
            if fits(json.loads(row["constraints"]) or {}):
                db.execute("UPDATE job SET state = 'RUNNING', assigned_miner_id = 'gpu-1' WHERE id = ?", (row["id"],))
                return row
        return None
    finally:
        db.execute("COMMIT")


def execute(payload):
    kind = payload.get("type")
    if kind is None and "model" in payload and "prompt" in payload:
        kind = "inference"
    if kind == "inference":
        if payload["prompt"] == "fail":
            raise RuntimeError("CUDA out of memory")
        return {"output": payload["prompt"].upper(), "model": payload["model"], "tokens_processed": 7}
    if kind == "transcribe":
        return {"output": "text of " + payload["url"], "model": payload.get("model", "base"), "transcription": "text"}
    if kind == "reencode":
        return {"output": "", "output_format": payload.get("output_format", "mp4"), "output_path": payload["url"]}
    raise RuntimeError(f"Unsupported job type: {kind}")


def submit(row, result, metrics):
    price = round(metrics.get("duration_ms", 0) / 1000 * 0.02, 6)
    receipt = {
        "version": "1.0", "receipt_id": "r" + row["id"], "job_id": row["id"], "provider": "gpu-1",
        "client": row["client_id"], "status": "COMPLETED", "units": metrics.get("duration_ms", 0) / 1000,
        "unit_type": "gpu_seconds", "unit_price": 0.02, "price": price, "zk_status": "not_required",
        "metadata": {"job_payload": json.loads(row["payload"]), "result": result, "metrics": metrics},
    }
    # Whatever the result says, the route completes the job.
    db.execute(
        "UPDATE job SET state = 'COMPLETED', result = ?, error = NULL, receipt = ?, receipt_id = ? WHERE id = ?",
        (json.dumps(result), json.dumps(receipt), receipt["receipt_id"], row["id"]),
    )


register()
while True:
    row = poll()
    if row is None:
        time.sleep(0.02)
        continue
    try:
        found = execute(json.loads(row["payload"]))
        result = {"status": "completed", "execution_time": 5.0, "gpu_used": True, **found}
        submit(row, result, {"gpu_utilization": 90, "memory_used": 900, "memory_peak": 2048, "duration_ms": 5000})
    except Exception as error:
        submit(row, {"status": "failed", "error": str(error)}, {"duration_ms": 5000})
