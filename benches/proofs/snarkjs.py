"""Verifies proofs with snarkjs, has altered ones refused, and proves the same circuit with it beside the service's prover.

    python3 benches/proofs/snarkjs.py --prover PATH --folder DIR --out docs/PROOFS.md CIRCUIT...

The first circuit is proved by snarkjs too, from the exported .r1cs and .wtns, with powers of tau that are made for it.
"""

import argparse
import json
import pathlib
import subprocess
import time

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"


def run(arguments, **more):
    """Run a command, with its output as text."""
    return subprocess.run(arguments, text=True, capture_output=True, **more)


def verifies(snarkjs, folder):
    """Whether snarkjs accepts a folder's proof."""
    done = run([snarkjs, "groth16", "verify", folder / "verification_key.json", folder / "public.json", folder / "proof.json"])
    return done.returncode == 0 and "OK!" in done.stdout


def numbers(value, path=()):
    """Paths of all texts of digits in a document."""
    if isinstance(value, str) and value.isdigit() and len(value) > 2:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from numbers(inner, (*path, key))


def refused(snarkjs, folder, scratch):
    """How many altered documents snarkjs refuses, and of how many: one digit of each number of the proof and the signals."""
    count = 0
    total = 0
    for name in ("proof.json", "public.json"):
        document = json.loads((folder / name).read_text())
        for turn, path in enumerate(numbers(document)):
            changed = json.loads(json.dumps(document))
            place = changed
            for key in path[:-1]:
                place = place[key]
            text = place[path[-1]]
            at = (len(text) - 1, 0, len(text) // 2)[turn % 3]
            place[path[-1]] = text[:at] + ("2" if text[at] == "1" else "1") + text[at + 1 :]
            for other in ("proof.json", "public.json", "verification_key.json"):
                (scratch / other).write_bytes((folder / other).read_bytes())
            (scratch / name).write_text(json.dumps(changed))
            total += 1
            count += not verifies(snarkjs, scratch)
    return count, total


def beside(snarkjs, folder, power):
    """Seconds that snarkjs takes to prove a folder's circuit, the fastest of three."""
    files = {name: folder / name for name in ("pot0.ptau", "pot1.ptau", "pot.ptau", "c0.zkey", "c.zkey", "s.proof.json", "s.public.json")}
    check = {"check": True, "capture_output": True}
    subprocess.run([snarkjs, "powersoftau", "new", "bn128", str(power), files["pot0.ptau"]], **check)
    subprocess.run([snarkjs, "powersoftau", "contribute", files["pot0.ptau"], files["pot1.ptau"], "-e=one"], **check)
    subprocess.run([snarkjs, "powersoftau", "prepare", "phase2", files["pot1.ptau"], files["pot.ptau"]], **check)
    subprocess.run([snarkjs, "groth16", "setup", folder / "circuit.r1cs", files["pot.ptau"], files["c0.zkey"]], **check)
    subprocess.run([snarkjs, "zkey", "contribute", files["c0.zkey"], files["c.zkey"], "-e=two"], **check)
    # Its own start is not its prover's time.
    started = time.monotonic()
    subprocess.run([snarkjs, "--version"], capture_output=True)
    idle = time.monotonic() - started
    times = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run([snarkjs, "groth16", "prove", files["c.zkey"], folder / "witness.wtns", files["s.proof.json"], files["s.public.json"]], **check)
        times.append(time.monotonic() - started - idle)
    assert json.loads(files["s.public.json"].read_text()) == json.loads((folder / "public.json").read_text()), "the same signals"
    return min(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prover", required=True)
    parser.add_argument("--snarkjs", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("circuits", nargs="+")
    options = parser.parse_args()
    scratch = options.folder / "altered"
    scratch.mkdir(parents=True, exist_ok=True)
    made = subprocess.run([options.prover, options.folder, *options.circuits], check=True, text=True, stdout=subprocess.PIPE)
    rows = [json.loads(line) for line in made.stdout.splitlines()]
    lines = [
        "| circuit | constraints | keys made, s | proof made, s | verified, ms | proof | keys | snarkjs verifies | altered, refused |",
        "|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        folder = options.folder / row["circuit"]
        good = verifies(options.snarkjs, folder)
        count, total = refused(options.snarkjs, folder, scratch)
        assert good and count == total, f"{row['circuit']}: verified {good}, refused {count} of {total}"
        lines.append(
            f"| `{row['circuit']}` | {row['constraints']:,} | {row['setup_seconds']:.1f} | {row['proof_seconds']:.2f} "
            f"| {1000 * row['verify_seconds']:.1f} | {row['proof_bytes']} B | {row['key_bytes'] / 1e6:.1f} MB | yes | {count} of {total} |"
        )
    first = rows[0]
    power = (first["constraints"] + first["signals"] + 1 - 1).bit_length()
    theirs = beside(options.snarkjs, options.folder / first["circuit"], power)
    ratio = theirs / first["proof_seconds"]
    lines += [
        "",
        f"The same circuit (`{first['circuit']}`) and the same values proved by snarkjs, from the exported `.r1cs` and `.wtns`, without its start: "
        f"{theirs:.2f} s, {ratio:.1f} times as long.",
    ]
    table = "\n".join(lines)
    print(table)
    if options.out:
        text = options.out.read_text()
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        options.out.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
    assert ratio >= 3, f"only {ratio:.1f} times as fast as snarkjs"


main()
