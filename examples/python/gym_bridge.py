"""A bridge between agent-management and Gymnasium: the service trains a policy, this process steps the environments.

    pip install gymnasium==1.2.3
    export AGENT_MANAGEMENT_URL=http://127.0.0.1:8012 AGENT_MANAGEMENT_KEY=...
    python gym_bridge.py train CartPole-v1 --steps 100000 --settings '{"environments": 16}'
    python gym_bridge.py serve train_0123456789ab CartPole-v1     # the same run again, after this process was stopped

Observation spaces: Box, flattened, and Discrete, as one number for each value. Action spaces: Discrete (ppo, a2c, dqn, rainbow_dqn) and
Box with bounds (sac). All environments of a run are stepped together, with one frame each way; docs/RL.md describes the frames. The
WebSocket is spoken here, in a few lines, because what is waited for is one small frame after the other.
"""
import argparse
import base64
import hashlib
import json
import os
import socket
import ssl
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

RUNS = "/api/v1/agents/performance/rl/runs"
PROTOCOL = 1
HEAD = struct.Struct("<BBHIII")
RESET, STEP, CLOSE = 1, 2, 3
OBSERVED, STEPPED, FAILED = 129, 130, 131
TEXT, BINARY, CLOSING, PING, PONG = 1, 2, 8, 9, 10


def address():
    return os.environ.get("AGENT_MANAGEMENT_URL", "http://127.0.0.1:8012").rstrip("/")


