#!/usr/bin/env bash
# Measures the release build's marketplace and ledger at a million ledger lines and 100,000 services beside 10,000 of each, and
# simulates rings and shoppers; writes the tables of docs/ECONOMY.md. Needs some 3 GB below target/bench-economy and a quarter of
# an hour.
#
#   scripts/bench-economy.sh [--lines 1000000] [--things 100000] [--seconds 3] [--only trade,reads,simulations]
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in wrk python3; do
    command -v $tool >/dev/null || { echo "bench-economy: $tool is missing: apt-get install wrk python3" >&2; exit 1; }
done
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
scripts/libtorch.sh
cargo build --quiet --release --locked --bins
cargo build --quiet --release --locked -p am-marketplace --example economy_figures
uptime >&2
PYTHONDONTWRITEBYTECODE=1 python3 benches/economy/economy.py --binary "$target/release/agent-management" \
    --figures "$target/release/examples/economy_figures" --folder "$target/bench-economy" --out docs/ECONOMY.md "$@"
