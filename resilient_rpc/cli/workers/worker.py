"""A worker: one server in a process of its own, told to drain by a socket or a signal, whichever comes first."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from resilient_rpc.cli.announce import announce
from resilient_rpc.cli.fail import USAGE, one_line
from resilient_rpc.cli.logs import LogLevel, log_to_stderr
from resilient_rpc.cli.target import load_server
from resilient_rpc.cli.workers.channel import Report, encode
from resilient_rpc.cli.workers.pulse import Pulse
from resilient_rpc.errors import ConfigurationError, UsageError
from resilient_rpc.events import ConnectionStateChanged
from resilient_rpc.server import Server
from resilient_rpc.serving.lastresort import LINGER, LastResort

ALIVE = encode(Report(alive=True))
log = logging.getLogger("resilient_rpc.cli.workers.worker")  # the module is called __main__ here


class Link:
    """The worker's end of the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._drain: Callable[[], object] = lambda: os._exit(0)  # nothing has begun before there is a server
        self._closed = threading.Event()

    def listen(self) -> None:
        """Begin to hear, in a thread, that it is to drain, or that nobody is there any more."""
        threading.Thread(target=self._hear, name="rpc-worker-link", daemon=True).start()

    def drains(self, server: Server) -> None:
        """From now on it is this server that drains."""
        with self._lock:
            self._drain = server.drain

    def say(self, report: Report) -> None:
        """Report; whoever is gone need not hear it."""
        with self._lock, contextlib.suppress(OSError):
            self._channel.sendall(encode(report))

    def beat(self) -> None:
        """Say that the loop turns, from there: it does not wait for anybody, and there will be another time."""
        if self._lock.acquire(blocking=False):
            try:
                self._channel.send(ALIVE, socket.MSG_DONTWAIT)
            except OSError:
                pass
            finally:
                self._lock.release()

    def say_again(self, server: Server, often: float) -> None:
        """Report how busy it is, in a thread, every so many seconds."""

        def again() -> None:
            while not self._closed.wait(often):
                self.say(report_of(server.health()))

        threading.Thread(target=again, name="rpc-worker-reports", daemon=True).start()

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            self._channel.recv(1)
        self._closed.set()
        with self._lock:
            drain = self._drain
        drain()


def report_of(health: Any) -> Report:
    """What `Server.health` says, as far as the number of workers depends on it."""
    busy = health.get("running", 0) + health.get("waiting", 0)
    known = [each for each in (health.get("backlog"), health.get("event_backlog")) if each is not None]
    return Report(backlog=sum(known) if known else None, busy=busy, slots=health.get("slots", 0))


def work(link: Link, target: str, often: float) -> int:
    """Serve until it is told to drain; the exit code."""
    try:
        server = load_server(target)
        link.drains(server)
        server.on(ConnectionStateChanged, Pulse(link.beat).begin)  # the first thing that its loop says, come what may
        announce(server, lambda: link.say(Report(ready=server.service, grace=server.grace)))
        if often:
            link.say_again(server, often)
        server.run()
    except (ConfigurationError, UsageError) as error:
        log.error("%s", one_line(str(error)))  # noqa: TRY400 - the traceback is in the debug log
        return USAGE
    LastResort().arm(LINGER)
    return 0


def main() -> int:
    """``python -m resilient_rpc.cli.workers.worker DESCRIPTOR MODULE:SERVER LEVEL SECONDS``."""
    descriptor, target, level, often = sys.argv[1:]
    log_to_stderr(LogLevel(level), of_process=True)
    faulthandler.enable()  # at SIGABRT, by which a worker that hangs is ended, it says where that was
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # until there is a server
    link = Link(socket.socket(fileno=int(descriptor)))
    link.listen()
    return work(link, target, float(often))


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
