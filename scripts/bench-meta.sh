#!/usr/bin/env bash
# Trains the models that meta-learning's gates are about, and times MAML beside plain PyTorch: one core, turn by turn.
# PyTorch (about 5 GB with its libraries) goes into target/bench-meta/venv. Some minutes after that.
#
#   scripts/bench-meta.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'bench-meta: %s\n' "$*" >&2; }

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/bench-meta
mkdir -p "$place"

scripts/libtorch.sh
cargo build --quiet --release --locked --package am-rl --example meta_bench
say "training"
taskset --cpu-list 0 "$target/release/examples/meta_bench" gates
say "bringing PyTorch into $place/venv"
[ -x "$place/venv/bin/pip" ] || python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --requirement benches/meta/requirements.txt
say "measuring speed"
taskset --cpu-list 0 "$place/venv/bin/python" benches/meta/peer.py "$target/release/examples/meta_bench" 500 "${1:-3}"
