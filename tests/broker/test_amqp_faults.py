import asyncio
import time
from collections.abc import Callable

import pytest

from resilient_rpc.errors import ConfigurationError, ConnectionLost, NotConnected
from resilient_rpc.transport.properties import encode_properties
from tests.broker.amqp import PLAIN, TIMEOUT, consuming, publishing, run, spec, transport
from tests.contract.recorder import Recorder
from tests.servers.handle import Broker
from tests.servers.proxy import Proxy

LANES = pytest.mark.parametrize("lane", [True, False], ids=["fast", "pika"])


@LANES
def test_a_connection_that_is_reset_is_lost_at_once(
    amqp_url: str, service: str, proxy: Callable[[str], Proxy], lane: bool
) -> None:
    cut = proxy(amqp_url)

    async def scenario() -> None:
        over, queue = transport(cut.url, lane=lane), spec(service)
        async with consuming(over, queue) as (consumer, got), publishing(over, replies=True) as (publisher, sent):
            publisher.publish(queue.name, b"unacked", PLAIN, mandatory=True)
            (delivery,) = await got.received(1)
            await asyncio.to_thread(cut.reset)
            for error in (await got.loss(), await sent.loss()):
                assert type(error) is ConnectionLost
                assert isinstance(error.__cause__, OSError)
            with pytest.raises(ConnectionError):
                publisher.publish(queue.name, b"", PLAIN, mandatory=True)
            consumer.ack(delivery.tag)
        async with consuming(over, queue, acks=True) as (_, again):
            (redelivered,) = await again.received(1)
            assert (redelivered.body, redelivered.redelivered) == (b"unacked", True)
        assert (len(got.errors), len(sent.errors)) == (1, 1)

    run(scenario, proxied=True)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_peer_that_falls_silent_is_given_up(
    amqp_url: str, service: str, proxy: Callable[[str], Proxy], way: str
) -> None:
    silent = proxy(amqp_url)

    async def scenario() -> None:
        over, queue = transport(silent.url, heartbeat=1), spec(service)
        async with consuming(over, queue) as (_, got), publishing(over, replies=True) as (_, sent):
            silent.freeze("down") if way == "down" else silent.freeze("up")
            begin = time.monotonic()
            errors = await got.loss(), await sent.loss()
            # Nobody hears us: the broker ends it after two intervals. We hear nobody: our own watch does.
            assert time.monotonic() - begin < 6
            assert [type(error) for error in errors] == [ConnectionLost] * 2

    run(scenario, proxied=True)


@pytest.mark.parametrize("lane", [True, False], ids=["fast", "pika"])
def test_a_busy_connection_outlives_many_heartbeats(amqp_url: str, service: str, lane: bool) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url, lane=lane, heartbeat=1), spec(service)
        async with consuming(over, queue, acks=True) as (_, got), publishing(over) as (publisher, sent):
            loop = asyncio.get_running_loop()
            end, count = loop.time() + 7.5, 0  # pika looks each heartbeat and five seconds
            while loop.time() < end:
                count += 1
                publisher.publish(queue.name, b"", PLAIN, mandatory=True)
                await got.received(count)
            assert got.errors == sent.errors == []

    run(scenario)


@pytest.mark.parametrize("after", [1, 8, 200, 450, 500, 550, 600])
def test_a_handshake_that_is_cut_is_worth_another_try(amqp_url: str, proxy: Callable[[str], Proxy], after: int) -> None:
    cut = proxy(amqp_url)

    async def scenario() -> None:
        over = transport(cut.url)
        await asyncio.to_thread(cut.cut, after)
        try:
            session = await over.publisher(events := Recorder(), replies=True, timeout=TIMEOUT)
        except NotConnected:
            pass
        else:  # it was over before: then the session is
            session.publish("nobody", b"", PLAIN, mandatory=True)
            await events.loss()
        async with publishing(over, replies=True):
            pass

    run(scenario, proxied=True)


def test_a_timeout_names_the_phase(amqp_url: str, proxy: Callable[[str], Proxy]) -> None:
    frozen = proxy(amqp_url)
    frozen.freeze()

    async def scenario() -> None:
        with pytest.raises(TimeoutError, match=rf"127\.0\.0\.1:{frozen.port} within 0\.3 s: stuck at amqp"):
            await transport(frozen.url).publisher(Recorder(), replies=True, timeout=0.3)

    run(scenario, proxied=True)


def test_a_timeout_counts_all_phases_together(amqp_url: str, proxy: Callable[[str], Proxy]) -> None:
    slow = proxy(amqp_url)
    slow.delay(0.25, "down")  # each step takes so long, and there are more than five

    async def scenario() -> None:
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match=r"stuck at \w+"):
            await transport(slow.url).publisher(Recorder(), replies=True, timeout=1.1)
        assert time.monotonic() - begin < 4

    run(scenario, proxied=True)


