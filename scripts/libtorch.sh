#!/usr/bin/env bash
# Put libtorch 2.13.0 (CPU) where the build looks for it: .libtorch/{include,lib} beside Cargo.toml.
#
# tch's own download is out of reach on closed networks, so the files come from the PyTorch wheel on the
# configured package index, pinned by hash (scripts/libtorch.txt). Only what the CPU needs is kept: about
# 490 MB on disk from a 540 MB download, which is deleted at the end. Runs once; after that it is a no-op.
# A LIBTORCH that is already set is honoured and nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'libtorch: %s\n' "$*" >&2; }

here=$PWD/.libtorch
if [ -n "${LIBTORCH:-}" ] && [ "$LIBTORCH" != "$here" ]; then
    [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || { say "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so"; exit 1; }
    say "using LIBTORCH=$LIBTORCH"
    exit 0
fi
want=$(sha256sum scripts/libtorch.txt | cut -d' ' -f1)
if [ -e "$here/stamp" ] && [ "$(cat "$here/stamp")" = "$want" ]; then exit 0; fi
[ "$(uname -m)" = x86_64 ] || { say "wheels are pinned for x86-64; on $(uname -m) set LIBTORCH to a libtorch 2.13.0"; exit 1; }

work=$(mktemp -d "$PWD/.libtorch.part.XXXXXX")
trap 'rm -rf "$work"' EXIT
say "step 1 of 3: downloading 540 MB (half a minute on a fast line)"
python3 -m pip download --quiet --progress-bar on --disable-pip-version-check --no-deps --require-hashes \
    --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux_2_17_x86_64 --dest "$work/wheels" --requirement scripts/libtorch.txt >&2

say "step 2 of 3: unpacking"
python3 - "$work" <<'PY'
import pathlib, shutil, sys, zipfile

work = pathlib.Path(sys.argv[1])
keep = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}
picked = []
for wheel in sorted((work / "wheels").glob("*.whl")):
    archive = zipfile.ZipFile(wheel)
    for item in archive.infolist():
        path = pathlib.PurePosixPath(item.filename)
        if item.is_dir():
            continue
        if path.name in keep:
            picked.append((archive, item, work / "root" / "lib" / path.name))
        elif path.parts[:2] == ("torch", "include"):
            picked.append((archive, item, work / "root" / "include" / pathlib.Path(*path.parts[2:])))
total, done, shown = sum(i.file_size for _, i, _ in picked), 0, -1
for archive, item, target in picked:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(item) as source, open(target, "wb") as sink:
        while block := source.read(4 << 20):
            sink.write(block)
            done += len(block)
            percent = 100 * done // total
            if percent != shown and (sys.stderr.isatty() or percent % 25 == 0):
                shown = percent
                end = "\r" if sys.stderr.isatty() and percent < 100 else "\n"
                print(f"libtorch: [{'#' * (percent // 4):25s}] {percent:3d} % of {total >> 20} MB", end=end, file=sys.stderr)
found = {target.name for _, _, target in picked} & keep
if found != keep:
    sys.exit(f"libtorch: the wheels lack {sorted(keep - found)}")
PY

say "step 3 of 3: linking"
# torch-sys links -ltorch; the real one only re-exports libtorch_cpu.so, so an empty one that needs it will do.
gcc -shared -Wl,--no-as-needed -o "$work/root/lib/libtorch.so" -L"$work/root/lib" -ltorch_cpu -lc10 \
    -Wl,--allow-shlib-undefined -Wl,-rpath,'$ORIGIN'
for so in libgomp.so.1 libcudart.so.13 libcupti.so.13; do ln -s "$so" "$work/root/lib/${so%.so.*}.so"; done
rm -rf "$here"
mv "$work/root" "$here"
echo "$want" >"$here/stamp"
say "ready in .libtorch ($(du -sm "$here" | cut -f1) MB)"
