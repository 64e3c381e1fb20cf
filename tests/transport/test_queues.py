"""Kinds of request queues: what they are declared with."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc import Classic, ConfigurationError, Quorum, Server

LEGAL = {
    "classic": {"x-max-length": int, "x-message-ttl": int, "x-overflow": str, "x-max-priority": int},
    "quorum": {
        "x-queue-type": str,
        "x-max-length": int,
        "x-message-ttl": int,
        "x-delivery-limit": int,
        "x-overflow": str,
    },
}
"""What RabbitMQ 4.3 takes in a declaration, of what we use."""


def test_a_classic_queue_needs_no_arguments_and_its_deliveries_are_counted_here() -> None:
    assert (Classic().arguments(), Classic().counted_here, Classic().max_dead) == ({}, 5, 100_000)
    assert Classic(delivery_limit=None).counted_here is None


def test_the_broker_counts_the_deliveries_of_a_quorum_queue() -> None:
    assert Quorum().arguments() == {"x-queue-type": "quorum", "x-delivery-limit": 5}
    assert Quorum().counted_here is None
    assert Quorum(delivery_limit=None).arguments() == {"x-queue-type": "quorum"}


@pytest.mark.parametrize("kind", [Classic, Quorum])
def test_limits_are_arguments_in_the_units_of_the_broker(kind: type[Any]) -> None:
    arguments = kind(max_length=7, ttl=1.5).arguments()
    assert (arguments["x-max-length"], arguments["x-message-ttl"]) == (7, 1500)
    assert kind(ttl=0.0001).arguments()["x-message-ttl"] == 1
    assert "x-overflow" not in arguments
    every: dict[str, Any] = {"max_length": 7, "ttl": 1.5, "delivery_limit": 2, "overflow": "reject-publish"}
    if kind is Classic:
        every["max_priority"] = 5
    for name, value in kind(**every).arguments().items():
        assert type(value) is LEGAL[kind.__name__.lower()][name]


@pytest.mark.parametrize("kind", [Classic, Quorum])
@pytest.mark.parametrize(
    "setting",
    [
        {"delivery_limit": 0},
        {"delivery_limit": True},
        {"max_length": -1},
        {"max_length": 1.5},
        {"max_dead": 2**31},
        {"ttl": 0},
        {"ttl": "5"},
        {"overflow": "reject-publish-dlx"},
        {"overflow": None},
        {"max_priority": 0},
        {"max_priority": 256},
        {"max_priority": True},
    ],
)
def test_a_wrong_value_is_named(kind: type[Any], setting: dict[str, Any]) -> None:
    [(name, value)] = setting.items()
    with pytest.raises(ConfigurationError, match=f"{kind.__name__}.{name}={value!r}"):
        kind(**setting)


def test_what_would_say_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Classic\.overflow='reject-publish': it says nothing without"):
        Classic(overflow="reject-publish")
    with pytest.raises(ConfigurationError, match=r"Quorum\.max_priority=5: .* leave it None, or use Classic"):
        Quorum(max_priority=5)


def test_a_server_takes_nothing_else() -> None:
    with pytest.raises(ConfigurationError, match="queue='quorum': give Classic"):
        Server("memory://x", service="shop", queue="quorum")  # type: ignore[arg-type]