def test_back_pressure_shows_and_ends(amqp_url: str, service: str, proxy: Callable[[str], Proxy]) -> None:
    slow = proxy(amqp_url)

    async def scenario() -> None:
        over, queue = transport(slow.url), spec(service)
        direct = transport(amqp_url)
        async with consuming(direct, queue, prefetch=100, acks=True) as (_, got), publishing(over) as (publisher, sent):
            await asyncio.to_thread(slow.freeze, "up")
            count = 0
            while publisher.writable:
                count += 1
                publisher.publish(queue.name, bytes(100_000), PLAIN, mandatory=True)
                await asyncio.sleep(0)
            assert "writable" not in sent.kinds
            await asyncio.to_thread(slow.thaw, "up")
            await sent.until(lambda: "writable" in sent.kinds)
            assert publisher.writable
            await got.received(count)
            await sent.confirmation(count)

    run(scenario, proxied=True)


def test_a_close_that_nobody_answers_ends_soon(amqp_url: str, proxy: Callable[[str], Proxy]) -> None:
    frozen = proxy(amqp_url)

    async def scenario() -> None:
        events = Recorder()
        session = await transport(frozen.url).publisher(events, replies=True, timeout=TIMEOUT)
        await asyncio.to_thread(frozen.freeze)
        begin = time.monotonic()
        await session.close()
        assert 1.5 < time.monotonic() - begin < 3.5
        await session.close()
        assert events.entries == []

    run(scenario, proxied=True)


def test_what_was_published_before_close_has_been_sent(amqp_url: str, service: str) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url), spec(service)
        async with consuming(over, queue, acks=True) as (_, got):
            async with publishing(over) as (publisher, _):
                for _ in range(500):
                    publisher.publish(queue.name, bytes(10_000), PLAIN, mandatory=True)
            await got.received(500)

    run(scenario)


def test_an_alarm_is_reported_and_acks_still_pass(private_broker: Broker, service: str) -> None:
    async def scenario() -> None:
        over, queue = transport(private_broker.url), spec(service)
        async with consuming(over, queue, prefetch=1) as (consumer, got), publishing(over) as (publisher, sent):
            publisher.publish(queue.name, b"one", PLAIN, mandatory=True)
            publisher.publish(queue.name, b"two", PLAIN, mandatory=True)
            (first,) = await got.received(1)
            await sent.until(lambda: {1, 2} <= sent.settled.keys())
            await asyncio.to_thread(private_broker.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
            try:
                publisher.publish(queue.name, b"three", PLAIN, mandatory=True)
                await sent.until(lambda: bool(sent.blocks))
                assert isinstance(sent.blocks[0], str)
                assert "memory" in sent.blocks[0]
                consumer.ack(first.tag)
                assert (await got.received(2))[1].body == b"two"
                assert 3 not in sent.settled
                begin = time.monotonic()
                async with publishing(over) as (another, blocked):
                    another.publish(queue.name, b"four", PLAIN, mandatory=True)
                    await blocked.until(lambda: bool(blocked.blocks))
                assert time.monotonic() - begin < 10
            finally:
                await asyncio.to_thread(private_broker.ctl, "set_vm_memory_high_watermark", "0.4")
            await sent.until(lambda: sent.blocks[-1] is None)
            assert await sent.confirmation(3)

    run(scenario)


def test_a_connection_that_the_operator_closes(private_broker: Broker, service: str) -> None:
    async def scenario() -> None:
        over, queue = transport(private_broker.url), spec(service)
        async with consuming(over, queue) as (_, got), publishing(over, replies=True) as (publisher, sent):
            await asyncio.to_thread(private_broker.ctl, "close_all_connections", "for a reason")
            for error in (await got.loss(), await sent.loss()):
                assert type(error) is ConnectionLost
                assert "320" in str(error)
                assert "for a reason" in str(error)
            with pytest.raises(ConnectionLost):
                await publisher.consumers(queue.name)

    run(scenario)


def test_rights_that_are_missing_are_a_configuration_error(private_broker: Broker, service: str) -> None:
    private_broker.ctl("add_user", service, "w0rd")
    private_broker.ctl("set_permissions", service, "", "", ".*")
    url = private_broker.url.replace("guest:guest", f"{service}:w0rd")

    async def scenario() -> None:
        over, queue = transport(url), spec(service)
        with pytest.raises(ConfigurationError, match=r"403 ACCESS_REFUSED"):
            await over.consumer(Recorder(), queue, prefetch=1, timeout=TIMEOUT)
        async with publishing(over) as (publisher, sent):
            publisher.publish(queue.name, b"", encode_properties(), mandatory=True)
            error = await sent.loss()
            assert type(error) is ConfigurationError
            assert "403" in str(error)

    run(scenario)


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back(private_broker: Broker, service: str) -> None:
    async def scenario() -> None:
        over, queue = transport(private_broker.url), spec(service)
        async with consuming(over, queue) as (_, got), publishing(over, replies=True) as (_, sent):
            await asyncio.to_thread(private_broker.kill)
            assert [type(await events.loss()) for events in (got, sent)] == [ConnectionLost] * 2
            with pytest.raises(NotConnected):
                await over.publisher(Recorder(), replies=True, timeout=TIMEOUT)
            await asyncio.to_thread(private_broker.start)
        async with consuming(over, queue, acks=True) as (_, got), publishing(over) as (publisher, sent):
            assert await sent.confirmation(publisher.publish(queue.name, b"", PLAIN, mandatory=True))
            await got.received(1)

    run(scenario, 100)
