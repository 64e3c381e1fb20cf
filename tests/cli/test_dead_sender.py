"""The sender of `dead replay`: each message has ended one way before the next begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc.cli.dead import sender as module
from resilient_rpc.cli.dead.sender import Sender
from resilient_rpc.errors import BrokerBlocked, ConnectionLost, PublishRejected, RpcError, Unroutable
from resilient_rpc.transport.base import PublisherEvents
from resilient_rpc.transport.properties import encode_properties

PLAIN = encode_properties()


class Session:
    """Answers each message as it is told to."""

    def __init__(self, events: PublisherEvents, answer: Callable[[PublisherEvents, int], None]) -> None:
        self.events, self.answer = events, answer
        self.sent: list[tuple[str, bool]] = []
        self.closed = False

    def publish(self, target: str, _body: bytes, _properties: bytes, *, mandatory: bool) -> int:
        self.sent.append((target, mandatory))
        return len(self.sent)

    def flush(self) -> None:
        self.answer(self.events, len(self.sent))

    async def close(self) -> None:
        self.closed = True


class Transport:
    connect_timeout = 1.0

    def __init__(self, answer: Callable[[Any, int], None]) -> None:
        self._answer = answer
        self.session: Any = None

    async def publisher(self, events: Any, *, replies: Any, timeout: float) -> Any:
        assert (replies, timeout) == (False, 1.0)
        self.session = Session(events, self._answer)
        return self.session


def send(answer: Callable[[Any, int], None], *, blocked: str | None = None, times: int = 1) -> Session:
    """What became of it: raises as the sender does."""

    async def scenario() -> Session:
        transport, sender = Transport(answer), Sender()
        await sender.open(transport)
        sender.blocked(blocked)
        try:
            for _ in range(times):
                await sender.send("rpc.shop", b"{}", PLAIN)
        finally:
            await sender.close()
            assert transport.session.closed
        found: Session = transport.session
        return found

    return asyncio.run(scenario())


def confirm(events: Any, tag: int) -> None:
    events.confirmed(tag, multiple=False, ok=True)


def test_what_is_confirmed_is_sent() -> None:
    assert send(confirm, times=2).sent == [("rpc.shop", True), ("rpc.shop", True)]


def test_after_an_alarm_it_goes_on() -> None:
    assert send(confirm, blocked=None).sent


def returned(events: Any, tag: int) -> None:
    events.returned("", 312, "NO_ROUTE")
    confirm(events, tag)


def rejected(events: Any, tag: int) -> None:
    events.confirmed(tag, multiple=False, ok=False)
    events.confirmed(tag, multiple=False, ok=True)  # too late


def lost(events: Any, _tag: int) -> None:
    events.lost(ConnectionLost("gone"))
    events.lost(ConnectionLost("once more"))


@pytest.mark.parametrize(
    ("answer", "error"), [(returned, Unroutable), (rejected, PublishRejected), (lost, ConnectionLost)]
)
def test_what_does_not_arrive_says_why(answer: Callable[[Any, int], None], error: type[Exception]) -> None:
    with pytest.raises(error):
        send(answer)


def test_in_an_alarm_nothing_is_sent() -> None:
    with pytest.raises(BrokerBlocked, match="low on memory"):
        send(confirm, blocked="low on memory")


def test_a_confirm_that_does_not_come_leaves_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONFIRM_WITHIN", 0.01)
    with pytest.raises(RpcError, match="no confirm within") as raised:
        send(lambda *_: None)
    assert raised.value.certainty == "unknown"


def test_before_it_is_open_it_sends_nothing_and_can_be_closed() -> None:
    async def scenario() -> None:
        sender = Sender()
        sender.lost(ConnectionLost("early"))
        sender.confirmed(1, multiple=False, ok=True)
        with pytest.raises(RuntimeError):
            await sender.send("q", b"", PLAIN)
        await sender.close()

    asyncio.run(scenario())
