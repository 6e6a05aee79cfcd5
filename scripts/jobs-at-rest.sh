#!/usr/bin/env bash
# Measure what open jobs of the services cost the server (docs/SERVICES.md). Prints a table; fails when they add more than
# 1 % of a core at rest. JOBS, SECONDS_EACH: other sizes. BINARY: a server that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/release-binary.sh
folder=$(mktemp -d)
server=
cleanup() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap cleanup EXIT

key=bench-client-key-0123456789
export APP_ENV=production APP_PORT=0 DATA_DIR=$folder DATABASE_URL=sqlite:///$folder/bench.db
export ADMIN_API_KEYS=bench-admin-key-0123456789 CLIENT_API_KEYS=$key MINER_API_KEYS=bench-miner-key-0123456789
export LOG_FORMAT=json LOG_LEVEL=warn,agent_management::lifecycle=info,agent_management::jobs=debug
: >"$folder/log"
"$binary" serve 2>"$folder/log" &
server=$!
for _ in $(seq 600); do
    if grep -q '"ready"' "$folder/log"; then break; fi
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$folder/log" >&2
        exit 1
    fi
    sleep 0.1
done
port=$(sed -n '/"ready"/s/.*"address":"[^"]*:\([0-9]*\)".*/\1/p' "$folder/log" | head -1)
python3 benches/jobs/measure.py "$port" "$server" "$key" "$folder/bench.db" "$folder/log" --jobs "${JOBS:-10000}" --seconds "${SECONDS_EACH:-30}"
