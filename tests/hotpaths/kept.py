"""The figures that are kept in the repository, and what a comparison with them says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.hotpaths.paths import CALLS, Counts

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
FILE = Path(__file__).parent / f"python{VERSION}.json"
TOLERANCE = 0.03
SLACKEN = 0.10
"""A path that costs so much less is written down again, or the guard would sleep through the next change."""


def read() -> dict[str, Counts] | None:
    """Instructions of each path by file; None: none are kept for this Python."""
    if not FILE.exists():
        return None
    return {path: Counter(files) for path, files in json.loads(FILE.read_text()).items()}


def write(found: Mapping[str, Counts]) -> None:
    """Keep them."""
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def verdicts(kept: Mapping[str, Counts], found: Mapping[str, Counts]) -> Iterator[str]:
    """What is wrong, path by path, and in which files it grew."""
    for path in sorted(kept.keys() ^ found.keys()):
        yield f"{path}: {'is measured no longer' if path in kept else 'is new'}"
    for path in sorted(kept.keys() & found.keys()):
        before, now = kept[path].total(), found[path].total()
        if not before * (1 - SLACKEN) <= now <= before * (1 + TOLERANCE):
            files = "; ".join(_changes(kept[path], found[path]))
            yield f"{path}: {before / CALLS:.0f} -> {now / CALLS:.0f} instructions a call ({files})"


def _changes(before: Counts, now: Counts) -> Iterator[str]:
    for file in sorted(before.keys() | now.keys(), key=lambda name: before[name] - now[name]):
        if abs(now[file] - before[file]) >= CALLS:
            yield f"{file} {before[file] / CALLS:.0f} -> {now[file] / CALLS:.0f}"
