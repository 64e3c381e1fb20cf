"""Faults of the broker and of links to it, as they are carried out, and a record of what was struck when."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.soak.schedule import Fault, Kind
from tests.servers.handle import Broker, Server, ServerError
from tests.servers.proxy import Proxy, Way

Act = Callable[[Fault], object]


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A fault as it happened, by `time.monotonic`. `pid`: of the server that was struck."""

    kind: str
    begin: float
    end: float
    pid: int = 0


class Strikes:
    """Those that both mixes have. A subclass adds its own to `acts`."""

    def __init__(self, broker: Broker, client_way: Proxy, server_way: Proxy) -> None:
        self.record: list[Strike] = []
        self.broker = broker
        self.acts: dict[Kind, Act] = {
            "broker-kill": functools.partial(down, broker),
            "broker-freeze": functools.partial(frozen, broker),
            "broker-close": self._close,
            "client-cut": lambda _: client_way.reset(),
            "client-freeze": functools.partial(stuck, client_way, ()),
            "client-up": functools.partial(stuck, client_way, ("up",)),
            "client-down": functools.partial(stuck, client_way, ("down",)),
            "server-cut": lambda _: server_way.reset(),
            "server-up": functools.partial(stuck, server_way, ("up",)),
            "server-down": functools.partial(stuck, server_way, ("down",)),
        }

    def strike(self, fault: Fault) -> None:
        """Carry it out, and note it."""
        begin = time.monotonic()
        try:
            self.acts[fault.kind](fault)
        finally:
            self.note(fault.kind, begin)

    def note(self, kind: Kind, begin: float, pid: int = 0) -> None:
        """It is over."""
        self.record.append(Strike(kind=kind, begin=begin, end=time.monotonic(), pid=pid))

    def _close(self, _: Fault) -> None:
        with contextlib.suppress(ServerError):  # there may be none to close
            self.broker.ctl("close_all_connections", "soak")


def down(server: Server, fault: Fault) -> None:
    """A power cut."""
    server.kill()
    pause(fault.seconds)
    server.start()


def frozen(server: Server, fault: Fault) -> None:
    """It accepts, and does not answer."""
    server.freeze()
    try:
        pause(fault.seconds)
    finally:
        server.thaw()


def stuck(link: Proxy, ways: tuple[Way, ...], fault: Fault) -> None:
    """What was under way is lost with the connections."""
    link.freeze(*ways)
    try:
        pause(fault.seconds)
        link.reset()
    finally:
        link.thaw()


def cut(link: Proxy, after: int, way: Way, fault: Fault) -> None:
    """Amid a frame. If fewer bytes come it is done all the same: else it would be done in the peace that follows."""
    link.cut(after, way)
    pause(fault.seconds)
    if link.spare(way):
        link.reset()


def pause(seconds: float) -> None:
    """Wait, which is what a fault is made of."""
    if seconds > 0:
        threading.Event().wait(seconds)
