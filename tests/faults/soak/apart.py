"""``python -m tests.faults.soak.apart keyed|links SEED SECONDS FOLDER``: a soak for a test, in a process of its own.

The account is of this process's threads, files and connections: those of whatever runs the tests do not belong there.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path

from tests.faults.soak.keyed import Keyed
from tests.faults.soak.links import Links
from tests.faults.soak.report import lines_of
from tests.faults.soak.run import soak

HANGS = 200.0
"""Seconds after which it must have ended: then it says where its threads are, and ends."""
MIXES = {"keyed": Keyed, "links": Links}


def main(name: str, seed: str, seconds: str, folder: str) -> None:
    """Run it, tell it to people on stderr, and print what the test looks at."""
    mix = MIXES[name]
    faulthandler.dump_traceback_later(HANGS, exit=True)
    result = soak(int(seed), float(seconds), Path(folder), mix)
    faulthandler.cancel_dump_traceback_later()
    account = result.account
    print("\n".join(lines_of(account, keyed=mix.keyed)), file=sys.stderr)
    kinds = {kind for kinds in mix.lanes.values() for kind in kinds}
    missing = sorted(kinds.difference(result.struck))
    print(json.dumps({"bad": account.bad, "acknowledged": account.acknowledged, "missing": missing}))


if __name__ == "__main__":
    main(*sys.argv[1:])
