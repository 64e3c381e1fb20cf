"""A worker as seen by the one that looks after it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from resilient_rpc.cli.logs import LogLevel
from resilient_rpc.cli.workers.channel import DRAIN, LONGEST, Report, decode

MODULE = "resilient_rpc.cli.workers.worker"
ABORTED_WITHIN = 5.0
"""Seconds after which SIGKILL follows SIGABRT."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What every worker is started with."""

    target: str
    log_level: LogLevel = LogLevel.INFO
    often: float = 0.0
    """Seconds between two reports of how busy it is; 0: none."""


class Worker:
    """A new interpreter, never a fork: it has its own connections, loop and locks."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self._process, self._channel = process, channel
        self.load: Report | None = None
        """What it reported last."""
        self._heard: float | None = None
        """When it last said that its loop turns (`time.monotonic`); None: it has not begun to."""

    @classmethod
    async def start(cls, orders: Orders) -> Worker:
        """Raises OSError if the system has no room for it."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fd = theirs.fileno()
                words = ("-P", "-m", MODULE, str(fd), orders.target, str(orders.log_level), str(orders.often))
                process = await asyncio.create_subprocess_exec(sys.executable, *words, pass_fds=(fd,))
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def tend(self, ready: Callable[[Report], object]) -> int:
        """Hear its reports until it has ended; the exit code. `ready` is told when it takes calls."""
        hearing = asyncio.ensure_future(self._hear(ready))
        try:
            return await self._process.wait()
        finally:
            hearing.cancel()
            self._channel.close()

    def silent(self) -> float:
        """Seconds since its last sign of life; 0 before the first: what it imports may take its time."""
        return 0.0 if self._heard is None else time.monotonic() - self._heard

    def abort(self) -> None:
        """Have it say where each of its threads stands, and end; it has some seconds for that."""
        self._heard = None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGABRT)
        asyncio.get_running_loop().call_later(ABORTED_WITHIN, self.kill)

    def drain(self) -> None:
        """Tell it to. It may be gone."""
        with contextlib.suppress(OSError):
            self._channel.send(DRAIN)

    def kill(self) -> None:
        """At once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _hear(self, ready: Callable[[Report], object]) -> None:
        copy = self._channel.dup()
        copy.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=copy, limit=LONGEST)
        try:
            while line := await reader.readline():
                with contextlib.suppress(msgspec.MsgspecError):  # it may have been cut off
                    report = decode(line)
                    if report.ready:
                        ready(report)
                    elif report.alive:
                        self._heard = time.monotonic()
                    else:
                        self.load = report
        except (OSError, ValueError):
            pass
        finally:
            writer.close()
