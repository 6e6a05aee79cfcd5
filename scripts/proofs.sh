#!/usr/bin/env bash
# Makes a proof of each circuit, has snarkjs (npm) verify them and refuse altered ones, proves the same with snarkjs for comparison, and
# runs the tests of each level; writes the table of docs/PROOFS.md. Needs node, npm and some 500 MB below target/proofs.
#
#   scripts/proofs.sh [--quick]
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in node npm python3; do
    command -v $tool >/dev/null || { echo "proofs: $tool is missing" >&2; exit 1; }
done
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
folder=$target/proofs
mkdir -p "$folder"
[[ -x $folder/node_modules/.bin/snarkjs ]] || npm install --silent --no-fund --no-audit --prefix "$folder" snarkjs@0.7.5
cargo build --quiet --release --locked -p am-zk --example prove
circuits=(openings-v1-4x1 openings-v1-8x4 policy-v1-9-32-32-4)
[[ ${1:-} == --quick ]] && circuits=(openings-v1-1x1)
uptime >&2
PYTHONDONTWRITEBYTECODE=1 python3 benches/proofs/snarkjs.py --prover "$target/release/examples/prove" \
    --snarkjs "$folder/node_modules/.bin/snarkjs" --folder "$folder" --out docs/PROOFS.md "${circuits[@]}"
# Each level by the service itself: made, exported, verified offline, refused when altered.
[[ ${1:-} == --quick ]] || cargo test --quiet --locked --test it --all-features proofs::
