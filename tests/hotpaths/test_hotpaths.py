from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from benchmarks.policies import REPLY
from resilient_rpc import Handler
from resilient_rpc.options import default_policies
from resilient_rpc.spelling import meant
from tests.hotpaths import kept
from tests.hotpaths.counting import PACKAGE, counted
from tests.hotpaths.paths import CALLS, by_thread


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


def _inside(lines: int) -> Handler:
    """Counted as the package's, by its file's name. A constant stored is two instructions in every Python."""
    steps = "    step = 1\n" * lines
    source = f"async def inside(_):\n{steps}    return REPLY"
    made: dict[str, Any] = {"REPLY": REPLY}
    exec(compile(source, f"{PACKAGE}/policies/retry.py", "exec"), made)  # noqa: S102 - the code of this very test
    found: Handler = made["inside"]
    return found


def test_a_path_that_gets_five_per_cent_longer_is_found() -> None:
    before = by_thread(default_policies(), _inside(1))
    twentieth = before.total() // CALLS // 20
    now = by_thread(default_policies(), _inside(1 + twentieth // 2))
    assert now.total() <= before.total() * 1.05
    (verdict,) = kept.verdicts({"the default chain": before}, {"the default chain": now})
    assert "(policies/retry.py " in verdict
