#!/usr/bin/env bash
# Measures how policies answer (benches/serving/README.md) and prints a table. About two minutes once built.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'rl-serving: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

for tool in wrk curl python3; do
    command -v $tool >/dev/null || die "$tool is missing: apt-get install wrk curl python3"
done
seconds=${SECONDS_EACH:-3} port=${PORT:-8312}
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then die "port $port is in use"; fi

say "step 1 of 3: the service"
scripts/libtorch.sh
cargo build --quiet --release --locked --bins
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
run=$target/serving
rm -rf "$run"
mkdir -p "$run"
KEY=serving-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
export KEY
env -u DATABASE_URL APP_ENV=production APP_HOST=127.0.0.1 APP_PORT="$port" DATA_DIR="$run/data" ADMIN_API_KEYS="$KEY" \
    CLIENT_API_KEYS="client-$KEY" MINER_API_KEYS="miner-$KEY" RATE_LIMIT_REQUESTS=0 LOG_LEVEL=info LOG_FORMAT=json \
    "$target/release/agent-management" serve 2>"$run/server.log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
base=http://127.0.0.1:$port
rl=$base/api/v1/agents/performance/rl
curl --fail --silent --output /dev/null --retry 100 --retry-connrefused --retry-delay 1 "$base/health/ready"

# load NAME CONNECTIONS URL: wrk's own summary into a file, and its RESULT line out.
load() {
    wrk -t1 -c"$2" -d"${seconds}s" -s benches/serving/act.lua "$3" >"$run/$1.txt"
    sed -n 's/^RESULT //p' "$run/$1.txt"
}
api() { curl --fail --silent --show-error --header "x-api-key: $KEY" "$@"; }

say "step 2 of 3: measuring, $seconds s each"
act=$rl/policies/marketplace-ppo/act
for round in 1 2 3 4 5; do
    printf 'health %s\n' "$(STATES=0 load "health-$round" 32 "$base/health")"
    printf 'act %s\n' "$(load "act-$round" 32 "$act")"
    printf 'batch %s\n' "$(STATES=1024 EXACT=false load "batch-$round" 4 "$act")"
    printf 'exact %s\n' "$(STATES=1024 EXACT=true load "exact-$round" 4 "$act")"
    printf 'idle %s\n' "$(load "idle-$round" 1 "$act")"
done >"$run/results.txt"

say "step 3 of 3: measuring while a run trains"
api --json '{"environment": "CartPole-v1", "steps": 100000000, "policy": "background"}' "$rl/runs" >"$run/training.json"
id=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])' <"$run/training.json")
for _ in $(seq 100); do
    if api "$rl/runs/$id" | grep -q '"status":"running"'; then break; fi
    sleep 0.1
done
for round in 1 2 3 4 5; do
    printf 'training %s\n' "$(load "training-$round" 1 "$act")"
done >>"$run/results.txt"
api "$rl/runs/$id" >"$run/training.json"
api --request POST "$rl/runs/$id/cancel" >/dev/null

python3 benches/serving/table.py "$run/results.txt" "$run/training.json"
