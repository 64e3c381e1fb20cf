from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from resilient_rpc.spelling import meant
from tests.hotpaths import kept
from tests.hotpaths.counting import counted
from tests.hotpaths.paths import CALLS


def test_no_hot_path_costs_more_instructions_than_it_did() -> None:
    before = kept.read()
    if before is None:
        pytest.skip(f"no instructions are kept for Python {kept.VERSION}: python -m tests.hotpaths --keep")
    # A process of its own: what other tests have cached, patched or traced is no matter there.
    done = subprocess.run(
        [sys.executable, "-m", "tests.hotpaths", "--json"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = {path: Counter(files) for path, files in json.loads(done.stdout).items()}
    wrong = list(kept.verdicts(before, found))
    assert not wrong, "meant to be so? python -m tests.hotpaths --keep\n" + "\n".join(wrong)


def test_instructions_are_counted_by_file_and_always_the_same() -> None:
    rounds = []
    for _ in range(3):
        counts: Counter[str] = Counter()
        with counted(counts):
            meant("retyr", ["retry", "cache"])
        rounds.append(counts)
    assert rounds[0] == rounds[1] == rounds[2]
    assert set(rounds[0]) == {"spelling.py"}
    assert 5 < rounds[0].total() < 200


def test_what_grew_is_named_with_its_files() -> None:
    before = {"a": Counter({"x.py": 100 * CALLS, "y.py": 100 * CALLS}), "gone": Counter({"x.py": 1})}
    same = {"a": Counter({"x.py": 103 * CALLS, "y.py": 100 * CALLS}), "gone": Counter({"x.py": 1})}
    assert list(kept.verdicts(before, same)) == []
    now = {"a": Counter({"x.py": 120 * CALLS, "y.py": 100 * CALLS}), "new": Counter({"x.py": 1})}
    assert list(kept.verdicts(before, now)) == [
        "gone: is measured no longer",
        "new: is new",
        "a: 200 -> 220 instructions a call (x.py 100 -> 120)",
    ]
    less = {"a": Counter({"x.py": 70 * CALLS, "y.py": 100 * CALLS}), "gone": Counter({"x.py": 1})}
    assert list(kept.verdicts(before, less)) == ["a: 200 -> 170 instructions a call (x.py 100 -> 70)"]
