"""Names of events and patterns of them, compared with what RabbitMQ documents."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.topics import check_topic, is_pattern, matches, rank


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("orders.created", "orders.created", True),
        ("orders.created", "orders.paid", False),
        ("orders.created", "orders", False),
        ("orders", "orders.created", False),
        ("orders.*", "orders.created", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.line.added", False),
        ("*", "orders", True),
        ("*", "", False),
        ("#", "", True),
        ("#", "orders.line.added", True),
        ("orders.#", "orders", True),
        ("orders.#", "orders.line.added", True),
        ("orders.#", "stock.line", False),
        ("#.added", "orders.line.added", True),
        ("#.added", "added", True),
        ("orders.#.added", "orders.added", True),
        ("orders.#.added", "orders.line.note.added", True),
        ("orders.#.added", "orders.line.removed", False),
        ("*.*", "orders", False),
        ("#.*", "orders", True),
        ("#.#", "", True),
    ],
)
def test_a_pattern_matches_as_a_topic_exchange_has_it(pattern: str, name: str, found: bool) -> None:
    assert matches(pattern, name) is found


words = st.lists(st.sampled_from("abc"), min_size=1, max_size=6).map(".".join)
patterns = st.lists(st.sampled_from("abc*#"), min_size=1, max_size=6).map(".".join)


@given(pattern=patterns, name=words)
def test_it_agrees_with_a_regular_expression(pattern: str, name: str) -> None:
    # Each word with a dot behind it, so that none has to be treated apart.
    text = "".join({"*": r"[^.]+\.", "#": r"(?:[^.]+\.)*"}.get(word, rf"{word}\.") for word in pattern.split("."))
    assert matches(pattern, name) is bool(re.fullmatch(text, name + "."))


def test_a_hostile_pattern_costs_no_more_than_others() -> None:
    """A regular expression would try all ways to share the words among them."""
    assert not matches(".".join(["#", "a"] * 30), ".".join(["a"] * 29 + ["b"] * 35))


@given(one=patterns, other=patterns)
def test_the_more_definite_of_two_patterns_comes_first(one: str, other: str) -> None:
    ranks = {"*": 1, "#": 2}
    words = list(zip(one.split("."), other.split("."), strict=False))
    first = next(((a, b) for a, b in words if ranks.get(a, 0) != ranks.get(b, 0)), None)
    if first is not None:
        assert (rank(one) < rank(other)) is (ranks.get(first[0], 0) < ranks.get(first[1], 0))


@pytest.mark.parametrize("topic", ["orders", "orders.created", "orders.*", "#", "a_1.*.#.b"])
def test_what_can_be_subscribed_to(topic: str) -> None:
    assert check_topic(topic) == topic
    assert is_pattern(topic) is bool({"*", "#"} & set(topic))


@pytest.mark.parametrize(
    "topic", ["", ".", "orders.", ".orders", "orders..created", "orders.c*", "or-ders", "_a", "1", "a" * 129, None, 7]
)
def test_what_cannot(topic: object) -> None:
    with pytest.raises(ConfigurationError, match="event "):
        check_topic(topic)
