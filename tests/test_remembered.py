"""What was found out by name."""

from __future__ import annotations

import pytest

from resilient_rpc.remembered import Remembered


def test_each_name_is_looked_up_once() -> None:
    asked: list[str] = []

    def find(name: str) -> str | None:
        asked.append(name)
        return name.upper() if name != "nothing" else None

    known = Remembered(find)
    assert [known[name] for name in ("a", "b", "a", "nothing", "nothing")] == ["A", "B", "A", None, None]
    assert asked == ["a", "b", "nothing"]


def test_names_that_anybody_thinks_of_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_rpc.remembered.MOST", 3)
    known = Remembered(str.upper)
    for number in range(100):
        assert known[f"n{number}"] == f"N{number}"
        assert len(known) <= 3


def test_what_cannot_be_found_is_not_remembered() -> None:
    known = Remembered({"a": 1}.__getitem__)
    with pytest.raises(KeyError):
        known["b"]
    assert dict(known) == {}
