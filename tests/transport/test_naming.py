"""Names of queues: by business, version and environment."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc import Client, ConfigurationError, Server
from resilient_rpc.transport.naming import RESERVED, Naming


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "rpc.orders"),
        ({"version": "v2"}, "rpc.orders.v2"),
        ({"environment": "prod"}, "rpc.orders.prod"),
        ({"version": "v2", "environment": "eu-west_1"}, "rpc.orders.v2.eu-west_1"),
        ({"prefix": "", "version": "2"}, "orders.2"),
        ({"prefix": "shop."}, "shop.orders"),
    ],
)
def test_a_queue_is_called_by_all_that_is_given(settings: dict[str, Any], expected: str) -> None:
    assert Naming(**settings).queue("orders") == expected


@pytest.mark.parametrize("side", [Client, lambda url, **how: Server(url, service="orders", **how)])
@pytest.mark.parametrize("name", ["version", "environment"])
@pytest.mark.parametrize("value", ["", "a.b", "a b", "x" * 65, "ä", 2, "-x", "v1\n", *sorted(RESERVED)])
def test_a_part_that_would_spoil_the_name_is_refused_on_both_sides(side: Any, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}="):
        side("memory://x", **{name: value})


@pytest.mark.parametrize("side", [Client, lambda url, **how: Server(url, service="orders", **how)])
def test_a_prefix_is_checked_on_both_sides(side: Any) -> None:
    with pytest.raises(ConfigurationError, match="prefix="):
        side("memory://x", prefix="x" * 101)


def test_a_name_leaves_room_for_what_belongs_to_the_queue() -> None:
    naming = Naming(prefix="p" * 100, version="v" * 64)
    assert len(naming.queue("s" * 75)) == 240
    with pytest.raises(ConfigurationError, match="at most 240 characters, not 241"):
        naming.queue("s" * 76)


def test_no_request_queue_is_called_like_a_reply_queue() -> None:
    assert Naming().queue("reply") == "rpc.reply"
    with pytest.raises(ConfigurationError, match=r"rpc\.reply\.v2.*for replies"):
        Server("memory://x", service="reply", version="v2")


@pytest.mark.parametrize(
    ("naming", "exchange"),
    [
        (Naming(), "rpc.events"),
        (Naming(version="v2"), "rpc.events"),
        (Naming(environment="prod", version="v2"), "rpc.events.prod"),
        (Naming(prefix="shop-"), "shop-events"),
    ],
)
def test_events_have_one_exchange_for_each_environment_whatever_the_version(naming: Naming, exchange: str) -> None:
    assert naming.events == exchange
