from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from resilient_rpc.transport.amqp import directreply
from resilient_rpc.transport.amqp.directreply import passes_replies
from resilient_rpc.transport.base import DIRECT_REPLY

ADDRESS = f"{DIRECT_REPLY}.node.key"


class Channel:
    """A channel of a broker that drops the first replies, or that does something else."""

    def __init__(self, *, drops: int = 0, shows: str | None = ADDRESS, refuses: bool = False) -> None:
        self.drops, self.shows, self.refuses = drops, shows, refuses
        self.is_open, self.sent = True, 0
        self.published = asyncio.Event()

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        self.on_close = callback

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.on_return = callback

    def basic_consume(self, *, queue: str, on_message_callback: Callable[..., None], auto_ack: bool) -> None:
        assert (queue, auto_ack) == (DIRECT_REPLY, True)
        self.on_message = on_message_callback

    def basic_publish(
        self,
        exchange: str,
        target: str,
        body: bytes,
        properties: pika.BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None:
        assert (exchange, body) == ("", b"")
        if mandatory:
            assert not target.startswith(DIRECT_REPLY)
            assert properties is not None
            assert properties.reply_to == DIRECT_REPLY
            self._ask()
        else:
            assert target == ADDRESS
            self.sent += 1
            self.published.set()
            if self.sent > self.drops:
                asyncio.get_running_loop().call_soon(self.on_message, self, None, None, b"")

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        if self.refuses:
            self.is_open = False
            loop.call_soon(self.on_close, self, ChannelClosedByBroker(403, "ACCESS_REFUSED"))
        elif self.shows != "nothing":
            loop.call_soon(self.on_return, self, None, pika.BasicProperties(reply_to=self.shows), b"")

    def close(self) -> None:
        self.is_open = False


class Session:
    """What it needs of one."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Any]] = []

    @contextlib.contextmanager
    def expecting(self) -> Iterator[asyncio.Future[Any]]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        yield future
        future.cancel()

    async def ask_on(self, _channel: Any, method: Callable[..., None], **options: Any) -> None:
        method(**options)

    def end(self, error: Exception) -> None:
        for future in self.asked:
            if not future.done():
                future.set_exception(error)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    complaints: list[dict[str, Any]] = []

    async def limited() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(limited())
    assert not complaints


def test_it_ends_with_the_first_reply_that_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directreply, "AGAIN", 0.001)

    async def scenario() -> None:
        for drops in (0, 1, 3):
            session, channel = Session(), Channel(drops=drops)
            with session.expecting() as enough:
                await passes_replies(channel, session.expecting, session.ask_on, enough)
            assert channel.sent > drops
            assert drops or channel.sent == 1
            assert not channel.is_open

    run(scenario)


@pytest.mark.parametrize("shows", [DIRECT_REPLY, None, "amq.gen-x"])
def test_a_broker_that_does_not_show_the_address_is_not_asked_further(shows: str | None) -> None:
    async def scenario() -> None:
        session, channel = Session(), Channel(shows=shows)
        with session.expecting() as enough:
            await passes_replies(channel, session.expecting, session.ask_on, enough)
        assert (channel.sent, channel.is_open) == (0, False)

    run(scenario)


def test_a_broker_that_forbids_to_publish_is_not_asked_further() -> None:
    async def scenario() -> None:
        session, channel = Session(), Channel(refuses=True)
        with session.expecting() as enough:
            await passes_replies(channel, session.expecting, session.ask_on, enough)
        assert channel.sent == 0

    run(scenario)


def test_an_alarm_ends_it_whatever_it_waits_for() -> None:
    async def scenario() -> None:
        for channel, asked in ((Channel(shows="nothing"), False), (Channel(drops=1_000_000), True)):
            session = Session()
            with session.expecting() as enough:
                task = asyncio.create_task(passes_replies(channel, session.expecting, session.ask_on, enough))
                if asked:
                    await channel.published.wait()
                else:
                    await asyncio.sleep(0)
                enough.set_result(None)
                await task
            assert not channel.is_open

    run(scenario)


def test_the_end_of_the_session_is_raised_once_and_complained_of_nowhere() -> None:
    async def scenario() -> None:
        session, channel = Session(), Channel(drops=1_000_000)
        with session.expecting() as enough:
            task = asyncio.create_task(passes_replies(channel, session.expecting, session.ask_on, enough))
            await channel.published.wait()
            session.end(ConnectionError("gone"))
            with contextlib.suppress(ConnectionError):
                await task
        assert not channel.is_open
        assert task.done()

    run(scenario)
