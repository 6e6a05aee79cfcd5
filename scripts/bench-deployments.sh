#!/usr/bin/env bash
# Measures deployments on the release build: what keeping 50 instances costs, how soon 10 that are killed serve again, and what the proxy
# adds; writes the table of docs/DEPLOYMENTS.md, and fails when a bound is missed. Needs about 1 GB of memory and five minutes.
#
#   scripts/bench-deployments.sh [--instances 50] [--kill 10] [--rest 60] [--calls 2000] [--seconds 5] [--rounds 3] [--seed 1]
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in wrk python3; do
    command -v $tool >/dev/null || { echo "bench-deployments: $tool is missing: apt-get install wrk python3" >&2; exit 1; }
done
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
scripts/libtorch.sh
cargo build --quiet --release --locked --bins
uptime >&2
PYTHONDONTWRITEBYTECODE=1 python3 benches/deployments/fleet.py --binary "$target/release/agent-management" \
    --folder "$target/bench-deployments" --out docs/DEPLOYMENTS.md "$@"
