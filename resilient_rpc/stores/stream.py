"""One connection to Redis: commands out, answers in, in that order.

redis-py's connections go through asyncio's streams, which cost 45 µs of each round trip; two of those are all that a
lone keyed call waits for. What a URL, a sentinel or a cluster means is decided elsewhere, and RESP is read by hiredis.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from hiredis import ProtocolError, Reader, pack_command
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError

Argument = bytes | str | int
Answered = Callable[["list[Any] | Exception"], None]
_KINDS: dict[str, type[ResponseError]] = {"NOSCRIPT": NoScriptError, "TRYAGAIN": TryAgainError}
_PLACES: dict[str, type[AskError]] = {"MOVED": MovedError, "ASK": AskError}
MAX_TEXT = 512
"""Characters of an error of Redis that are kept."""


class Lost(ConnectionError):
    """The connection ended."""


class Garbled(ResponseError):
    """An answer that is no RESP."""


class Unwelcome(ResponseError):
    """What a greeting was answered with."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a Redis listens, and what it is told first. `port` 0: `host` is the path of a socket."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    greeting: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    """Commands whose answers must be no errors: they hold the password."""


def pack(*words: Argument) -> bytes:
    """A command as it is sent."""
    packed: bytes = pack_command(words)  # type: ignore[arg-type]  # the stub knows tuples of one word only
    return packed


class Stream(asyncio.Protocol):
    """Made on the loop that it belongs to. One exchange at a time; who is cancelled in it leaves it closed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=_said)
        self._transport: asyncio.Transport | None = None
        self._answers: list[Any] = []
        self._missing = 0
        self._answered: Answered | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        """Set when the loop has closed the socket: it may end before that otherwise."""

    @property
    def usable(self) -> bool:
        """Connected, and nothing came on it that nobody had asked for."""
        return self._transport is not None

    async def connect(self) -> None:
        """Connect and greet. Raises OSError or `Unwelcome`."""
        at = self.endpoint
        try:
            if at.port:
                await self._loop.create_connection(lambda: self, at.host, at.port, ssl=at.tls)
            else:
                await self._loop.create_unix_connection(lambda: self, at.host)
            if at.greeting:
                answers = await self.exchange([pack(*words) for words in at.greeting], len(at.greeting))
                for answer in answers:
                    if isinstance(answer, ResponseError):
                        raise Unwelcome(str(answer))
        except BaseException:
            self.close()
            raise

    async def exchange(self, packed: Sequence[bytes], count: int) -> list[Any]:
        """Send commands and return their `count` answers, errors of Redis among them. Raises `Lost`, `Garbled`."""
        asking: asyncio.Future[list[Any]] = self._loop.create_future()

        def answered(answers: list[Any] | Exception) -> None:
            if asking.done():
                return
            if isinstance(answers, Exception):
                asking.set_exception(answers)
            else:
                asking.set_result(answers)

        self.send(packed, count, answered)
        try:
            return await asking
        except BaseException:
            self.close()  # what is still to come would be taken for another's answer
            raise

    def send(self, packed: Sequence[bytes], count: int, answered: Answered) -> None:
        """As `exchange`, without waiting: `answered` is called once, with the answers or with what is raised there."""
        if self._transport is None:
            answered(Lost("the connection was closed"))
            return
        self._missing, self._answers, self._answered = count, [], answered
        self._transport.write(b"".join(packed))

    def close(self) -> None:
        """End it; whoever waits gets `Lost`."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    async def aclose(self) -> None:
        """End it, and wait until its socket is closed."""
        if self._transport is not None:
            self.close()
            await asyncio.shield(self._gone)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        found: socket.socket | None = transport.get_extra_info("socket")
        if found is not None and self.endpoint.port:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Some of the answers."""
        if self._answered is None:
            self._end(Lost("Redis sent what nobody had asked for"))
            return
        try:
            self._reader.feed(data)
            while self._missing and (answer := self._reader.gets()) is not False:
                self._answers.append(answer)
                self._missing -= 1
                if isinstance(answer, ResponseError) and "Protocol error" in str(answer):
                    self.close()  # as Redis does after it
        except ProtocolError as error:
            self._end(Garbled(f"what came is no RESP: {error!s:.200}"))
            return
        if not self._missing:
            self._tell(self._answers)

    def connection_lost(self, error: Exception | None) -> None:
        """It ended."""
        if not self._gone.done():
            self._gone.set_result(None)
        self._end(Lost(f"the connection ended: {error or 'Redis closed it'}"))

    def _end(self, error: Lost | Garbled) -> None:
        self.close()
        self._tell(error)

    def _tell(self, answers: list[Any] | Exception) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(answers)


def _said(text: str) -> ResponseError:
    """An error of Redis, with its first word in its text; the places of a cluster that it points to are read."""
    code, _, rest = text.partition(" ")
    if code in _PLACES:
        try:
            return _PLACES[code](rest)
        except ValueError:
            return ResponseError(text)
    return _KINDS.get(code, ResponseError)(text[:MAX_TEXT])


@functools.lru_cache(maxsize=16)
def tls_context(ca_certs: str | None, certfile: str | None, keyfile: str | None) -> ssl.SSLContext:
    """With names and certificates checked."""
    context = ssl.create_default_context(cafile=ca_certs)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certfile is not None:
        context.load_cert_chain(certfile, keyfile)
    return context
