from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc.errors import ConnectionLost
from resilient_rpc.transport.amqp.control import ControlQueue
from resilient_rpc.wire.control import is_control_queue
from tests.waiting import turns


class Channel:
    """What is asked of pika's; `refuses` is what the broker does not allow."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.asked = refuses, list[str]()
        self.is_open = True
        self.connection = self
        self.closed: Callable[[Any, BaseException], None] | None = None

    def add_on_close_callback(self, closed: Callable[[Any, BaseException], None]) -> None:
        self.closed = closed

    def __getattr__(self, name: str) -> Any:
        return name

    async def open(self) -> tuple[Any, Any]:
        return self, self

    async def ask(self, operation: str, *_args: Any, **_options: Any) -> None:
        self.asked.append(operation)
        if operation == self.refuses and self.closed is not None:
            self.closed(self, PermissionError("403"))
            await asyncio.Event().wait()  # the answer never comes


def test_it_has_its_name_once_it_is_consumed_and_none_after_its_end() -> None:
    async def scenario() -> None:
        channel = Channel()
        control = ControlQueue("rpc.shop.control", channel.open, channel.ask)
        assert control.name == ""
        control.start()
        await turns(lambda: control.name)
        assert is_control_queue(control.name)
        assert channel.asked == ["exchange_declare", "queue_declare", "queue_bind", "basic_consume"]
        await control.close()
        assert control.name == ""

    asyncio.run(scenario())


@pytest.mark.parametrize("refuses", ["exchange_declare", "queue_declare", "queue_bind", "basic_consume"])
def test_a_server_that_may_not_have_one_is_told_why_and_goes_on(refuses: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        channel = Channel(refuses)
        control = ControlQueue("rpc.shop.control", channel.open, channel.ask)
        control.start()
        await turns(lambda: caplog.messages)
        assert control.name == ""
        await control.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert caplog.messages == ["callers cannot cancel here: no control queue at rpc.shop.control: 403"]


def test_a_session_that_ends_meanwhile_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        channel = Channel()

        async def gone() -> tuple[Any, Any]:
            raise ConnectionLost("cut")

        control = ControlQueue("rpc.shop.control", gone, channel.ask)
        await control.close()
        control.start()
        await turns(lambda: control._task is not None and control._task.done())
        channel.is_open = False
        control._closed(channel, ConnectionLost("cut"))
        await control.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert caplog.messages == []


def test_a_channel_that_ends_later_takes_the_name_away(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        channel = Channel()
        control = ControlQueue("rpc.shop.control", channel.open, channel.ask)
        control.start()
        await turns(lambda: control.name)
        assert channel.closed is not None
        channel.closed(channel, ConnectionLost("deleted"))
        assert control.name == ""
        await control.close()

    asyncio.run(scenario())
    assert "deleted" in caplog.text
