"""Topics: publishes to topic exchanges on a channel of its own.

An exchange that is missing or forbidden closes the channel of whoever publishes to it: on that of the calls it would
end all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from pika import exceptions

from resilient_rpc.errors import ConnectionLost
from resilient_rpc.transport.amqp.causes import NOT_FOUND, channel_error
from resilient_rpc.transport.amqp.lane import Lane, Reports
from resilient_rpc.transport.amqp.session import fail, settle
from resilient_rpc.transport.base import up_to
from resilient_rpc.transport.failures import refused_by_a_queue
from resilient_rpc.transport.properties import decode_properties

Expecting = Callable[[], AbstractContextManager["asyncio.Future[Any]"]]


class _Sent:
    """A message that is not confirmed."""

    __slots__ = ("future", "name", "routed", "tag")

    def __init__(self, tag: int, future: asyncio.Future[bool], name: str) -> None:
        self.tag, self.future, self.name = tag, future, name
        self.routed = True


class Topics:
    """Of one session. The channel is opened when it is first needed, and again after the broker has closed it."""

    def __init__(
        self,
        new_channel: Callable[[], Awaitable[Any]],
        new_lane: Callable[[Any, Reports], Lane],
        ask: Callable[..., Awaitable[Any]],
        expecting: Expecting,
        where: str,
    ) -> None:
        """`expecting` makes a future that fails when the session ends; the rest is the session's, too."""
        self._new_channel, self._new_lane, self._ask, self._expecting = new_channel, new_lane, ask, expecting
        self._where = where
        self._opening = asyncio.Lock()
        self._channel: Any = None
        self._lane: Lane
        self._exchanges: set[str] = set()
        """Those that are there, as this channel has seen."""
        self._unconfirmed: dict[int, _Sent] = {}
        self._by_id: dict[str, _Sent] = {}

    async def emit(self, exchange: str, name: str, body: bytes, properties: bytes, sent: Callable[[], None]) -> bool:
        """See `transport.base.Publisher`."""
        while exchange not in self._exchanges:
            async with self._opening:
                if exchange not in self._exchanges and not await self._finds(exchange):
                    return False
        correlation = decode_properties(properties).get("correlation_id", "")
        with self._expecting() as future:
            tag = self._lane.announce(exchange, body, properties, mandatory=True, name=name)
            sent()
            entry = self._unconfirmed[tag] = self._by_id[correlation] = _Sent(tag, future, name)
            try:
                routed: bool = await future
            finally:
                self._by_id.pop(correlation, None)
                if self._unconfirmed.get(tag) is entry:
                    del self._unconfirmed[tag]
        return routed

    async def _finds(self, exchange: str) -> bool:
        """Whether it is there: to ask needs no rights, and nothing is published for it."""
        channel = await self._open()
        try:
            with self._expecting() as answer:
                channel.add_on_close_callback(lambda _, error: fail(answer, error))
                channel.exchange_declare(exchange, passive=True, callback=lambda _: settle(answer, None))
                await answer
        except exceptions.ChannelClosed as error:
            if error.reply_code == NOT_FOUND:
                return False
            raise channel_error(error, None, self._where, opening=False) from error
        self._exchanges.add(exchange)
        return True

    async def _open(self) -> Any:
        if self._channel is None or not self._channel.is_open:
            reports = Reports()
            reports.confirmed, reports.returned = self._confirmed, self._returned
            channel = await self._new_channel()
            lane = self._new_lane(channel, reports)
            await self._ask(channel.confirm_delivery, lane.on_confirm)
            channel.add_on_close_callback(self._closed)
            self._channel, self._lane = channel, lane
        return self._channel

    # -- reports of the channel

    def _returned(self, correlation: str, _code: int, _text: str) -> None:
        if correlation in self._by_id:
            self._by_id[correlation].routed = False

    def _confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        for each in up_to(tag, self._unconfirmed) if multiple else (tag,):
            found = self._unconfirmed.pop(each, None)
            if found is not None and ok:
                settle(found.future, found.routed)
            elif found is not None:
                fail(found.future, refused_by_a_queue())

    def _closed(self, channel: Any, error: BaseException) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        self._exchanges.clear()
        sent, self._unconfirmed = self._unconfirmed, {}
        reason = channel_error(error, None, self._where, opening=False)
        for each in sent.values():
            fail(each.future, reason if _concerns(reason, each.name) else _cut_off(reason))


def _concerns(reason: Exception, name: str) -> bool:
    """Whether the broker closed the channel because of this message: rights may be given by the names of events."""
    return "access to topic" not in str(reason) or f"topic '{name}'" in str(reason)


def _cut_off(reason: Exception) -> ConnectionLost:
    error = ConnectionLost(f"the channel was closed because of another event: {reason}")
    error.__cause__ = reason
    return error
