"""Tries deploy/prometheus-rules.yml with promtool: each alarm with series that set it off and with series that must not.

Arguments: the rules, and a directory to write the unit tests for promtool into. An alarm without both cases fails.
"""
import pathlib
import subprocess
import sys

import yaml

HOUR, GIB = 60, 1 << 30


def level(metric, bad, good, minutes=40, **labels):
    """A value that stays at `bad`, and one that stays at `good`."""
    return minutes, {series(metric, labels): f"{bad}x200"}, {series(metric, labels): f"{good}x200"}


def rising(metric, minutes=40, start=0):
    """A value that grows by five a minute, and one that is as large and stays."""
    return minutes, {series(metric, {}): f"{start}+5x200"}, {series(metric, {}): f"{start + 400}x200"}


def event(metric, minutes=12, **labels):
    """A counter that has counted one thing within the last minutes, and one that has counted it long ago."""
    return minutes, {series(metric, labels): "0x5 1x200"}, {series(metric, labels): "1x200"}


def slow(metric, quick, long, minutes=40, **labels):
    """A histogram whose every sixtieth value lies between the two bounds, and one with all below the first."""
    def at(bound, growth):
        return {series(metric + "_bucket", {**labels, "le": bound}): f"0+{growth}x200"}
    return (minutes, at(quick, 59) | at(long, 61) | at("+Inf", 61), at(quick, 61) | at(long, 61) | at("+Inf", 61))


def series(metric, labels):
    inner = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{metric}{{{inner}}}"


def both(minutes, bad, good):
    """Series that are written out: name with labels, and values."""
    return minutes, bad, good


