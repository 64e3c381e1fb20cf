"""A broker that is long at the queues of dead letters, as RabbitMQ 4 is where the node that they are on is down."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.amqp import consumer as module
from resilient_rpc.transport.amqp.consumer import AmqpConsumer
from resilient_rpc.transport.base import QueueSpec
from tests.broker.amqp import PLAIN, consuming, publishing, run, transport
from tests.waiting import turns


class Slow:
    """Holds up the declaration of one queue until it is let go; then it may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = asyncio.Event()
        self.error: Exception | None = None
        self.asked = 0
        ask_on = AmqpConsumer.ask_on

        async def slowly(session: AmqpConsumer, channel: Any, method: Any, **options: Any) -> Any:
            if str(options.get("queue", "")).endswith(".dead") and "arguments" in options and "exchange" not in options:
                self.asked += 1
                await self.go.wait()
                if self.error is not None:
                    raise self.error
            return await ask_on(session, channel, method, **options)

        monkeypatch.setattr(AmqpConsumer, "ask_on", slowly)
        monkeypatch.setattr(module, "APART", 0.05)


def of(service: str) -> QueueSpec:
    return QueueSpec(name=f"rpc.{service}", service=service, arguments={"x-expires": 60_000})


def test_a_service_is_served_meanwhile_and_has_its_dead_letters_later(
    amqp_url: str, service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        slow, over, queue = Slow(monkeypatch), transport(amqp_url), of(service)
        async with consuming(over, queue, acks=True) as (session, got), publishing(over) as (publisher, _):
            assert slow.asked == 1
            publisher.publish(queue.name, b"served", PLAIN, mandatory=True)
            assert (await got.received(1))[0].body == b"served"
            assert await publisher.inspect(f"{queue.name}.dead") is None
            assert "dead letters may be lost for now" in caplog.text
            assert session.phase == "consuming"  # type: ignore[attr-defined]
            slow.go.set()
            apart = session._apart  # type: ignore[attr-defined]
            await turns(apart.done)
            assert apart.exception() is None
            for kind in ("dead", "expired"):
                assert await publisher.inspect(f"{queue.name}.{kind}") is not None
            assert not got.errors

    run(scenario)


def test_what_goes_wrong_later_is_logged_and_ends_nothing(
    amqp_url: str, service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        slow, over, queue = Slow(monkeypatch), transport(amqp_url), of(service)
        slow.error = ConfigurationError("other arguments")
        async with consuming(over, queue, acks=True) as (session, got), publishing(over) as (publisher, _):
            slow.go.set()
            await turns(session._apart.done)  # type: ignore[attr-defined]
            publisher.publish(queue.name, b"served", PLAIN, mandatory=True)
            await got.received(1)
            assert not got.errors

    with caplog.at_level(logging.ERROR, module.__name__):
        run(scenario)
    assert "no dead letters are kept: other arguments" in caplog.text


def test_what_goes_wrong_at_once_is_raised(amqp_url: str, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        slow, over = Slow(monkeypatch), transport(amqp_url)
        slow.error = ConfigurationError("other arguments")
        slow.go.set()
        with pytest.raises(ConfigurationError, match="other arguments"):
            async with consuming(over, of(service)):
                pytest.fail("it was opened")

    run(scenario)


def test_a_session_that_ends_meanwhile_leaves_nothing(
    amqp_url: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        Slow(monkeypatch)
        async with consuming(transport(amqp_url), of(service)) as (session, _):
            apart = session._apart  # type: ignore[attr-defined]
            assert not apart.done()
        await asyncio.wait((apart,))
        assert apart.cancelled()

    run(scenario)
