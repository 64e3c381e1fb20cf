"""Labels of dead letters, and copies: bounded, without what callers sent, and the rest as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.deadletters import (
    DELIVERIES,
    MAX_FRAMES,
    MAX_STACK,
    MAX_TYPE,
    broker_count,
    copied,
    deliveries_of,
    label,
    stack_of,
)
from resilient_rpc.transport.properties import decode_headers, decode_properties, encode_headers


def delivery(headers: dict[str, Any] | bytes | None = None, **properties: Any) -> Delivery:
    """A message with these."""
    if headers is not None:
        properties["headers"] = headers if isinstance(headers, bytes) else encode_headers(headers)
    return Delivery(1, False, properties, b"body", "rpc.shop")


def raised(depth: int, text: str = "sesame") -> ValueError:
    """An error from so deep."""

    def descend(left: int) -> None:
        password = text
        if not left:
            raise ValueError(password)
        descend(left - 1)

    try:
        descend(depth)
    except ValueError as error:
        return error
    raise AssertionError


def test_a_label_says_what_where_when_and_who() -> None:
    made = label("failed", raised(0), queue="rpc.shop", attempts=3, server="one")
    assert made["rpc-dead-time"].endswith("Z")
    del made["rpc-dead-time"]
    assert made.pop("rpc-dead-stack").splitlines()[-1].startswith("transport/test_deadletters.py:")
    assert made == {
        "rpc-dead-reason": "failed",
        "rpc-dead-queue": "rpc.shop",
        "rpc-dead-attempts": 3,
        "rpc-dead-server": "one",
        "rpc-dead-exception": "builtins.ValueError",
    }


def test_an_error_that_was_never_raised_has_no_stack_and_none_no_type() -> None:
    made = label("refused", KeyError("x"), queue="q", attempts=1, server="s")
    assert ("rpc-dead-stack" in made, made["rpc-dead-exception"]) == (False, "builtins.KeyError")
    assert "rpc-dead-exception" not in label("delivery_limit", None, queue="q", attempts=1, server="s")


@given(st.integers(0, 60), st.text(min_size=5, max_size=50))
def test_a_stack_is_bounded_and_tells_nothing_of_values(depth: int, text: str) -> None:
    stack = stack_of(raised(depth, "<" + text + ">"))
    assert len(stack.splitlines()) == min(depth + 2, MAX_FRAMES)
    assert len(stack) <= MAX_STACK
    assert "<" + text + ">" not in stack


def test_long_names_are_cut() -> None:
    error = type("E" * 5_000, (Exception,), {})()
    made = label("failed", error, queue="q", attempts=1, server="s" * 5_000)
    assert len(made["rpc-dead-exception"]) == len(made["rpc-dead-server"]) == MAX_TYPE


def test_a_copy_is_the_same_but_for_what_is_said() -> None:
    came = delivery(
        {"rpc-method": "price", "x-death": [{"count": 1}], "x-first-death-queue": "q", "rpc-dead-reason": "failed"},
        correlation_id="c",
        reply_to="r",
        expiration="5",
        priority=3,
        timestamp=7,
    )
    found = decode_properties(copied(came, {DELIVERIES: 2}, drop=("rpc-dead-",), expiration=None, delivery_mode=2))
    assert decode_headers(found.pop("headers")) == {"rpc-method": "price", DELIVERIES: 2}
    assert found == {"correlation_id": "c", "reply_to": "r", "priority": 3, "timestamp": 7, "delivery_mode": 2}


@pytest.mark.parametrize("headers", [b"\x00\x00\x00\x09broken", encode_headers({"x": "y" * 65_000})])
def test_headers_that_cannot_be_written_again_are_left_out(headers: bytes) -> None:
    found = decode_properties(copied(delivery(headers), {DELIVERIES: 1, "z": "z" * 600}))
    assert set(decode_headers(found["headers"])) == {DELIVERIES, "z"}


@pytest.mark.parametrize(
    ("value", "count"), [(3, 3), (0, 0), (-1, 0), (True, 0), ("3", 0), (2**40, 0), (None, 0), ([3], 0)]
)
def test_only_a_count_counts(value: Any, count: int) -> None:
    assert deliveries_of(delivery({DELIVERIES: value})) == count


def test_where_nothing_is_counted_it_is_none() -> None:
    broken = b"\x00\x00\x00\x20" + DELIVERIES.encode()
    assert [deliveries_of(d) for d in (delivery(), delivery({}), delivery(broken))] == [0, 0, 0]
    assert [broker_count(d) for d in (delivery(), delivery({"x-delivery-count": 4}), delivery(broken))] == [0, 4, 0]
    assert broker_count(delivery({"x-delivery-count": "4"})) == 0
