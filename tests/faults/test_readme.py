"""The table of `README.md` names tests that there are, and has a row for every fault."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ROWS = {*range(1, 19), 27, *range(30, 37), *range(39, 42)}


def test_every_row_has_a_test_that_exists() -> None:
    text = (HERE / "README.md").read_text()
    there = set()
    for path in HERE.parent.rglob("test_*.py"):
        there |= set(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", text))
    rows = set()
    for first, last in re.findall(r"^\| (\d+)(?:(?:-|, )(\d+))? \|", text, re.MULTILINE):
        rows |= set(range(int(first), int(last or first) + 1))

    assert named - there == set()
    assert rows == ROWS
    assert {name for name in there if name.startswith(("test_row_", "test_rows_"))} <= named
