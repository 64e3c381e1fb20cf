"""A TCP proxy that breaks connections the way networks do.

It runs in a thread of its own, so tests of either colour use it with plain calls; each returns when it is in effect.
Up is from the client to the server, down is the way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from tests.servers.ports import HOST, free_port

T = TypeVar("T")
Way = Literal["up", "down"]
WAYS: tuple[Way, Way] = ("up", "down")
CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST and drops what was not sent


@dataclass
class Lane:
    """What happens to the bytes of one direction, over all connections."""

    bytes: int = 0  # how many were handed on
    delay: float = 0.0
    cut_after: int | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class Link:
    """One connection: both its sockets and the tasks between them."""

    sockets: tuple[socket.socket, socket.socket]  # the client's, the server's
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    ways_ended: int = 0


class Proxy:
    """Listens on `port` of loopback and connects to the host and port of `target`, the URL of a server."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname, target
        self._target = (parts.hostname, parts.port or {"amqp": 5672, "redis": 6379}[parts.scheme])
        self.port = free_port()
        credentials, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{credentials}{at}{HOST}:{self.port}"))
        self.arrivals: list[float] = []
        """When each connection came that there ever was (`time.monotonic`)."""
        self._links: set[Link] = set()
        self._lanes: dict[Way, Lane] = {way: Lane() for way in WAYS}
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.thaw()
        self.accept()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.refuse()
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # --- what a test does ---

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._links)

    @property
    def accepted(self) -> int:
        """How many there ever were."""
        return len(self.arrivals)

    @property
    def bytes_up(self) -> int:
        """How many bytes the server was handed."""
        return self._lanes["up"].bytes

    @property
    def bytes_down(self) -> int:
        """How many bytes the clients were handed."""
        return self._lanes["down"].bytes

    def freeze(self, *ways: Way) -> None:
        """Hand nothing on, in both ways or in these: a half-open connection. New ones are accepted and frozen, too."""
        self._on_loop(lambda lane: lane.open.clear(), ways)

    def thaw(self, *ways: Way) -> None:
        """Hand on again, first what was held."""
        self._on_loop(lambda lane: lane.open.set(), ways)

    def delay(self, seconds: float, *ways: Way) -> None:
        """Hand everything on so much later, in order; 0 ends it."""
        self._on_loop(lambda lane: setattr(lane, "delay", seconds), ways)

    def cut(self, after: int, way: Way = "down") -> None:
        """Once: hand on so many more bytes of this way, then reset the connection that carried the last of them.

        `cut(0)` loses the next answer: the server has done its work, the client never hears of it.
        """
        self._on_loop(lambda lane: setattr(lane, "cut_after", after), (way,))

    def spare(self, way: Way = "down") -> bool:
        """Take a `cut` back. False: it has come."""

        async def act() -> bool:
            lane = self._lanes[way]
            armed, lane.cut_after = lane.cut_after is not None, None
            return armed

        return self._run(act())

    def reset(self) -> None:
        """End all connections by RST, as a machine that lost its memory of them."""

        async def act() -> None:
            await asyncio.gather(*(self._end(link, reset=True) for link in tuple(self._links)))

        self._run(act())

    def refuse(self) -> None:
        """Accept no new connections: they are refused as by a port nobody listens on."""
        self._run(self._close_listener())

    def accept(self) -> None:
        """Accept connections again after `refuse`."""
        self._run(self._open_listener())

    # --- on the loop ---

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _on_loop(self, change: Any, ways: tuple[Way, ...]) -> None:
        async def act() -> None:
            for way in ways or WAYS:
                change(self._lanes[way])

        self._run(act())

    async def _open_listener(self) -> None:
        if self._listener is not None:
            return
        self._listener = socket.create_server((HOST, self.port), backlog=128)
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept_all(self._listener))

    async def _close_listener(self) -> None:
        if self._listener is None or self._accepting is None:
            return
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        self._listener = None

    async def _accept_all(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            self.arrivals.append(time.monotonic())
            server = socket.socket()
            link = Link((client, server))
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links.add(link)
            link.tasks.append(asyncio.create_task(self._carry(link)))

    async def _carry(self, link: Link) -> None:
        client, server = link.sockets
        try:
            await self._loop.sock_connect(server, self._target)
        except OSError:
            return await self._end(link, reset=True)
        for way, source, sink in zip(WAYS, (client, server), (server, client), strict=True):
            chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(16)
            link.tasks.append(asyncio.create_task(self._read(source, self._lanes[way], chunks)))
            link.tasks.append(asyncio.create_task(self._write(link, sink, self._lanes[way], chunks)))
        return None

    async def _read(self, source: socket.socket, lane: Lane, chunks: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = await self._loop.sock_recv(source, CHUNK)
            except OSError:
                data = b""
            await chunks.put((self._loop.time() + lane.delay, data))

    async def _write(self, link: Link, sink: socket.socket, lane: Lane, chunks: asyncio.Queue[Any]) -> None:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await lane.open.wait()
            if not data:
                return await self._half_close(link, sink)
            cut = lane.cut_after is not None and len(data) >= lane.cut_after
            if cut:
                data, lane.cut_after = data[: lane.cut_after], None
            elif lane.cut_after is not None:
                lane.cut_after -= len(data)
            lane.bytes += len(data)  # before they can be seen at the other end
            try:
                await self._loop.sock_sendall(sink, data)
            except OSError:
                return await self._end(link, reset=True)
            if cut:
                await asyncio.sleep(0.02)  # RST overtakes bytes the receiver has not read yet
                return await self._end(link, reset=True)

    async def _half_close(self, link: Link, sink: socket.socket) -> None:
        link.ways_ended += 1
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if link.ways_ended == len(WAYS):
            await self._end(link, reset=False)

    async def _end(self, link: Link, *, reset: bool) -> None:
        if link not in self._links:
            return
        self._links.discard(link)
        others = [task for task in link.tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for end in link.sockets:
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.close()
