"""What pika asks of an event loop, on asyncio's own transports (TLS and uvloop included)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from pika.adapters.utils import nbio_interface

from resilient_rpc.transport.amqp.stream import Stream


class Job:
    """A coroutine that reports its result or exception to `on_done`, unless it was cancelled first.

    `undo` gets a result that was there in the very tick in which the job was cancelled.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any],
        on_done: Callable[[Any], None],
        undo: Callable[[Any], None] | None = None,
    ) -> None:
        self._wanted, self._on_done, self._undo = True, on_done, undo
        self._task = loop.create_task(work)
        self._task.add_done_callback(self._finish)

    def cancel(self) -> bool:
        """Forget it; False if it was done already."""
        self._wanted = False
        return self._task.cancel()

    def otherwise(self, clean_up: Callable[[], None]) -> None:
        """Call `clean_up` if the coroutine has no result: also when it was cancelled before its first step."""

        def look(task: asyncio.Task[Any]) -> None:
            if task.cancelled() or task.exception() is not None:
                clean_up()

        self._task.add_done_callback(look)

    def _finish(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if self._wanted:
            self._on_done(error or task.result())
        elif error is None and self._undo is not None:
            self._undo(task.result())


class IOServices(nbio_interface.AbstractIOServices):  # type: ignore[misc]  # pika has no types
    """One object for each attempt to connect: it knows how far that came.

    `phase` is what the attempt waits for (dns, tcp, tls or amqp), `stream` the connection once there is one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.phase = "dns"
        self.stream: Stream | None = None

    def get_native_ioloop(self) -> asyncio.AbstractEventLoop:
        """The caller's loop."""
        return self._loop

    def close(self) -> None:
        """Not ours to do: the loop is the caller's."""
        raise NotImplementedError

    run = stop = close  # pika's own tests use them, and nobody else

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        """See pika."""
        self._loop.call_soon_threadsafe(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """See pika."""
        return self._loop.call_later(delay, callback)

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[[Any], None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Job:
        """See pika."""
        found = self._loop.getaddrinfo(host, port, family=family, type=socktype, proto=proto, flags=flags)
        return Job(self._loop, found, on_done)

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], None]) -> Job:
        """See pika."""
        self.phase = "tcp"
        return Job(self._loop, self._loop.sock_connect(sock, resolved_addr), on_done)

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        on_done: Callable[[Any], None],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Job:
        """See pika."""
        self.phase = "tls" if ssl_context else "amqp"
        stream = Stream(self._loop)

        async def open_stream() -> Stream:
            name = server_hostname if ssl_context else None
            await self._loop.create_connection(lambda: stream, sock=sock, ssl=ssl_context, server_hostname=name)
            return stream

        def linked(result: Any) -> None:
            # The AMQP handshake starts here and not in connection_made: pika hangs its handshake callbacks on in
            # on_done(), and a broker nearby could have answered before that.
            if isinstance(result, Stream):
                try:
                    result = self._begin(stream, protocol_factory)
                except Exception as error:
                    stream.abort()
                    result = error
            on_done(result)

        job = Job(self._loop, open_stream(), linked, Stream.abort)
        job.otherwise(sock.close)  # pika let go of it
        return job

    def _begin(self, stream: Stream, protocol_factory: Callable[[], Any]) -> tuple[Stream, Any]:
        if stream.closed:
            raise stream.reason or ConnectionResetError("closed before the handshake")
        self.phase, self.stream = "amqp", stream
        protocol = protocol_factory()
        stream.link(protocol)
        return stream, protocol
