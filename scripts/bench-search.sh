#!/usr/bin/env bash
# Compares the tree-structured Parzen estimator of am-performance-math with Optuna's on three functions: regret and time for a trial,
# one core. Optuna (about 150 MB) goes into target/bench-search/venv. Writes the table into docs/METHODS.md. Some minutes.
#
#   scripts/bench-search.sh [TRIALS] [SEEDS]
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'bench-search: %s\n' "$*" >&2; }

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/bench-search
mkdir -p "$place"

cargo build --quiet --release --locked --package am-performance-math --example search_bench
say "bringing Optuna into $place/venv"
[ -x "$place/venv/bin/pip" ] || python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --requirement benches/search/requirements.txt
say "measuring"
taskset --cpu-list 0 "$place/venv/bin/python" benches/search/peer.py "$target/release/examples/search_bench" "${1:-100}" "${2:-50}"
