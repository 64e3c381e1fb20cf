"""Cancels that are to be sent: joined by where they go, and so few in a second that nobody minds."""

from __future__ import annotations

from typing import NamedTuple

from resilient_rpc.wire.control import MAX_IDS

INTERVAL = 0.1
"""Seconds between two cancels of one client."""
MOST = 10_000
"""Calls that may wait to be cancelled. It is a courtesy: beyond that nobody is told."""


class Pace:
    """What the links of a client share: when the next of them may send."""

    __slots__ = ("free_at", "interval")

    def __init__(self, interval: float = INTERVAL) -> None:
        self.interval = interval
        self.free_at = 0.0


class Way(NamedTuple):
    """Where a cancel goes, and what it has to carry besides the ids."""

    queue: str
    """The request queue of the service."""
    control: str
    """The control queue of one server; empty: to all of them."""
    token: str
    address: str


class Cancels:
    """Of one link. It knows no clock and sends nothing."""

    __slots__ = ("_pace", "_waiting", "count")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._waiting: dict[Way, list[int]] = {}
        self.count = 0

    def add(self, way: Way, id_: int) -> None:
        """Nobody waits for this call any more."""
        if self.count < MOST:
            self.count += 1
            self._waiting.setdefault(way, []).append(id_)

    def next(self, now: float) -> float | None:
        """When the next message may leave; None: there is none."""
        return max(self._pace.free_at, now) if self._waiting else None

    def take(self, now: float, *, hurry: bool = False) -> tuple[Way, list[int]] | None:
        """The next message that may leave now; in a `hurry` it need not wait for its turn."""
        if not self._waiting or (now < self._pace.free_at and not hurry):
            return None
        way, ids = next(iter(self._waiting.items()))
        del self._waiting[way]
        if len(ids) > MAX_IDS:
            self._waiting[way] = ids[MAX_IDS:]
            ids = ids[:MAX_IDS]
        self.count -= len(ids)
        self._pace.free_at = now + self._pace.interval
        return way, ids

    def clear(self) -> None:
        """The session has ended: nobody would know these calls."""
        self._waiting.clear()
        self.count = 0
