#!/usr/bin/env bash
# Measures the release build on a database of a million rows beside one of a single page, and writes the table of
# docs/SCALE.md. Needs some 10 GB below target/bench-scale (kept for the next run, unless retention was measured) and half an hour.
#
#   scripts/bench-scale.sh [--rows 1000000] [--seconds 3] [--only lists,idle,...]
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in wrk python3; do
    command -v $tool >/dev/null || { echo "bench-scale: $tool is missing: apt-get install wrk python3" >&2; exit 1; }
done
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
scripts/libtorch.sh
cargo build --quiet --release --locked --bins
uptime >&2
PYTHONDONTWRITEBYTECODE=1 python3 benches/scale/scale.py --binary "$target/release/agent-management" \
    --folder "$target/bench-scale" --out docs/SCALE.md "$@"
