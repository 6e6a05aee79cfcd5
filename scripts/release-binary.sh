# Sourced by scripts that measure a server: sets `binary` to BINARY, or to a release that is built here.
# shellcheck shell=bash
binary=${BINARY:-}
if [[ -z $binary ]]; then
    cargo build --release --locked --bins
    binary=${CARGO_TARGET_DIR:-target}/release/agent-management
fi