# By the end of the alarm's name: minutes after which it is looked for, series that set it off, series that must not.
READS = "/api/v1/agents/workflows/{workflow_id}"
CASES = {
    "Down": level("up", 0, 1, minutes=5),
    "Restarts": both(50, {"process_cpu_seconds_total{}": "90x9 1x9 2x9 1x9 0x200"}, {"process_cpu_seconds_total{}": "90x9 1x9 2x9 3x9 4x200"}),
    "TaskGone": level("background_tasks_running", 0, 1, task="engine"),
    "Errors": both(
        30,
        {'http_requests_total{status="200"}': "0+98x200", 'http_requests_total{status="503"}': "0+2x200"},
        {'http_requests_total{status="200"}': "0+999x200", 'http_requests_total{status="503"}': "0+1x200"},
    ),
    "SlowReads": both(
        30,
        slow("http_request_duration_seconds", "0.05", "0.1", route=READS)[1],
        # What waits by design is no slow read.
        slow("http_request_duration_seconds", "0.05", "10", route="/api/v1/agents/executions/{execution_id}")[1],
    ),
    "Unauthorized": both(
        100,
        {'http_refused_total{code="unauthorized"}': "0+6x90 540+600x200"},
        {'http_refused_total{code="unauthorized"}': "0+600x200"},
    ),
    "KeyRefused": both(
        60,
        {'http_refused_by_key_total{key="0a1b2c3d", code="unauthorized"}': "0+10x200"},
        {'http_refused_by_key_total{key="0a1b2c3d", code="unauthorized"}': "0+1x200", 'http_refused_by_key_total{key="unknown", code="unauthorized"}': "0+600x200"},
    ),
    "Memory": level("process_resident_memory_bytes", GIB + 1, GIB - 1),
    "OpenFiles": level("process_open_fds", 60000, 50000),
    "AuditHeadRefused": level("audit_head_refused", 1, 0),
    "AuditEntryChanged": level("audit_entry_changed", 1, 0),
    "AuditEntriesDisowned": event("audit_entries_disowned_total"),
    "WitnessRefused": level("audit_witness_refused", 1, 0, witness="w"),
    "WitnessSilent": both(
        3 * HOUR,
        {'audit_witness_submissions_total{witness="w", result="failed"}': "0+1x200", 'audit_witness_submissions_total{witness="w", result="cosigned"}': "9x200"},
        {'audit_witness_submissions_total{witness="w", result="failed"}': "0+1x200", 'audit_witness_submissions_total{witness="w", result="cosigned"}': "0+1x200"},
    ),
    "WriterQueue": level("db_writer_queue_depth", 1500, 900),
    "SlowCommits": slow("db_commit_seconds", "0.1", "1"),
    "LockWait": slow("db_lock_wait_seconds", "1", "10"),
    "LockHeld": slow("db_lock_held_seconds", "0.1", "1"),
    # The series of a write begins with its first one.
    "LongWrites": both(30, {'db_long_writes_total{write="save"}': "_x20 1x200"}, {'db_long_writes_total{write="save"}': "1x200"}),
    "DiskFull": level("disk_free_bytes", 4 * GIB, 6 * GIB),
    "RetentionSlow": slow("retention_batch_seconds", "0.032", "0.064"),
    "RetentionFails": event("retention_failures_total"),
    "PriceSourceFails": event("portfolio_price_source_failures_total"),
    "PortfolioReviewFails": event("portfolio_review_failures_total"),
    "SettlementRefused": event("portfolio_settlements_refused_total"),
    "SettlementFiller": event("portfolio_settlement_fillers_total"),
    "SettlementOld": level("portfolio_settlement_oldest_seconds", 1900, 1700, minutes=20),
    "SettlementHalted": level("portfolio_settlement_halted", 1, 0, minutes=20),
    "LanguageModelFails": event("creativity_llm_failures_total"),
    "MarketFails": event("market_worker_failures_total"),
    "ListUnfinished": level("db_list_progress_ratio", 0.9, 1, minutes=90, list="executions"),
    "ReaderWait": slow("db_reader_wait_seconds", "0.05", "0.5"),
    "Busy": event("db_busy_total"),
    "WriteTimeouts": event("db_write_timeouts_total"),
    "Wal": level("db_wal_bytes", 70 << 20, 32 << 20),
    "PlacesFull": level("engine_executions_working", 512, 511),
    "ExecutionsWaiting": rising("engine_executions_waiting"),
    "ExecutionsFail": both(
        40,
        {'engine_executions_ended_total{status="completed"}': "0+7x200", 'engine_executions_ended_total{status="failed"}': "0+3x200"},
        {'engine_executions_ended_total{status="completed"}': "0+9x200", 'engine_executions_ended_total{status="failed"}': "0+1x200"},
    ),
    "TakenOver": event("engine_executions_taken_over_total"),
    "OldRun": level("engine_oldest_run_seconds", 700000, 600000, minutes=90),
    "StepsWaitForMiners": rising("jobs_waited_for", minutes=60),
    "JobsWait": rising("jobs_open", minutes=60),
    "JobsFail": both(
        40,
        {'service_jobs_total{service="whisper", state="completed"}': "0+7x200", 'service_jobs_total{service="whisper", state="expired"}': "0+3x200"},
        {'service_jobs_total{service="whisper", state="completed"}': "0+9x200", 'service_jobs_total{service="whisper", state="failed"}': "0+1x200"},
    ),
    "JqRespawns": both(
        30,
        {"jq_respawns_total{}": "0+1x200", "jq_timeouts_total{}": "0x200", "jq_crashes_total{}": "0x200"},
        {"jq_respawns_total{}": "0+2x200", "jq_timeouts_total{}": "0+1x200", "jq_crashes_total{}": "0+1x200"},
    ),
    "JqWaiting": level("jq_waiting", 2000, 900),
    "AgentsOffline": both(30, {"agents_online{}": "3x10 0x200"}, {"agents_online{}": "0x200"}),
    "AssignmentsWaiting": rising("assignments_waiting", minutes=60),
    "AssignmentsFail": both(
        40,
        {"assignments_failed_total{}": "0+2x200", "assignments_completed_total{}": "0+8x200"},
        {"assignments_failed_total{}": "0+1x200", "assignments_completed_total{}": "0+99x200"},
    ),
    "AssignmentsReleased": both(30, {"assignments_released_total{}": "0+1x200"}, {"assignments_released_total{}": "0x10 3x200"}),
    "MessagesRefused": both(
        100,
        {'messages_sent_total{result="refused"}': "0+6x90 540+600x200"},
        {'messages_sent_total{result="refused"}': "0+600x200"},
    ),
    "MessagesWaiting": rising("messages_waiting", minutes=2 * HOUR + 30),
    "MessagesExpire": both(
        2 * HOUR,
        {"messages_expired_total{}": "0+2x200", 'messages_sent_total{result="stored"}': "0+10x200"},
        {"messages_expired_total{}": "0+2x200", 'messages_sent_total{result="stored"}': "0+100x200"},
    ),
    "MessagesCaughtUp": both(
        2 * HOUR,
        {"messages_caught_up_total{}": "0+100x200", "messages_pushed_total{}": "0+100x200"},
        {"messages_caught_up_total{}": "0+70x200", "messages_pushed_total{}": "0+600x200"},
    ),
    "MessagesUnacknowledged": both(
        2 * HOUR,
        {"messages_acknowledged_total{}": "0+10x200", "messages_pushed_total{}": "0+100x200"},
        {"messages_acknowledged_total{}": "0+95x200", "messages_pushed_total{}": "0+100x200"},
    ),
    "SocketsFull": level("message_sockets", 9800, 5000),
    "SocketsBehind": both(60, {"message_sockets_behind_total{}": "0+1x200"}, {"message_sockets_behind_total{}": "0x5 1x200"}),
    "WebhooksDead": both(30, {'webhook_attempts_total{result="dead"}': "_x20 1x200"}, {'webhook_attempts_total{result="failed"}': "0+5x200", 'webhook_attempts_total{result="dead"}': "3x200"}),
    "WebhooksWait": rising("webhook_queue"),
    "SlowPolicies": slow("rl_act_duration_seconds", "0.01", "0.1", policy="p@1"),
    "PolicyQueue": level("rl_act_waiting", 250, 100, policy="p@1"),
    "PolicyMemory": level("rl_policies_memory_bytes", 256 << 20, 200 << 20, minutes=60),
    "TrainingStuck": both(
        60,
        {"rl_training_active{}": "1x200", "rl_training_steps_total{}": "500x200"},
        {"rl_training_active{}": "1x200", "rl_training_steps_total{}": "0+500x200"},
    ),
    "SandboxesFull": level("sandbox_running", 4, 3),
    "SandboxBreach": event("sandbox_breaches_total"),
}
# Labels that an alarm keeps of the series which set it off, beside job and instance.
KEPT = {
    "TaskGone": {"task": "engine"}, "SlowReads": {"route": READS}, "WitnessRefused": {"witness": "w"},
    "WitnessSilent": {"witness": "w"}, "LongWrites": {"write": "save"}, "ListUnfinished": {"list": "executions"},
    "MessagesRefused": {"result": "refused"}, "WebhooksDead": {"result": "dead"}, "SlowPolicies": {"policy": "p@1"},
    "PolicyQueue": {"policy": "p@1"}, "Unauthorized": {},
}
PREFIX = "AgentManagement"


