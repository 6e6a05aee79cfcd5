#!/usr/bin/env bash
# Measures the release build's profiles of agents at 100,000 beside 1,000 and beside FastAPI, and reports of metrics beside creates; writes
# the table of docs/METHODS.md. Needs some 300 MB below target/bench-performance and two minutes.
#
#   scripts/bench-performance.sh [--full 100000] [--small 1000] [--seconds 3] [--rounds 3]
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in wrk python3; do
    command -v $tool >/dev/null || { echo "bench-performance: $tool is missing: apt-get install wrk python3" >&2; exit 1; }
done
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
scripts/libtorch.sh
cargo build --quiet --release --locked --bins
python=$target/bench-performance/venv/bin/python
[ -x "$python" ] || python3 -m venv "$target/bench-performance/venv"
"$python" -m pip install --quiet --disable-pip-version-check --requirement benches/performance/requirements.txt
uptime >&2
PYTHONDONTWRITEBYTECODE=1 python3 benches/performance/profiles.py --binary "$target/release/agent-management" \
    --folder "$target/bench-performance" --peer "$python" --out docs/METHODS.md "$@"
