"""Alarm: wakes the bus when the head of a queue expires. It borrows the loop of any session that is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from resilient_rpc.transport.memory.turn import Turn


class Alarm:
    """At most one time that matters; a timer that has become useless rings in vain."""

    def __init__(
        self, turn: Turn, loops: Callable[[], Iterable[asyncio.AbstractEventLoop]], ring: Callable[[], None]
    ) -> None:
        self._turn, self._loops, self._ring = turn, loops, ring
        self._due: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def want(self, due: float, now: float) -> None:
        """Ring at `due`, unless it rings before that. During a turn."""
        alive = self._loop is not None and not self._loop.is_closed()
        if alive and self._due is not None and now < self._due <= due:
            return
        self._due = due
        self._turn.then(partial(self._arm, list(self._loops()), due - now))

    def forget(self) -> None:
        """Ring no more for what was wanted. During a turn."""
        self._due = None

    def _arm(self, loops: list[asyncio.AbstractEventLoop], delay: float) -> None:
        for loop in loops:
            try:
                loop.call_soon_threadsafe(self._start, loop, delay)
            except RuntimeError:  # closed
                continue
            self._loop = loop
            return
        self._loop = None

    def _start(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        loop.call_later(max(delay, 0.0), self._rung)

    def _rung(self) -> None:
        with self._turn:
            self._due = None
            self._ring()
