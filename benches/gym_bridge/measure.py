"""Steps a second of CartPole-v1 in Gymnasium's SyncVectorEnv, alone with random actions, and through a bridge while PPO trains.

    measure.py BINARY FOLDER [--environments 16 64 256] [--rounds 3] [--steps 200000] [--out docs/RL.md]

In turns: alone, through the bridge, alone, ... The service is the release build, with the database in FOLDER. What counts of a training
is the run's `steps_per_second`, which includes the policy's actions and its gradient steps. Actions alone are drawn beforehand.
Writes the table between the marks `measured: bridge` of the document.
"""
import argparse
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples/python"))
KEY = "measured-with-this-key"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def started(binary, folder):
    """The service, once it is ready."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {
        "PATH": os.environ["PATH"], "APP_ENV": "dev", "APP_PORT": str(port), "DATA_DIR": str(folder.resolve()), "ADMIN_API_KEYS": KEY,
        "TRAINING_CHECKPOINT_SECONDS": "3600", "LOG_LEVEL": "warn",
    }
    process = subprocess.Popen([binary, "serve"], cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urllib.request.urlopen(url + "/health/ready", timeout=1)
            return process, url
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise SystemExit("the service did not start")


def alone(spaces, count, seconds=3.0):
    """Steps a second of Gymnasium alone, as it makes a vector where nothing else is said."""
    make = lambda: gymnasium.make(spaces.name, max_episode_steps=spaces.horizon)  # noqa: E731
    vector = SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.SAME_STEP)
    vector.reset(seed=1)
    actions = [vector.action_space.sample() for _ in range(512)]
    for action in actions[:64]:
        vector.step(action)
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for action in actions[:64]:
            vector.step(action)
        steps += 64 * count
    return steps / (time.perf_counter() - begin)


def bridged(bridge, spaces, count, steps):
    """Steps a second of a whole training."""
    rollout = 128
    settings = {"environments": count, "rollout": rollout, "batch": count * rollout, "epochs": 1, "hidden": [64, 64]}
    body = {
        "environment": "bridge", "parameters": spaces.parameters(), "algorithm": "ppo", "steps": steps, "settings": settings,
        "evaluation_episodes": 1, "policy": f"bench-{count}",
    }
    run = bridge.call("POST", bridge.RUNS, body)["id"]
    _, closed, ended = bridge.follow(run, spaces)
    if ended["status"] != "completed":
        raise SystemExit(f"{closed}: {ended['error']}")
    return ended["steps_per_second"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--environments", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--out", type=pathlib.Path)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    process, url = started(asked.binary, asked.folder)
    os.environ.update(AGENT_MANAGEMENT_URL=url, AGENT_MANAGEMENT_KEY=KEY)
    import gym_bridge as bridge  # Reads the address when it is used.

    lines = ["| environments | Gymnasium alone, steps a second | PPO through the bridge | ratio | aim |", "|---:|---:|---:|---:|---:|"]
    try:
        spaces = bridge.Spaces("CartPole-v1")
        for count in asked.environments:
            own, through = [], []
            for turn in range(asked.rounds):
                own.append(alone(spaces, count))
                through.append(bridged(bridge, spaces, count, asked.steps))
                print(f"{count} environments, turn {turn + 1}: {own[-1]:,.0f} alone, {through[-1]:,.0f} through the bridge", file=sys.stderr)
            first, second = statistics.median(own), statistics.median(through)
            lines.append(f"| {count} | {first:,.0f} | {second:,.0f} | {second / first:.2f} | 0.5 |")
    finally:
        process.terminate()
        process.wait(20)
    table = "\n".join(lines)
    print(table)
    if asked.out:
        text = asked.out.read_text()
        begin, end = "<!-- measured: bridge -->", "<!-- end -->"
        before, rest = text.split(begin, 1)
        _, after = rest.split(end, 1)
        asked.out.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


if __name__ == "__main__":
    main()
