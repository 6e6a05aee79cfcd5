#!/usr/bin/env bash
# Times the optimisers of am-portfolio-math beside PyPortfolioOpt: 500 assets, one core, the same input, turn by turn.
# PyPortfolioOpt (about 600 MB) goes into target/bench-portfolio/venv. About two minutes after that.
#
#   scripts/bench-portfolio.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'bench-portfolio: %s\n' "$*" >&2; }

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/bench-portfolio
mkdir -p "$place"

cargo build --quiet --release --locked --package am-portfolio-math --example portfolio_bench
say "bringing PyPortfolioOpt into $place/venv"
[ -x "$place/venv/bin/pip" ] || python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --requirement benches/portfolio/requirements.txt
say "measuring"
taskset --cpu-list 0 "$place/venv/bin/python" benches/portfolio/peer.py "$target/release/examples/portfolio_bench" "$place" "${1:-3}"
