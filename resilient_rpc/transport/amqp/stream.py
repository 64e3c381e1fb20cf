"""One connection: asyncio's protocol on one side, pika's stream transport on the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from resilient_rpc.transport.amqp.defuse import defuse
from resilient_rpc.transport.amqp.frames import (
    CONNECTION_CLOSE,
    END,
    HAS_HEADERS,
    HEADER,
    HEADER_FLAGS,
    OVERHEAD,
    read_head,
    read_u16,
)

log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024
FLUSH_AT = 16 * 1024
"""The writes of a tick are joined up to here: joining more makes the two ends take turns."""
HIGH_WATER = 1024 * 1024
"""Bytes in asyncio's write buffer above which `Stream.writable` is False."""
MAX_FRAME = 1024 * 1024
"""No frame of a broker's is larger; the agreed frame_max is 128 KiB."""
LAST_LOOK = 0.1


class Feed(Protocol):
    """What takes the frames of one channel instead of pika."""

    def feed(self, kind: int, buffer: bytearray, at: int, end: int) -> bool:
        """Take one frame; False leaves it to pika."""


class Stream(asyncio.BufferedProtocol):
    """Joins the writes of a tick, reads into one large buffer, hands pika whole frames, remembers why it ended.

    pika by itself makes one system call for each frame, reads 4 KiB at a time and copies the rest of its buffer after
    every frame. It gets exactly one frame here, which it appends to an empty buffer and takes off again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._pika: Any = None
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._kept = 0  # bytes of an unfinished frame at the front of the buffer
        self._out: list[bytes] = []
        self._size = 0
        self._flush_due = self._reading = self._aborted = False
        self._error: BaseException | None = None
        self._heard = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self.closed = False
        self.writable = True
        self.on_writable: Callable[[], None] | None = None
        self.close_frame: tuple[int, str] | None = None
        self.lanes: dict[int, Feed] = {}
        self.connection: Any = None
        self.gone = asyncio.Event()

    @property
    def reason(self) -> BaseException | None:
        """Why it ended: an OSError, what a callback raised, ...; None if this side closed it."""
        return self._error

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - a name of asyncio's
        """See asyncio."""
        return self._view[self._kept :]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        end = self._kept + nbytes
        self._heard = self._loop.time()
        self._reading = True  # what is written meanwhile leaves when this read is done
        try:
            at = self._consume(end)
        except Exception as error:  # of pika's decoder, or of a callback below it
            self.fail(error)
            return
        finally:
            self._reading = False
        if not self.closed:
            self._keep(at, end)
            if self._out:
                self._flush()

    def eof_received(self) -> bool:
        """See asyncio; connection_lost follows."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.closed = True
        self._out.clear()
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._error is None and not self._aborted:
            # uvloop reports a TLS peer that went without close_notify by None, and without eof_received.
            self._error = exc or ConnectionResetError("the broker closed the connection")
        self.gone.set()
        try:
            if self._pika is not None:
                self._pika.connection_lost(self._error)  # None: pika aborted it, and reports the reason it had
        except Exception:  # pika 1.4.4 asserts in its workflow when a handshake was aborted
            log.debug("pika failed to take note of a lost connection", exc_info=True)

    def pause_writing(self) -> None:
        """See asyncio."""
        self.writable = False

    def resume_writing(self) -> None:
        """See asyncio."""
        self.writable = True
        if self.on_writable is not None and not self.closed:
            self.on_writable()

    # -- pika's side

    def link(self, protocol: Any) -> None:
        """Begin with pika's protocol, which writes at once."""
        self._pika = protocol
        protocol.connection_made(self)

    def write(self, data: bytes) -> None:
        """Send with what else this tick writes."""
        if self.closed:
            return
        self._out.append(data)
        self._size += len(data)
        if self._size >= FLUSH_AT:  # enough for a system call: let the broker begin
            self._flush()
        elif not self._flush_due and not self._reading:
            self._flush_due = True
            self._loop.call_soon(self._tick)

    def flush(self) -> None:
        """Send what was written now, not in the next turn; within a read, when that is done."""
        if self._out and not self._reading:
            self._flush()

    def get_write_buffer_size(self) -> int:
        """Bytes that have not left yet."""
        return self._size + (0 if self.closed or self._transport is None else self._transport.get_write_buffer_size())

    def get_protocol(self) -> Any:
        """What `link` was given."""
        return self._pika

    def abort(self) -> None:
        """End it at once; connection_lost follows in a later tick."""
        if self._transport is not None and not self.closed:
            self._aborted = True
            self._transport.abort()

    # -- ours

    def watch(self, silence: float) -> None:
        """Fail when nothing arrived for so long. pika's own check needs up to twice (heartbeat + 5 s)."""

        def look(again: bool = False) -> None:
            idle = self._loop.time() - self._heard
            if idle < silence:
                self._watchdog = self._loop.call_later(silence - idle, look)
            elif again:
                self.fail(TimeoutError(f"nothing received for {idle:.1f} s"))
            else:  # if it was this loop that stood still, let it read first
                self._watchdog = self._loop.call_later(LAST_LOOK, look, True)

        self._heard = self._loop.time()
        look()

    def _consume(self, end: int) -> int:
        """Hand on the whole frames before `end`; returns where the first unfinished one begins."""
        buffer, view, lanes, at, laned = self._buffer, self._view, self.lanes, 0, 0
        try:
            while end - at >= OVERHEAD:
                kind, channel, size = read_head(buffer, at)
                stop = at + size + OVERHEAD
                if stop > end:
                    if size > MAX_FRAME:
                        return self._greeted(at, end, size)
                    break
                if buffer[stop - 1] != END:
                    raise ValueError("a frame does not end where it should")
                if channel in lanes and lanes[channel].feed(kind, buffer, at + 7, stop - 1):
                    laned += stop - at
                else:
                    self._inspect(kind, channel, at, stop)
                    self._pika.data_received(bytes(view[at:stop]))
                at = stop
                if self.closed:
                    break
        finally:
            if laned and self.connection is not None:
                self.connection.bytes_received += laned  # pika's check of heartbeats lives on this number
        return at

    def _greeted(self, at: int, end: int, size: int) -> int:
        """The broker answers a version of the protocol that it does not speak with the header of its own."""
        if self._buffer[at : at + 4] != b"AMQP":
            raise ValueError(f"a frame of {size} bytes")
        self._pika.data_received(bytes(self._view[at:end]))
        return end

    def _inspect(self, kind: int, channel: int, at: int, stop: int) -> None:
        """Look at a frame before pika does: disarm headers, and keep why the broker closes the connection."""
        buffer, payload = self._buffer, at + 7
        if kind == HEADER:
            if buffer[payload + HEADER_FLAGS] & HAS_HEADERS:
                defuse(buffer, payload, stop - 1)
        elif not channel and buffer[payload : payload + 4] == CONNECTION_CLOSE:
            text = payload + 7
            said = bytes(buffer[text : text + buffer[text - 1]]).decode("utf-8", "replace")
            self.close_frame = read_u16(buffer, payload + 4)[0], said

    def _keep(self, at: int, end: int) -> None:
        """Move the unfinished frame to the front of a buffer that can hold all of it."""
        self._kept = rest = end - at
        if not rest:
            return
        need = OVERHEAD + (read_head(self._buffer, at)[2] if rest >= OVERHEAD else 0)
        if need > len(self._buffer):
            grown = bytearray(need)
            grown[:rest] = self._buffer[at:end]
            self._buffer, self._view = grown, memoryview(grown)
        elif at:
            self._buffer[:rest] = self._buffer[at:end]

    def _tick(self) -> None:
        self._flush_due = False
        self._flush()

    def _flush(self) -> None:
        self._size = 0
        if self._out and not self.closed:
            # Not writelines(): in Python 3.12 and 3.13.0 it never calls pause_writing.
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._transport.write(data)

    def fail(self, error: BaseException) -> None:
        """End it at once, for a reason: without one pika asserts that it has one of its own."""
        self._error = self._error or error
        self.closed = True
        self._transport.abort()
