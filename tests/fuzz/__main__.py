"""`python -m tests.fuzz TARGET --minutes N`: http, websocket and json by atheris; differential
beside h11 and llhttp. Ends with 1 when something was found, and shows it."""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["protocol"]):
    from tests.fuzz.corpus import CORPUS
    from tests.fuzz.differential import run as run_differential
    from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run one target for the given time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=(*TARGETS, "differential"))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.target == "differential":
        return differential(given.minutes * 60, given.seed)
    with tempfile.TemporaryDirectory() as folder:
        for number, known in enumerate(CORPUS[given.target]):
            (Path(folder) / str(number)).write_bytes(known)
        flags = [f"-max_total_time={int(given.minutes * 60)}", f"-seed={given.seed}"]
        atheris.Setup([sys.argv[0], *flags, "-max_len=4096", folder], TARGETS[given.target])
        atheris.Fuzz()
    return 0


def differential(seconds: float, seed: int) -> int:
    """Compare the readers, print the counts and what was found."""
    wires, counts, found = run_differential(seconds, seed)
    print(f"{wires} wires")
    for (name, verdict), count in sorted(counts.items()):
        print(f"  {name:8} {verdict:10} {count}")
    for text, wire in found:
        print(f"{text}: {wire!r}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
