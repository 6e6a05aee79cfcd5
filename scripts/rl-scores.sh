#!/usr/bin/env bash
# Measures what the training algorithms reach and how fast they train, and writes docs/RL.md's tables and pictures.
#
#   scripts/rl-scores.sh                  everything: about 45 minutes on one core
#   scripts/rl-scores.sh train [ROW...]   only train, all rows or those whose names begin so
#   scripts/rl-scores.sh speed            only measure speed beside stable-baselines3
#   scripts/rl-scores.sh page             only write the page anew from docs/rl/results.json
#
# stable-baselines3 and its torch (about 5 GB) go into target/rl-scores/venv.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'rl-scores: %s\n' "$*" >&2; }

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/rl-scores
results=docs/rl/results.json
scores=$target/release/examples/rl_scores
part=${1:-all}
[ $# = 0 ] || shift

scripts/libtorch.sh
cargo build --quiet --release --locked --example rl_scores

if [ "$part" = all ] || [ "$part" = train ]; then
    say "training: three seeds a row"
    "$scores" train --results $results "$@"
fi

if [ "$part" = all ] || [ "$part" = speed ]; then
    say "bringing stable-baselines3 into $place/venv"
    [ -x "$place/venv/bin/pip" ] || python3 -m venv "$place/venv"
    "$place/venv/bin/pip" install --quiet --disable-pip-version-check --requirement benches/rl/requirements.txt
    say "measuring speed, turn by turn"
    measured=$(mktemp)
    trap 'rm -f "$measured"' EXIT
    for _ in 1 2 3 4 5; do
        for row in 'ppo-cartpole-v1 40960' 'sac-pendulum-v1 1024'; do
            read -r name steps <<<"$row"
            "$scores" speed "$name" "$steps" | tee -a "$measured" >&2
            "$scores" plan "$name" | "$place/venv/bin/python" benches/rl/sb3.py "$name" "$steps" | tee -a "$measured" >&2
        done
    done
    "$scores" speeds --results $results <"$measured"
fi

"$scores" page --results $results
say "written: docs/RL.md, docs/rl/*.svg"
