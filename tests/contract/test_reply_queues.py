"""Reply queues over every transport, on the level of sessions: where replies arrive, and what outlives a connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import cast

import pytest

from resilient_rpc.errors import ConnectionLost
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.transport.base import Leasing, Publisher
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.transport.reply_queues import Exclusive, Named, PerCall, Pool, ReplyQueues, ReplyQueueTaken
from tests.contract.recorder import PATIENCE, Recorder
from tests.contract.sessions import PLAIN, TIMEOUT, consuming, publishing
from tests.contract.sides import Side


def queues(strategy: Exclusive | Named | Pool | PerCall) -> ReplyQueues:
    found = strategy.queues()
    assert found is not None
    return found


async def gone(publisher: Publisher, name: str) -> None:
    """Wait until there is no such queue."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(ConnectionLost):  # 405: it is there, and locked
                if await publisher.inspect(name) is None:
                    return


@pytest.mark.parametrize("strategy", [Exclusive(), Named(app="shop"), Pool(size=3)], ids=["exclusive", "named", "pool"])
def test_replies_to_each_address_arrive_once_at_its_session(side: Side, strategy: Exclusive | Named | Pool) -> None:
    async def scenario() -> None:
        async with (
            publishing(side, replies=queues(strategy)) as (asker, asked),
            publishing(side, replies=queues(strategy)) as (other, heard),
            publishing(side) as (server, replied),
        ):
            addresses = [*asker.addresses, *other.addresses]
            assert len(set(addresses)) == 2 * (strategy.size if isinstance(strategy, Pool) else 1)
            assert (asker.reply_to, asker.kept) == (asker.addresses[0], False)
            assert all(Addresses().accept(address) for address in addresses)
            for number, address in enumerate(asker.addresses):
                reply = encode_properties(correlation_id=f"c{number}")
                tag = server.publish(address, b"%d" % number, reply, mandatory=True)
                assert await replied.confirmation(tag)
            found = await asked.received(len(asker.addresses))
            assert sorted((d.properties["correlation_id"], d.routing_key) for d in found) == sorted(
                (f"c{number}", address) for number, address in enumerate(asker.addresses)
            )
            assert (replied.returns, heard.entries) == ([], [])
            assert await asker.inspect(asker.reply_to) == (0, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("strategy", [Exclusive(), Named(app="shop"), Pool(size=2)], ids=["exclusive", "named", "pool"])
def test_a_reply_to_a_session_that_was_closed_comes_back_to_who_sent_it(
    side: Side, strategy: Exclusive | Named | Pool
) -> None:
    async def scenario() -> None:
        async with publishing(side) as (server, replied):
            async with publishing(side, replies=queues(strategy)) as (asker, _):
                addresses = list(asker.addresses)
            for address in addresses:
                await gone(server, address)
                tag = server.publish(address, b"late", encode_properties(correlation_id=address), mandatory=True)
                assert await replied.confirmation(tag)
            assert [name for name, _, _ in replied.returns] == addresses

    asyncio.run(scenario())


def test_what_came_between_two_sessions_waits_in_a_named_queue(side: Side) -> None:
    async def scenario() -> None:
        own = queues(Named(app="shop"))
        assert re.fullmatch(r"rpc\.reply\.shop\.[0-9a-f]{32}", own.name)
        async with publishing(side) as (server, replied):
            first = await side.transport().publisher(events := Recorder(), replies=own, timeout=TIMEOUT)
            server.publish(own.name, b"1", PLAIN, mandatory=True)
            await events.received(1)
            await side.break_off(first)
            tag = server.publish(own.name, b"2", PLAIN, mandatory=True)
            assert await replied.confirmation(tag)
            async with publishing(side, replies=own.again()) as (second, again):
                assert second.kept
                await again.until(lambda: b"2" in again.bodies)
                server.publish(own.name, b"3", PLAIN, mandatory=True)
                await again.until(lambda: b"3" in again.bodies)
                assert set(again.bodies) <= {b"1", b"2", b"3"}, "an ack may be lost with its connection"
            assert replied.returns == []

    asyncio.run(scenario())


def test_a_named_queue_that_is_gone_is_made_anew_and_that_is_said(side: Side) -> None:
    async def scenario() -> None:
        own = queues(Named(app="shop", expires=0.2))
        async with publishing(side) as (other, _):
            first = await side.transport().publisher(Recorder(), replies=own, timeout=TIMEOUT)
            await side.break_off(first)
            await asyncio.sleep(0.5)  # inspecting it would be a use
            await gone(other, own.name)
            async with publishing(side, replies=own.again()) as (second, heard):
                assert not second.kept
                other.publish(second.reply_to, b"x", PLAIN, mandatory=True)
                await heard.received(1)

    asyncio.run(scenario())


def test_a_name_that_somebody_else_has_is_refused(side: Side) -> None:
    async def scenario() -> None:
        async with consuming(side), publishing(side) as (other, _):
            taken = ReplyQueues(kind="named", name=side.queue)
            with pytest.raises(ReplyQueueTaken, match=side.queue):
                await side.transport().publisher(Recorder(), replies=taken, timeout=TIMEOUT)
            assert await other.inspect(side.queue) == (0, 1)

    asyncio.run(scenario())


def test_each_lease_is_a_queue_of_its_own_until_it_is_released(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (server, replied):
            async with publishing(side, replies=queues(PerCall())) as (publisher, asked):
                asker = cast("Leasing", publisher)
                assert (asker.reply_to, list(asker.addresses)) == ("", [])
                leased: list[str] = []
                for _ in range(40):
                    await asked.until(lambda: asker.writable)
                    leased.append(asker.lease())
                assert len(set(leased)) == 40
                assert all(Addresses().accept(address) for address in leased)
                for address in leased:
                    server.publish(address, address.encode(), PLAIN, mandatory=True)
                found = await asked.received(40)
                assert sorted(d.routing_key for d in found) == sorted(leased)
                for address in leased[:39]:
                    asker.release(address)
                    asker.release(address)
                asker.release("amq.gen-not-its-own")
                for address in leased[:39]:
                    await gone(server, address)
                assert await asker.inspect(leased[39]) == (0, 1)
                assert (replied.returns, asked.errors) == ([], [])
            await gone(server, leased[39])
            asker.release(leased[39])

    asyncio.run(scenario())


def test_a_session_whose_reply_queue_is_deleted_is_lost(side: Side) -> None:
    async def scenario() -> None:
        for strategy in (Exclusive(), Named(app="shop"), PerCall()):
            async with publishing(side, replies=queues(strategy)) as (publisher, heard):
                name = publisher.reply_to or cast("Leasing", publisher).lease()
                # The others are locked for everybody else.
                await side.delete(name, owner=None if isinstance(strategy, Named) else publisher)
                assert "reply queue" in str(await heard.loss()) or "cancelled" in str(heard.errors[0])

    asyncio.run(scenario())
