"""`python -m tests.faults.soak --minutes 5 --seed 1`: print the account; exit code 1 if anything in it must not be."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.soak.keyed import Keyed
from tests.faults.soak.links import Links
from tests.faults.soak.mix import Mix
from tests.faults.soak.report import lines_of
from tests.faults.soak.run import soak


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--links", action="store_true", help="faults of links and messages under calls without keys")
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults (default 5)")
    parser.add_argument("--seed", type=int, default=None, help="repeats the faults of a run (default: a new one)")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for the ledger and the logs of the servers")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(filename=folder / "clients.log")
        mix: type[Mix] = Links if options.links else Keyed
        result = soak(seed, 60 * options.minutes, folder, mix)
    print("\n".join(lines_of(result.account, keyed=mix.keyed)))
    print("faults                " + ", ".join(f"{kind} {count}" for kind, count in sorted(result.struck.items())))
    bad = result.account.bad
    if bad:
        print(f"\n{len(bad)} findings; again: make {mix.target} MINUTES={options.minutes:g} SEED={seed}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