def scraped(name):
    """The series as Prometheus keeps it when it scrapes the job."""
    metric, inner = name[:-1].split("{", 1)
    labels = ['job="agent-management"', 'instance="a"', *([inner] if inner else [])]
    return f"{metric}{{{', '.join(labels)}}}"


def main():
    rules, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    alarms = {rule["alert"]: rule for group in yaml.safe_load(open(rules))["groups"] for rule in group["rules"]}
    named = {PREFIX + name for name in CASES}
    assert named == set(alarms), f"alarms without cases, or cases without alarms: {sorted(named ^ set(alarms))}"
    tests = []
    for name, (minutes, bad, good) in CASES.items():
        alarm = alarms[PREFIX + name]
        labels = {"job": "agent-management", "instance": "a", **alarm["labels"], **KEPT.get(name, {})}
        fired = [{"exp_labels": labels, "exp_annotations": alarm["annotations"]}]
        for given, expected in [(bad, fired), (good, [])]:
            tests.append({
                "interval": "1m",
                "input_series": [{"series": scraped(series), "values": str(values)} for series, values in given.items()],
                "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": PREFIX + name, "exp_alerts": expected}],
            })
    written = folder / "rules.test.yml"
    document = {"rule_files": [str(pathlib.Path(rules).resolve())], "evaluation_interval": "1m", "tests": tests}
    written.write_text(yaml.safe_dump(document, sort_keys=False))
    for command in [["check", "rules", rules], ["test", "rules", str(written)]]:
        done = subprocess.run(["promtool", *command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"promtool {' '.join(command)}:\n{done.stdout}{done.stderr}")
    print(f"{len(alarms)} alarms, each with a case that sets it off and one that does not")


main()
