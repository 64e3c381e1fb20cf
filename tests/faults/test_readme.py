"""The tables of `README.md` name tests that there are, and have a row for every fault."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
KEYED = {*range(1, 19), 27, *range(30, 37), *range(39, 42), 43}
PLAIN = {*range(1, 10), *range(16, 30), *range(36, 40), 41, 42}
TEXT = (HERE / "README.md").read_text()


def section(title: str) -> str:
    """What stands under a heading; the first one has none of its own."""
    return next(part for part in TEXT.split("\n## ") if part.startswith(title))


def rows(text: str) -> set[int]:
    """The rows of a table, by their numbers."""
    found: set[int] = set()
    for first, last in re.findall(r"^\| (\d+)(?:(?:-|, )(\d+))? \|", text, re.MULTILINE):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def all_tests() -> set[str]:
    """All that there are."""
    there: set[str] = set()
    for path in HERE.parent.rglob("test_*.py"):
        there |= set(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    return there


def test_every_row_has_a_test_that_exists() -> None:
    there, named = all_tests(), set(re.findall(r"`(test_\w+)`", TEXT))

    assert named - there == set()
    assert rows(section("# What is broken")) == KEYED
    assert rows(section("Calls without a key")) == PLAIN
    starts = ("test_row_", "test_rows_", "test_plain_row_", "test_plain_rows_")
    assert {name for name in there if name.startswith(starts)} <= named
