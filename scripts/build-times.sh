#!/usr/bin/env bash
# Measure how long the project takes to build and print a Markdown table: wall-clock time, processor time of cargo and
# its children. Run it on a quiet machine; it takes about half an hour on two cores. All builds go to a target
# directory of their own (BUILD_TIMES_DIR, default target/build-times), which is deleted first and left at the end.
#
#   scripts/build-times.sh            all rows
#   scripts/build-times.sh dev        the rows of the debug profile only
#   scripts/build-times.sh release    the rows of the release profile only
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
root=$PWD
export CARGO_TARGET_DIR=${BUILD_TIMES_DIR:-$root/target/build-times} CARGO_TERM_COLOR=never
unset CARGO_INCREMENTAL
log=$CARGO_TARGET_DIR.log
mkdir -p "$(dirname "$log")"
: >"$log"

# The crate that is edited: a domain crate with dependents (orchestration, the service), as most edits are.
leaf=crates/communication/src/lib.rs package=am-communication
saved=$(mktemp)
cp "$leaf" "$saved"
trap 'cp "$saved" "$leaf"; rm -f "$saved"' EXIT

# Changes the body of one function of the leaf crate.
probe=1
edit() {
    probe=$((probe + 1))
    { cat "$saved"; printf '\n#[doc(hidden)]\npub fn build_times_probe() -> u64 {\n    %d\n}\n' "$probe"; } >"$leaf"
}

# row NAME COMMAND...: runs the command and prints its row; ends the script with the log's last lines if it fails.
row() {
    local name=$1 TIMEFORMAT='%R %U %S' timing real user sys
    shift
    timing=$({ time "$@" >>"$log" 2>&1; } 2>&1) || { tail -20 "$log" >&2; exit 1; }
    read -r real user sys <<<"$timing"
    awk -v name="$name" -v real="$real" -v user="$user" -v sys="$sys" \
        'BEGIN { printf "| %s | %.0f s | %.0f s |\n", name, real, user + sys }'
}
quiet() { "$@" >>"$log" 2>&1; }
own_packages() { cargo metadata --no-deps --format-version 1 --locked | python3 -c 'import json,sys; [print("-p", p["name"]) for p in json.load(sys.stdin)["packages"]]'; }

scripts/libtorch.sh
rm -rf "$CARGO_TARGET_DIR"
mkdir -p "$CARGO_TARGET_DIR"
release=(cargo build --release --locked --bins)
printf '| build | wall clock | processor |\n|---|---|---|\n'
if [ "$what" != dev ]; then
    row "clean release build" "${release[@]}"
    # shellcheck disable=SC2046
    quiet cargo clean --release $(own_packages)
    row "release build of the own code alone" "${release[@]}"
    edit
    quiet "${release[@]}"
    edit
    row "release build after an edit inside \`$package\`" "${release[@]}"
    cp "$saved" "$leaf"
fi
if [ "$what" != release ]; then
    check=(cargo check --locked --workspace --all-features)
    unit=(cargo test --locked -p "$package" --lib --no-run)
    every=(cargo test --locked --workspace --all-features --no-run)
    edit
    quiet "${check[@]}"
    edit
    row "\`cargo check\` after an edit inside \`$package\`" "${check[@]}"
    quiet "${unit[@]}"
    edit
    row "unit tests of \`$package\` ready after an edit inside it" "${unit[@]}"
    quiet "${every[@]}"
    edit
    row "all tests ready after an edit inside \`$package\`" "${every[@]}"
fi
