"""Ends what stays too long on a loop: one timer for all, so that a call that ends in time costs next to nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

GRAIN = 0.02
"""Seconds between two looks, at least: what is due is ended at most this much later."""


class Visitor(Protocol):
    """Something that may stay until `limit`, an instant on the clock of its watch."""

    limit: float

    def overstay(self, now: float) -> None:
        """The limit has passed: end it, or move `limit`."""


class Watch:
    """Calls `overstay` of each visitor that is still there after its limit. Used on its loop alone.

    A visitor that came and went is an entry in a dict and no more; the timer is left as it is, and finds nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop, self._now = loop, now
        self._there: dict[Visitor, None] = {}
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, visitor: Visitor) -> None:
        """Watch it."""
        self._there[visitor] = None
        if visitor.limit < self._due:
            self._arm(visitor.limit, self._now())

    def leave(self, visitor: Visitor) -> None:
        """It has gone."""
        del self._there[visitor]

    def _arm(self, due: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = max(due, now)
        self._timer = self._loop.call_later(self._due - now, self._look)

    def _look(self) -> None:
        now = self._now()
        self._timer, self._due = None, math.inf
        for visitor in list(self._there):
            if visitor.limit <= now:
                visitor.overstay(now)
        first = min((visitor.limit for visitor in self._there), default=math.inf)
        if first < math.inf:
            self._arm(max(first, now + GRAIN), now)
