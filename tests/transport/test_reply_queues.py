"""Reply strategies: what they ask of a session, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc import Client, ConfigurationError
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from resilient_rpc.transport.reply_queues import ReplyQueues


def test_the_direct_address_needs_no_queue() -> None:
    assert Direct().queues() is None


def test_each_strategy_says_what_a_session_sets_up() -> None:
    assert Exclusive().queues() == ReplyQueues(kind="exclusive", count=1)
    assert Pool().queues() == ReplyQueues(kind="exclusive", count=4)
    assert PerCall().queues() == ReplyQueues(kind="per_call")
    named = Named(app="shop-1", expires=0.0001).queues()
    assert named is not None
    assert (named.kind, named.arguments, named.epoch) == ("named", {"x-expires": 1}, 0)
    assert named.again() == ReplyQueues(kind="named", name=named.name, expires=0.0001, epoch=1)


def test_a_named_queue_has_another_name_each_time_and_128_random_bits() -> None:
    names = {found.name for _ in range(50) if (found := Named(app="shop").queues()) is not None}
    assert len(names) == 50
    assert {(name[:15], len(name.rpartition(".")[2])) for name in names} == {("rpc.reply.shop.", 32)}
    assert len({name[-1] for name in names}) > 1


def test_only_the_named_one_outlives_its_connection_and_only_one_sends_calls_alone() -> None:
    strategies = [Direct(), Exclusive(), Named(app="a"), Pool(), PerCall()]
    assert [strategy.survives for strategy in strategies] == [False, False, True, False, False]
    assert [strategy.alone for strategy in strategies] == [False, False, False, False, True]


@pytest.mark.parametrize("app", ["", "a.b", "a b", "ä", "x" * 65, None, 5, "rpc#"])
def test_an_app_that_would_spoil_the_name_is_refused(app: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Named\.app="):
        Named(app=app)


@pytest.mark.parametrize("expires", [0, -1, True, "5", float("inf")])
def test_a_time_that_is_none_is_refused(expires: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Named\.expires="):
        Named(app="shop", expires=expires)


@pytest.mark.parametrize("size", [0, 65, True, 2.0, "4"])
def test_a_pool_has_a_sane_size(size: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Pool\.size="):
        Pool(size=size)


def test_a_client_takes_nothing_else() -> None:
    with pytest.raises(ConfigurationError, match="replies='direct': give Direct"):
        Client("memory://x", replies="direct")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="replies=<class"):
        Client("memory://x", replies=Direct)  # type: ignore[arg-type]
