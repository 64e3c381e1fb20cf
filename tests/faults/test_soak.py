"""Short soaks with a fixed seed: every kind of fault, and nothing lost, done twice or left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.broker,
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]


def accounted(mix: str, seed: int, seconds: float, folder: Path) -> None:
    """Run it, and see to it that every kind of fault was there, and that nothing is wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.soak.apart", mix, str(seed), str(seconds), str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    print(done.stderr)
    assert done.returncode == 0
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["missing"] == []
    assert found["bad"] == []
    assert found["acknowledged"] > 100


def test_calls_survive_all_faults_with_one_effect_and_one_answer_for_each_key(tmp_path: Path) -> None:
    accounted("keyed", 1, 20.0, tmp_path)


def test_plain_calls_survive_all_faults_of_links_and_messages(tmp_path: Path) -> None:
    accounted("links", 2, 15.0, tmp_path)
