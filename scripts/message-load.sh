#!/usr/bin/env bash
# Measures messages between agents: 5000 open sockets, 2000 messages a second between pairs of them, each stored, delivered and
# acknowledged, on this machine, which the load is made on too. More: SOCKETS, RATE, SECONDS_COUNTED, SIZE.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --bins --example message_load
target=${CARGO_TARGET_DIR:-target}/release
place=$(mktemp -d)
key=message-load-key-$RANDOM$RANDOM$RANDOM
service=
trap 'kill "$service" 2>/dev/null || true; wait "$service" 2>/dev/null || true; rm -rf "$place"' EXIT

: >"$place/log"
APP_ENV=production APP_PORT=0 DATA_DIR=$place ADMIN_API_KEYS=$key CLIENT_API_KEYS=client-$key MINER_API_KEYS=miner-$key \
    MESSAGE_KEYS=load:$(head -c 32 /dev/urandom | base64 -w0) LOG_FORMAT=json LOG_LEVEL=${LOG_LEVEL:-warn,agent_management::lifecycle=info} \
    "$target/agent-management" serve 2>"$place/log" &
service=$!
until port=$(sed -n 's/.*"message":"ready","address":"[^"]*:\([0-9]*\)".*/\1/p' "$place/log") && [ -n "$port" ]; do
    kill -0 "$service" || { cat "$place/log" >&2; exit 1; }
    sleep 0.1
done
"$target/examples/message_load" --address "127.0.0.1:$port" --token "$key" --pid "$service" \
    --sockets "${SOCKETS:-5000}" --rate "${RATE:-2000}" --seconds "${SECONDS_COUNTED:-30}" --size "${SIZE:-256}"
