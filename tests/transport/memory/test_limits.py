"""Addresses, sizes and arguments."""

from __future__ import annotations

import asyncio

import pytest

from resilient_rpc.errors import ConfigurationError, MalformedMessage, TooLarge
from resilient_rpc.transport.base import DIRECT_REPLY
from resilient_rpc.transport.memory import Bus
from resilient_rpc.transport.memory.publisher import new_address
from resilient_rpc.transport.properties import encode_properties
from tests.transport.memory.support import PLAIN, QUEUE, consumer, publisher


class TestAddresses:
    def test_addresses_are_shaped_like_rabbitmqs_and_never_repeat(self) -> None:
        addresses = {new_address() for _ in range(1000)}
        assert len(addresses) == 1000
        for address in addresses:
            node, key = address.removeprefix(f"{DIRECT_REPLY}.").split(".")
            assert node.startswith("g1h2")
            assert min(len(node), len(key)) > 20

    def test_the_pseudonym_is_replaced_by_the_address(self, bus: Bus) -> None:
        async def scenario() -> None:
            _, got = await consumer(bus)
            client, _ = await publisher(bus, replies=True)
            client.publish(QUEUE, b"", encode_properties(reply_to=DIRECT_REPLY, type="t"), mandatory=True)
            (delivery,) = await got.received(1)
            assert delivery.properties == {"reply_to": client.reply_to, "type": "t"}

        asyncio.run(scenario())

    def test_the_pseudonym_needs_a_reply_consumer(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus)
            client.publish(QUEUE, b"", encode_properties(reply_to=DIRECT_REPLY), mandatory=True)
            assert "fast reply consumer does not exist" in str(await sent.loss())

        asyncio.run(scenario())

    def test_a_mandatory_reply_is_our_own_mistake(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, _ = await publisher(bus, replies=True)
            with pytest.raises(AssertionError):
                client.publish(client.reply_to, b"", PLAIN, mandatory=True)

        asyncio.run(scenario())

    def test_a_test_can_forge_a_reply(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus, replies=True)
            assert bus.publish(client.reply_to, b"forged", correlation_id="x")
            (delivery,) = await sent.received(1)
            assert delivery.properties == {"correlation_id": "x"}
            assert not bus.publish(new_address(), b"to nobody")

        asyncio.run(scenario())


class TestLimits:
    def test_a_body_over_the_limit_is_refused_before_it_is_sent(self, bus: Bus) -> None:
        async def scenario() -> None:
            bus.max_message = 10
            client, sent = await publisher(bus)
            with pytest.raises(TooLarge, match=r"11 bytes.*10"):
                client.publish(QUEUE, b"x" * 11, PLAIN, mandatory=True)
            with pytest.raises(TooLarge):
                client.publish("é" * 128, b"", PLAIN, mandatory=True)
            assert client.publish(QUEUE, b"x" * 10, PLAIN, mandatory=False) == 1
            await sent.confirmation(1)

        asyncio.run(scenario())

    def test_nobody_shares_an_object_through_the_bus(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, _ = await publisher(bus)
            server, got = await consumer(bus)
            body = bytearray(b"before")
            client.publish(QUEUE, body, encode_properties(type="t"), mandatory=True)  # type: ignore[arg-type]
            body[:] = b"after!"
            (delivery,) = await got.received(1)
            assert delivery.body == b"before"
            delivery.properties["type"] = "changed"
            server.nack(delivery.tag, requeue=True)
            assert (await got.received(2))[1].properties == {"type": "t"}

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("x-max-length", -1),
            ("x-max-length", "5"),
            ("x-message-ttl", True),
            ("x-overflow", "explode"),
            ("x-max-priority", 256),
            ("x-dead-letter-routing-key", 5),
            ("x-expires", "5"),
            ("x-single-active-consumer", True),
        ],
    )
    def test_arguments_that_mean_nothing_are_refused(self, bus: Bus, name: str, value: object) -> None:
        async def scenario() -> None:
            with pytest.raises(ConfigurationError, match=name):
                await consumer(bus, arguments={name: value})
            assert bus.connections == []

        asyncio.run(scenario())

    def test_properties_that_are_cut_off_end_the_session(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus)
            client.publish(QUEUE, b"", b"\x80", mandatory=True)
            await sent.loss()
            with pytest.raises(MalformedMessage):
                bus.publish(QUEUE, b"", b"\x80")

        asyncio.run(scenario())

    def test_a_prefetch_is_checked(self, bus: Bus) -> None:
        async def scenario() -> None:
            with pytest.raises(ConfigurationError, match="-1"):
                await consumer(bus, prefetch=-1)
            _, got = await consumer(bus, prefetch=0)
            for n in range(100):
                bus.publish(QUEUE, b"%d" % n)
            await got.received(100)

        asyncio.run(scenario())

    def test_the_bus_shows_its_settings(self, bus: Bus) -> None:
        bus.max_message = 5
        bus.now = lambda: 7.0
        assert (bus.max_message, bus.now(), repr(bus)) == (5, 7.0, f"Bus.named({bus.name!r})")
