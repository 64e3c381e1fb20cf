"""What every transport does with a topic exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError, PublishRejected, RpcError, TooLarge
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.properties import encode_properties
from tests.contract.sessions import PLAIN, consuming, publishing
from tests.contract.sides import AmqpSide, Side


@pytest.fixture
def exchange(side: Side) -> Iterator[str]:
    """Of this test alone."""
    name = f"{side.queue}.topics"
    yield name
    if isinstance(side, AmqpSide):
        import pika  # noqa: PLC0415 - only here

        with pika.BlockingConnection(pika.URLParameters(side.url)) as connection:
            connection.channel().exchange_delete(name)
            connection.channel().queue_delete(f"{side.queue}.b")


def spec(side: Side, exchange: str, *bound: str, **more: Any) -> QueueSpec:
    return QueueSpec(name=side.queue, service=side.service, topics=exchange, bound=bound, **more)


async def emit(publisher: Any, exchange: str, name: str, body: bytes = b"x", **properties: Any) -> bool:
    said: list[str] = []
    properties.setdefault("correlation_id", f"{name}.{body!r}")
    encoded = encode_properties(**properties)
    found: bool = await publisher.emit(exchange, name, body, encoded, sent=lambda: said.append("sent"))
    assert said in ([], ["sent"])
    return found


def test_each_queue_gets_once_what_any_of_its_bindings_matches(side: Side, exchange: str) -> None:
    other = QueueSpec(name=f"{side.queue}.b", main=side.queue, service=side.service, topics=exchange, bound=("#",))

    async def scenario() -> None:
        async with (
            consuming(side, spec=spec(side, exchange, "a.b", "a.*", "c.#"), acks=True) as (_, one),
            consuming(side, spec=other, acks=True) as (_, two),
            publishing(side) as (publisher, sent),
        ):
            for name in ("a.b", "a.c", "c", "c.d.e", "d"):
                assert await emit(publisher, exchange, name, name.encode())
            await one.received(4)
            await two.received(5)
            assert sorted(one.bodies) == [b"a.b", b"a.c", b"c", b"c.d.e"]
            assert [each.routing_key for each in one.deliveries] == [body.decode() for body in one.bodies]
            assert sorted(two.bodies) == [b"a.b", b"a.c", b"c", b"c.d.e", b"d"]
            assert sent.errors == sent.returns == []
            assert sent.settled == {}, "its owner counts other messages"

    asyncio.run(scenario())


def test_it_says_whether_any_queue_has_it_and_whether_there_is_such_an_exchange(side: Side, exchange: str) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            assert not await emit(publisher, exchange, "a"), "no exchange"
            async with consuming(side, spec=spec(side, exchange, "a")):
                found = await asyncio.gather(*[emit(publisher, exchange, n, b"%d" % i) for i, n in enumerate("abab")])
                assert found == [True, False, True, False]
            tag = publisher.publish(side.queue, b"", PLAIN, mandatory=True)
            assert await sent.confirmation(tag)
            assert sent.errors == []

    asyncio.run(scenario())


def test_a_binding_that_is_undone_brings_nothing_any_more(side: Side, exchange: str) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, _):
            async with consuming(side, spec=spec(side, exchange, "a", "b.*")):
                assert await emit(publisher, exchange, "b.c")
            async with consuming(side, spec=spec(side, exchange, "a", unbound=("b.*", "never"))):
                assert not await emit(publisher, exchange, "b.c", b"again")
                assert await emit(publisher, exchange, "a")

    asyncio.run(scenario())


def test_a_binding_goes_with_its_queue(side: Side, exchange: str) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, _):
            async with consuming(side, spec=spec(side, exchange, "a")):
                assert await emit(publisher, exchange, "a")
            await side.delete(side.queue)
            assert not await emit(publisher, exchange, "a", b"again")
            async with consuming(side):
                assert not await emit(publisher, exchange, "a", b"and again")
            await side.delete(side.queue)

    asyncio.run(scenario())


def test_a_queue_that_is_full_and_refuses_is_told_and_the_session_goes_on(side: Side, exchange: str) -> None:
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}

    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            async with consuming(side, spec=spec(side, exchange, "a", arguments=arguments)):
                pass
            assert await emit(publisher, exchange, "a", b"1")
            more = [emit(publisher, exchange, "a", b"%d" % n) for n in range(50)]  # it may take a few before it notices
            found = await asyncio.gather(*more, return_exceptions=True)
            refused = [each for each in found if each is not True]
            assert refused
            assert {type(each) for each in refused} == {PublishRejected}
            assert {each.certainty for each in refused} == {"unknown"}  # type: ignore[union-attr]
            assert not await emit(publisher, exchange, "b")
            assert sent.errors == []

    asyncio.run(scenario())


def test_what_no_frame_can_carry_is_not_sent(side: Side, exchange: str) -> None:
    async def scenario() -> None:
        async with consuming(side, spec=spec(side, exchange, "a")), publishing(side) as (publisher, sent):
            handed: list[int] = []
            for how in ({"body": b"x" * (17 << 20)}, {"name": "a" * 300}):
                full: dict[str, Any] = {"name": "a", "body": b"", "properties": PLAIN, **how}
                with pytest.raises((TooLarge, ConfigurationError)):
                    await publisher.emit(exchange, sent=lambda: handed.append(1), **full)
            assert handed == []
            assert await emit(publisher, exchange, "a")
            assert sent.errors == []

    asyncio.run(scenario())


def test_a_session_that_ends_ends_what_waits(side: Side, exchange: str) -> None:
    async def scenario() -> None:
        async with consuming(side, spec=spec(side, exchange, "a")), publishing(side) as (publisher, _):
            assert await emit(publisher, exchange, "a")
            waiting = [asyncio.create_task(emit(publisher, exchange, "a", b"%d" % n)) for n in range(3)]
            await asyncio.sleep(0)
            await publisher.close()
            for each in await asyncio.gather(*waiting, return_exceptions=True):
                assert each is True or isinstance(each, OSError | RpcError)
            with pytest.raises((OSError, RpcError)):
                await emit(publisher, exchange, "a", b"again")

    asyncio.run(scenario())
