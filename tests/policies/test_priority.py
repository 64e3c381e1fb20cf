from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.call import Call
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.priority import by_tag, check_priority, rank
from resilient_rpc.runtime import BLOCKING


def make(**tags: str) -> Call:
    return Call(method="orders.create", params={}, runtime=BLOCKING, deadline=0.0, tags=tags)


@pytest.mark.parametrize(
    ("tags", "expected"), [({"tier": "gold"}, 2), ({"tier": "tin"}, -1), ({}, -1), ({"x": "gold"}, -1)]
)
def test_a_tag_gives_the_rank(tags: dict[str, str], expected: int) -> None:
    assert by_tag("tier", {"gold": 2, "silver": 1}, default=-1)(make(**tags)) == expected


def test_the_ranks_are_those_of_when_it_was_made() -> None:
    ranks = {"gold": 2}
    priority = by_tag("tier", ranks)
    ranks["gold"] = 0
    assert priority(make(tier="gold")) == 2


@pytest.mark.parametrize("ranks", [{}, {"gold": "2"}, {"gold": True}, {"gold": None}, {"gold": -2_000_000}])
def test_wrong_ranks_are_refused_by_name(ranks: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"by_tag.*tier"):
        by_tag("tier", ranks)


def test_a_wrong_default_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"default.*'high'"):
        by_tag("tier", {"gold": 1}, default="high")  # type: ignore[arg-type]


def test_without_a_function_all_calls_are_the_same() -> None:
    assert rank(None, make()) == 0


@pytest.mark.parametrize("value", [None, "1", 1.5, True])
def test_what_is_no_int_is_no_rank(value: Any) -> None:
    assert rank(lambda _: value, make()) is None


def test_a_function_that_raises_gives_no_rank() -> None:
    assert rank(lambda call: int(call.tags["tier"]), make()) is None
    assert rank(lambda call: int(call.tags["tier"]), make(tier="3")) == 3


def test_what_is_no_function_is_refused() -> None:
    check_priority("Bulkhead.priority", None)
    with pytest.raises(ConfigurationError, match=r"Bulkhead\.priority.*by_tag.*'tier'$"):
        check_priority("Bulkhead.priority", "tier")
