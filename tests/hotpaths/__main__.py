"""``python -m tests.hotpaths [--keep]``: see the package."""

from __future__ import annotations

import json
import sys

from tests.hotpaths import kept
from tests.hotpaths.paths import CALLS, all_paths

found = all_paths()
if "--json" in sys.argv:
    print(json.dumps(found))
elif "--keep" in sys.argv:
    kept.write(found)
    print(f"{len(found)} paths are kept in {kept.FILE.name}")
else:
    for path, counts in found.items():
        print(f"{counts.total() / CALLS:8.0f}  {path}")