def call(method, path, body=None):
    headers = {"X-Api-Key": os.environ["AGENT_MANAGEMENT_KEY"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address() + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{error.code}: {error.read().decode()}") from None


class Closed(Exception):
    """The service closed the socket: its code and reason."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


class Socket:
    """A WebSocket (RFC 6455) to `path`."""

    def __init__(self, path):
        url = urllib.parse.urlsplit(address() + path)
        secure = url.scheme == "https"
        raw = socket.create_connection((url.hostname, url.port or (443 if secure else 80)), 10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.settimeout(None)
        self.raw = ssl.create_default_context().wrap_socket(raw, server_hostname=url.hostname) if secure else raw
        self.file = self.raw.makefile("rb")
        nonce = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {url.path} HTTP/1.1", f"Host: {url.netloc}", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {nonce}",
            f"X-Api-Key: {os.environ['AGENT_MANAGEMENT_KEY']}",
        ]
        self.raw.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status, headers = self.file.readline().decode().split(" ", 2)[1], {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if status != "101":
            body = self.file.read(int(headers.get("content-length", 0)))
            raise SystemExit(f"{status}: {body.decode()}")
        digest = hashlib.sha1((nonce + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        if headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
            raise SystemExit("this is no WebSocket")

    def send(self, kind, payload):
        size = len(payload)
        if size < 126:
            head = bytes([0x80 | kind, 0x80 | size])
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | kind, 0x80 | 127, size)
        mask = os.urandom(4)
        # As one number: for small frames quicker than NumPy.
        masked = int.from_bytes(payload, "little") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        self.raw.sendall(head + mask + masked.to_bytes(size, "little"))

    def read(self, size):
        data = self.file.read(size)
        if len(data) < size:
            raise Closed(1006, "the connection is lost")
        return data

    def receive(self):
        """The next text or binary message; pings are answered."""
        message = b""
        while True:
            first, size = self.read(2)
            if size == 126:
                (size,) = struct.unpack(">H", self.read(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self.read(8))
            payload = self.read(size)
            kind = first & 15
            if kind == PING:
                self.send(PONG, payload)
            elif kind == CLOSING:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                self.send(CLOSING, payload[:2])
                raise Closed(code, payload[2:].decode())
            elif kind != PONG:
                message += payload
                if first & 0x80:
                    return message


class Spaces:
    """The spaces of an environment, as numbers."""

    def __init__(self, name):
        self.name = name
        one = gymnasium.make(name)
        self.observed, self.acted = one.observation_space, one.action_space
        self.horizon = (one.spec.max_episode_steps if one.spec else None) or 1000
        one.close()
        if isinstance(self.observed, Box):
            self.width = int(np.prod(self.observed.shape, dtype=int)) or 1
        elif isinstance(self.observed, Discrete):
            self.width = int(self.observed.n)
        else:
            raise SystemExit(f"{name} has observations of the kind {type(self.observed).__name__}: Box and Discrete are taken")
        if isinstance(self.acted, Discrete):
            self.actions = {"type": "discrete", "count": int(self.acted.n)}
        elif isinstance(self.acted, Box):
            low, high = self.acted.low.ravel(), self.acted.high.ravel()
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise SystemExit(f"{name} has actions without bounds")
            self.actions = {"type": "continuous", "low": low.tolist(), "high": high.tolist()}
        else:
            raise SystemExit(f"{name} takes actions of the kind {type(self.acted).__name__}: Discrete and Box are possible")

    def parameters(self):
        return {"environment": self.name, "observations": self.width, "actions": self.actions, "horizon": self.horizon}

    def vector(self, count):
        """As many environments, each of which begins its next episode in the step that ends one."""
        make = lambda: gymnasium.make(self.name, max_episode_steps=self.horizon)  # noqa: E731
        # No copies of what is put into a frame at once.
        return SyncVectorEnv([make] * count, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)

    def rows(self, observations):
        """Observations as bytes: 32-bit floats, one row for each environment."""
        observations = np.asarray(observations)
        if isinstance(self.observed, Discrete):
            return np.eye(self.width, dtype="<f4")[observations.reshape(-1) - self.observed.start].tobytes()
        return observations.astype("<f4", copy=False).tobytes()

    def taken(self, numbers, count):
        """Actions for the environments from the numbers of a frame."""
        if isinstance(self.acted, Discrete):
            # Python's own numbers: an environment checks each, which takes longer for NumPy's.
            start = int(self.acted.start)
            return [action + start for action in struct.unpack(f"<{count}i", numbers)]
        actions = np.frombuffer(numbers, "<f4").reshape((count, *self.acted.shape))
        return np.clip(actions, self.acted.low, self.acted.high)


class Bridge:
    """The bridge of one run. `steps` and `seconds`: steps of environments, and how long they took with all waiting."""

    def __init__(self, run, spaces):
        self.spaces, self.vectors, self.steps, self.first, self.last = spaces, {}, 0, None, None
        self.socket = Socket(f"{RUNS}/{run}/bridge")
        self.socket.send(TEXT, json.dumps({"type": "hello", "protocol": PROTOCOL, **spaces.parameters()}).encode())
        self.welcome = json.loads(self.socket.receive())

    @property
    def seconds(self):
        return (self.last or 0) - (self.first or 0)

    def answer(self, frame):
        kind, _, _, sequence, number, count = HEAD.unpack_from(frame)
        if kind == CLOSE:
            if vector := self.vectors.pop(number, None):
                vector.close()
            return None
        if kind == RESET:
            if number not in self.vectors:
                self.vectors[number] = self.spaces.vector(count)
            (seed,) = struct.unpack_from("<Q", frame, HEAD.size)
            observations, _ = self.vectors[number].reset(seed=seed)
            return HEAD.pack(OBSERVED, PROTOCOL, 0, sequence, number, count) + self.spaces.rows(observations)
        if self.first is None:
            self.first = time.perf_counter()
        actions = self.spaces.taken(frame[HEAD.size:], count)
        observations, rewards, terminated, truncated, told = self.vectors[number].step(actions)
        parts = [
            HEAD.pack(STEPPED, PROTOCOL, 0, sequence, number, count),
            self.spaces.rows(observations),
            rewards.astype("<f4").tobytes(),
            terminated.tobytes(),
            truncated.tobytes(),
        ]
        if terminated.any() or truncated.any():
            parts += [self.spaces.rows(told["final_obs"][ended]) for ended in np.flatnonzero(terminated | truncated)]
        self.steps += count
        self.last = time.perf_counter()
        return b"".join(parts)

    def serve(self):
        """Answer until the run has ended, and return why the service closed the socket."""
        while True:
            try:
                frame = self.socket.receive()
                try:
                    answer = self.answer(frame)
                except Exception as error:  # The run ends with these words.
                    _, _, _, sequence, number, count = HEAD.unpack_from(frame)
                    words = f"{type(error).__name__}: {error}".encode()[:500]
                    answer = HEAD.pack(FAILED, PROTOCOL, 0, sequence, number, count) + words
                if answer is not None:
                    self.socket.send(BINARY, answer)
            except Closed as closed:
                return closed
            except OSError as error:
                return Closed(1006, str(error))


def follow(run, spaces):
    """Serve a run to its end; a connection that is lost is made again."""
    while True:
        bridge = Bridge(run, spaces)
        closed = bridge.serve()
        if closed.code not in (1001, 1006):
            break
        print(f"{closed}: connecting again", file=sys.stderr)
        time.sleep(1)
    ended = call("GET", f"{RUNS}/{run}?wait=30")
    return bridge, closed, ended


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="start a run and be its bridge")
    train.add_argument("environment")
    train.add_argument("--algorithm", default="ppo")
    train.add_argument("--steps", type=int, default=100_000)
    train.add_argument("--settings", type=json.loads, default={})
    train.add_argument("--policy")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--episodes", type=int, default=20, help="of the evaluation at the end")
    serve = commands.add_parser("serve", help="be the bridge of a run that was started")
    serve.add_argument("run")
    serve.add_argument("environment")
    asked = parser.parse_args()
    spaces = Spaces(asked.environment)
    if asked.command == "train":
        body = {
            "environment": "bridge", "parameters": spaces.parameters(), "algorithm": asked.algorithm, "steps": asked.steps,
            "settings": asked.settings, "seed": asked.seed, "evaluation_episodes": asked.episodes,
        }
        if asked.policy:
            body["policy"] = asked.policy
        run = call("POST", RUNS, body)["id"]
        print(f"run {run}", flush=True)
    else:
        run = asked.run
    bridge, closed, ended = follow(run, spaces)
    print(f"{closed} ({bridge.steps} steps through the bridge in {bridge.seconds:.1f} s)")
    if ended["status"] != "completed":
        raise SystemExit(f"{ended['status']}: {ended['error']}")
    print(f"{ended['reference']}: {ended['scores']['mean']:.1f} over {ended['scores']['episodes']} episodes")


if __name__ == "__main__":
    main()
