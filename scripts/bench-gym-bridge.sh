#!/usr/bin/env bash
# Measures a training through a bridge beside Gymnasium's own steps, in turns, and writes the table of docs/RL.md. Gymnasium goes into
# target/bench-gym-bridge/venv. Two minutes after that.
#
#   scripts/bench-gym-bridge.sh [--environments 16 64 256] [--rounds 3] [--steps 200000]
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'bench-gym-bridge: %s\n' "$*" >&2; }

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/bench-gym-bridge
mkdir -p "$place"

scripts/libtorch.sh
cargo build --quiet --release --locked --bins
say "bringing Gymnasium into $place/venv"
[ -x "$place/venv/bin/pip" ] || python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --requirement benches/gym_bridge/requirements.txt
say "measuring"
uptime >&2
rm -rf "$place/data"
PYTHONDONTWRITEBYTECODE=1 "$place/venv/bin/python" benches/gym_bridge/measure.py "$target/release/agent-management" "$place/data" \
    --out docs/RL.md "$@"
