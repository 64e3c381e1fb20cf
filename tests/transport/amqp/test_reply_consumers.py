"""What is declared for replies: held against what RabbitMQ 4.3 accepts, and what becomes of its refusals."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pika import exceptions

from resilient_rpc.errors import ConfigurationError, NotConnected, RpcError
from resilient_rpc.replies import Exclusive, Named, PerCall, Pool
from resilient_rpc.transport.amqp.reply_consumers import ReplyConsumers
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.reply_queues import ReplyQueues, ReplyQueueTaken


class Channel:
    """Notes what is asked of pika."""

    def __init__(self, refusal: RpcError | None = None) -> None:
        self.refusal = refusal
        self.declared: list[tuple[str, dict[str, Any]]] = []
        self.consumed: list[tuple[str, dict[str, Any]]] = []
        self.acked: list[tuple[int, bool]] = []
        lane: Any = SimpleNamespace(on_deliver=None, ack=lambda tag, multiple=False: self.acked.append((tag, multiple)))
        self.lane = lane

    async def ask(self, what: str, *args: Any, **options: Any) -> Any:
        if self.refusal is not None:
            raise self.refusal
        if what == "declare":
            self.declared.append((args[0], options))
            return SimpleNamespace(method=SimpleNamespace(queue=args[0] or f"amq.gen-{len(self.declared)}"))
        self.consumed.append((args[0], options))
        return SimpleNamespace(method=SimpleNamespace(consumer_tag=f"ctag{len(self.consumed)}"))

    def consumers(self, queues: ReplyQueues | None) -> ReplyConsumers:
        assert queues is not None
        names = SimpleNamespace(queue_declare="declare", basic_consume="consume")
        return ReplyConsumers(names, self.lane, self.ask, queues)


@pytest.mark.parametrize("strategy", [Exclusive(), Pool(size=3), Named(app="shop"), PerCall()], ids=repr)
def test_nothing_is_declared_that_rabbitmq_43_refuses(strategy: Exclusive | Pool | Named | PerCall) -> None:
    channel = Channel()
    consumers = channel.consumers(strategy.queues())
    asyncio.run(consumers.exclusive() if isinstance(strategy, PerCall) else consumers.open())  # type: ignore[arg-type]
    assert channel.declared
    for name, options in channel.declared:
        durable, exclusive = options.get("durable", False), options.get("exclusive", False)
        assert durable is not exclusive, "transient queues that are not exclusive are refused since 4.3"
        assert set(options.get("arguments", {})) <= {"x-expires"}
        assert type(options.get("arguments", {}).get("x-expires", 1)) is int
        assert exclusive is (name == ""), "what is exclusive is named by the broker"
    assert len({name for name, _ in channel.consumed}) == len(channel.consumed) == len(channel.declared)


def test_each_session_consumes_a_named_queue_before_the_one_before_it() -> None:
    queues = Named(app="shop").queues()
    assert queues is not None
    priorities = []
    for _ in range(3):
        channel = Channel()
        asyncio.run(channel.consumers(queues).open())  # type: ignore[arg-type]
        [(name, options)] = channel.consumed
        assert (name, options.get("auto_ack", False)) == (queues.name, False)
        priorities.append(options["arguments"]["x-priority"])
        queues = queues.again()
    assert priorities == [0, 1, 2]


def refused(code: int) -> RpcError:
    error = (ConfigurationError if code == 406 else NotConnected)("no")
    error.__cause__ = exceptions.ChannelClosedByBroker(code, "no")
    return error


@pytest.mark.parametrize(("code", "kind"), [(405, ReplyQueueTaken), (406, ReplyQueueTaken), (403, NotConnected)])
def test_only_a_name_that_is_taken_is_given_up(code: int, kind: type[Exception]) -> None:
    error = refused(code)
    with pytest.raises(RpcError) as caught:
        asyncio.run(Channel(error).consumers(Named(app="shop").queues()).open())  # type: ignore[arg-type]
    assert type(caught.value) is kind
    assert caught.value is error or caught.value.__cause__ is error


def test_a_reply_of_a_named_queue_is_acked_even_if_its_owner_fails() -> None:
    async def scenario() -> None:
        channel = Channel()

        def broken(_: Delivery) -> None:
            raise ValueError("broken")

        take = channel.consumers(Named(app="shop").queues()).acking(broken)
        for tag in (1, 2, 3):
            with pytest.raises(ValueError, match="broken"):
                take(Delivery(tag, False, {}, b""))
        await asyncio.sleep(0)
        assert channel.acked == [(3, True)]

    asyncio.run(scenario())
