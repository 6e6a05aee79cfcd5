"""A client of agent-management in Python: a workflow that is followed, an agent that works, and runs that are repeated.

    pip install httpx==0.28.1
    export AGENT_MANAGEMENT_URL=http://127.0.0.1:8012 AGENT_MANAGEMENT_KEY=...
    python walk.py follow 20 22            # makes a workflow, executes it and follows its steps
    python walk.py agent adder             # does sub-tasks of the type data_analysis and answers messages, until it is stopped
    python walk.py ask adder alice 3 4     # alice asks the agent for a sum, end to end encrypted
    python walk.py retry                   # repeats all failed runs

Two times to know: httpx gives up after 5 seconds without an answer, which is shorter than `?wait=` and than the 15 seconds
between two comments of a quiet stream, so both get a timeout of their own below. And the service closes connections that are
idle for 20 seconds: httpx keeps idle ones for 5, which is less, and needs no change.
"""
import json
import os
import subprocess
import sys
import time
import uuid

import httpx

API = "/api/v1/agents"
# The comments of a quiet stream come every 15 seconds; without one for much longer the connection is dead.
STREAM = httpx.Timeout(10, read=60)
# Seals and opens messages; it needs no server.
BINARY = os.environ.get("AGENT_MANAGEMENT_BINARY", "agent-management")


def connect():
    url = os.environ.get("AGENT_MANAGEMENT_URL", "http://127.0.0.1:8012")
    return httpx.Client(base_url=url, headers={"X-Api-Key": os.environ["AGENT_MANAGEMENT_KEY"]})


def post(client, path, body, **options):
    """A POST that is done once, however often it is sent: the key stays the same when the answer is lost."""
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    for attempt in range(5):
        try:
            answer = client.post(API + path, json=body, headers=headers, **options)
            if answer.status_code not in (429, 503):
                break
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        except httpx.TransportError:
            time.sleep(2**attempt / 10)
    else:
        raise SystemExit(f"no answer to POST {path}")
    if answer.is_error:
        raise SystemExit(f"{answer.status_code}: {answer.text}")
    return answer.json()


def get(client, path, **query):
    answer = client.get(API + path, params=query)
    answer.raise_for_status()
    return answer


def events(client, path):
    """The events of a stream, each once: after a lost connection it goes on behind the last one."""
    last = "0"
    while True:
        try:
            with client.stream("GET", API + path, headers={"Accept": "text/event-stream", "Last-Event-ID": last}, timeout=STREAM) as stream:
                if stream.status_code == 204:
                    return
                stream.raise_for_status()
                data = ""
                for line in stream.iter_lines():
                    if line.startswith("id: "):
                        last = line[4:]
                    elif line.startswith("data: "):
                        data = line[6:]
                    elif not line and data:
                        yield json.loads(data)
                        data = ""
        except httpx.TransportError:
            time.sleep(1)


def follow(client, first, second):
    """Make a workflow of two steps, execute it and follow it to its end."""
    steps = {
        "add": {"step_type": "data_processing", "input_mappings": {"a": "$.inputs.a", "b": "$.inputs.b"},
                "action": {"kind": "jq", "program": "{sum: (.a + .b)}"}},
        "check": {"step_type": "verification", "depends_on": ["add"]},
    }
    workflow = post(client, "/workflows", {"name": "a sum", "steps": steps})["id"]
    run = post(client, f"/workflows/{workflow}/execute", {"inputs": {"a": float(first), "b": float(second)}})["id"]
    for event in events(client, f"/executions/{run}/events"):
        print(event["seq"], event["type"], event["data"].get("step", ""))
    ended = get(client, f"/executions/{run}").json()
    if ended["status"] != "completed":
        raise SystemExit(f"{ended['status']}: {ended['error_message']}")
    print("sum:", ended["final_result"]["step_results"]["add"]["sum"])


def agent_key(*arguments, given=None):
    done = subprocess.run([BINARY, "agent-key", *arguments], input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def publish_key(client, name):
    """A key pair in the file NAME.key, and the public half registered. Only who has the file reads what is sealed to it."""
    file = f"{name}.key"
    public = agent_key("public", file) if os.path.exists(file) else agent_key("new", file)
    post(client, f"/{name}/keys", {"kind": public["kind"], "public_key": public["public_key"]})
    return file


def send_sealed(client, sender, recipient, content, **more):
    keys = get(client, f"/{recipient}/keys").json()
    key = next(key["public_key"] for key in keys if key["kind"] == "x25519" and not key.get("revoked_at"))
    message = agent_key("seal", "--to", key, "--sender", sender, "--recipient", recipient, given=content)
    return post(client, "/messages/send", {**message, **more})


def inbox(client, name):
    return get(client, "/messages/inbox", agent_id=name, unread_only="true").json()["messages"]


def work(client, name):
    """An agent: it says that it lives, does its assignments, and answers messages, until it is stopped."""
    file = publish_key(client, name)
    post(client, "/registry", {"agent_id": name, "capabilities": ["data_analysis"]})
    print("ready", flush=True)
    while True:
        post(client, f"/registry/{name}/heartbeat", {})
        for task in get(client, f"/registry/{name}/assignments").json():
            path, attempt = f"/plans/assignments/{task['assignment_id']}", {"attempt": task["attempt"]}
            try:
                result = {"sum": sum(task["request"]["input"]["numbers"])}
                post(client, f"{path}/result", {**attempt, "result": result})
                print("did", task["sub_task"], result, flush=True)
            except (KeyError, TypeError) as error:
                post(client, f"{path}/fail", {**attempt, "error": f"no numbers: {error!r}", "retryable": False})
        for message in inbox(client, name):
            post(client, f"/messages/id/{message['message_id']}/read", {})
            if message["message_type"] == "task_request":
                continue  # an assignment, which stands in the list above too
            content = agent_key("open", file, given=message)
            if "numbers" in content:
                send_sealed(client, name, message["sender"], {"sum": sum(content["numbers"])}, reply_to=message["message_id"])
                print("answered", message["sender"], flush=True)
        time.sleep(0.5)


def ask(client, name, sender, *numbers):
    file = publish_key(client, sender)
    sent = send_sealed(client, sender, name, {"numbers": [float(number) for number in numbers]})
    for _ in range(60):
        for message in inbox(client, sender):
            if message.get("reply_to") == sent["message_id"]:
                print("sum:", agent_key("open", file, given=message)["sum"])
                return
        time.sleep(0.5)
    raise SystemExit(f"{name} does not answer")


def retry(client):
    """Repeat every failed run. All pages are read before the first is repeated, since that changes the list."""
    page, failed = get(client, "/executions", status="failed", limit=100), []
    while True:
        failed += [run["id"] for run in page.json()]
        if "next" not in page.links:
            break
        page = client.get(page.links["next"]["url"])
        page.raise_for_status()
    for run in failed:
        ended = post(client, f"/executions/{run}/retry", {}, params={"wait": 10, "definition": "current"}, timeout=20)
        print(run, ended["status"])


if __name__ == "__main__":
    commands = {"follow": follow, "agent": work, "ask": ask, "retry": retry}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    with connect() as service:
        commands[sys.argv[1]](service, *sys.argv[2:])
