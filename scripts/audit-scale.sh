#!/usr/bin/env bash
# Measure the security routes on a database with a million audit entries (benches/audit/README.md). Prints a table; fails
# when a question takes 50 ms or more at the median. ROWS, REQUESTS: other sizes. BINARY: a server that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

rows=${ROWS:-1000000}
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

key=bench-admin-key-0123456789
export APP_ENV=production APP_PORT=0 DATA_DIR=$folder DATABASE_URL=sqlite:///$folder/bench.db
export ADMIN_API_KEYS=$key CLIENT_API_KEYS=bench-client-key-0123456789 MINER_API_KEYS=bench-miner-key-0123456789
export LOG_FORMAT=json
"$binary" migrate >&2
python3 benches/audit/measure.py fill "$folder/bench.db" --rows "$rows"
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
python3 benches/audit/measure.py measure "$folder/bench.db" "$port" "$key" --rows "$rows" --requests "${REQUESTS:-200}"
