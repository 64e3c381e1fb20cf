"""One connection with one channel, opened step by step, ended once, and closed without leaving anything behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from resilient_rpc.errors import ConnectionLost
from resilient_rpc.transport.amqp.causes import channel_error
from resilient_rpc.transport.amqp.connect import Connection
from resilient_rpc.transport.amqp.lane import FastLane, Lane, Reports
from resilient_rpc.transport.amqp.pikalane import PikaLane

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds that a broker has to answer connection.close: in an alarm it does not read on."""


class Session(ABC):
    """What publishers and consumers share.

    Reports wait until the loop's next turn after opening: whoever opens the session knows it by then.
    """

    def __init__(self, lost: Callable[[BaseException], None], where: str, *, lane: bool, max_body: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost, self._where = lost, where
        self._fast, self._max_body = lane, max_body
        self._reports = Reports()
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = []
        self._asked: set[asyncio.Future[Any]] = set()
        self._ended: Exception | None = None
        self._closing = False
        self._abort: asyncio.TimerHandle | None = None
        self._connection: Connection
        self._channel: Any
        self._lane: Lane
        self.phase = "connect"

    # -- opening

    async def open(self, connection: Connection) -> None:
        """Take over `connection`, open the channel and what `_set_up` adds to it."""
        self._connection = connection
        try:
            self.phase = "channel"
            self._channel = await self._new_channel()
            self._channel.add_on_close_callback(self._on_channel_closed)
            self._lane = self._new_lane(self._channel, self._reports)
            await self._set_up()
        except BaseException:
            self.abandon()
            raise
        if self._ended is not None:
            raise self._ended
        self._loop.call_soon(self._release)

    @abstractmethod
    async def _set_up(self) -> None:
        """Prepare the channel; what the lane reports meanwhile goes by `_tell`."""

    @abstractmethod
    def _connect_reports(self) -> None:
        """Let the lane report to the owner directly."""

    async def ask(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Await one of pika's operations that call back; an end of the session ends it, too."""
        with self._expecting() as future:
            method(*args, **options, callback=lambda result: settle(future, result))
            return await future

    async def ask_on(self, channel: Any, method: Callable[..., Any], **options: Any) -> Any:
        """As `ask`, on a channel apart: its end is raised as pika says it, and is not that of the session."""
        with self._expecting() as future:
            channel.add_on_close_callback(lambda _, error: fail(future, error))
            method(**options, callback=lambda result: settle(future, result))
            return await future

    async def _new_channel(self) -> Any:
        def opened(channel: Any) -> None:
            if not settle(future, channel):  # whoever wanted it gave up
                channel.close()

        with self._expecting() as future:
            self._connection.channel(on_open_callback=opened)
            try:
                return await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled() and future.exception() is None:
                    future.result().close()  # it opened in the very turn in which whoever wanted it gave up
                raise

    def _new_lane(self, channel: Any, reports: Reports) -> Lane:
        make: Callable[..., Lane] = FastLane if self._fast else PikaLane
        return make(self._connection, channel, reports, self._max_body)

    @contextlib.contextmanager
    def _expecting(self) -> Iterator[asyncio.Future[Any]]:
        """A future that fails when the session ends."""
        if self._ended is not None:
            raise self._ended
        future: asyncio.Future[Any] = self._loop.create_future()
        self._asked.add(future)
        try:
            yield future
        finally:
            self._asked.discard(future)
            future.cancel()

    def abandon(self) -> None:
        """Never report anything, and go at once: nothing was sent that matters."""
        self._mute()
        self._connection.stream.fail(ConnectionAbortedError("given up"))

    def _release(self) -> None:
        held, self._held = self._held, None
        if not self._closing and self._ended is None:
            self._connect_reports()
        for report, args in held or ():
            self._tell(report, *args)

    # -- reports

    def _tell(self, report: Callable[..., None], *args: Any) -> None:
        """Report now, or when the session is known to its owner."""
        if self._closing:
            return
        if self._held is not None:
            self._held.append((report, args))
            return
        try:
            report(*args)
        except Exception:
            log.exception("the owner of a session failed to take a report")

    # -- the end

    def connection_lost(self, error: BaseException) -> None:
        """For `connect`: the connection ended."""
        self._end(error)
        if self._abort is not None:
            self._abort.cancel()

    def _on_channel_closed(self, _channel: Any, error: BaseException) -> None:
        self._end(error)

    def _end(self, error: BaseException) -> None:
        """The session is over: once, for the first reason there is."""
        if self._ended is not None:
            return
        reason = self._connection.stream.reason if hasattr(self, "_connection") else None
        self._ended = channel_error(error, reason, self._where, opening=self._held is not None)
        for future in self._asked:
            fail(future, self._ended)
        lost, self._lost = self._lost, _nobody
        self._tell(lost, self._ended)
        self._mute()
        self._disconnect()

    def _mute(self) -> None:
        self._reports.silence()
        if hasattr(self, "_lane"):
            self._lane.close()

    def _disconnect(self) -> None:
        """Ask the broker to close the connection; end it anyhow after a while. Nobody needs to wait for that."""
        if not hasattr(self, "_connection") or self._abort is not None or self._connection.stream.gone.is_set():
            return
        connection = self._connection
        self._abort = self._loop.call_later(CLOSE_TIMEOUT, connection.stream.abort)
        if not (connection.is_closing or connection.is_closed):
            try:
                connection.close()
            except Exception:  # of pika's, in a state that it does not expect
                log.debug("pika failed to close a connection", exc_info=True)
                connection.stream.abort()

    async def close(self) -> None:
        """End the session: what was written is sent first, where the broker still reads."""
        self._closing = True
        if self._ended is None:
            self._ended = ConnectionLost(f"{self._where}: the session was closed")
            for future in self._asked:
                fail(future, self._ended)
        self._mute()
        self._disconnect()
        await self._connection.stream.gone.wait()


def settle(future: asyncio.Future[Any], result: Any) -> bool:
    """Set the result, unless nobody waits any more."""
    if future.done():
        return False
    future.set_result(result)
    return True


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Set the error, unless nobody waits any more."""
    if not future.done():
        future.set_exception(error)


def _nobody(*_: Any) -> None:
    """Whom the second reason of an end is told to."""
