"""A semaphore whose waiters stand in line by priority: decisions only, nobody waits in here."""

from __future__ import annotations

import threading
from collections import OrderedDict

from resilient_rpc.pending import Pending

Turn = Pending[bool]
"""A place in the line. Settled with True: it got a permit. False: it has left the line, or was pushed out of it."""


class Permits:
    """At most `limit` permits are out; who waits is served by priority, the highest first, and in order within one.

    While anybody waits, a newcomer gets none: nobody is overtaken by a caller of the same class. For each
    `take` or `claim` that was granted there must be one `give_back`.
    """

    __slots__ = ("_lines", "_lock", "limit", "out", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Permits there are; to be read, and changed by `resize`."""
        self.out = 0
        """Permits in use; to be read."""
        self.waiting = 0
        """How many stand in line; to be read."""
        self._lines: dict[int, OrderedDict[Turn, None]] = {}
        # Re-entrant: the garbage collector may close an abandoned call, which gives its permit back, at any point.
        self._lock = threading.RLock()

    def busy(self) -> bool:
        """Whether anybody holds a permit or waits for one."""
        return self.out > 0 or self.waiting > 0

    def take(self) -> bool:
        """A permit, if one is free and nobody waits for it. About 0.2 µs."""
        with self._lock:
            if self.out < self.limit and not self.waiting:
                self.out += 1
                return True
            return False

    def line_up(self, priority: int, places: int) -> Turn | None:
        """A place in the line, which may be granted already; None: all `places` are taken.

        In a full line, a caller pushes out the last one of the lowest class, if its own class is higher.
        """
        turn = Turn()
        with self._lock:
            pushed = None
            if self.waiting >= places:
                pushed = self._last_below(priority)
                if pushed is None:
                    return None
            self._lines.setdefault(priority, OrderedDict())[turn] = None
            self.waiting += 1
        if pushed is not None:
            pushed.set(False)
        self._serve()  # a permit may have come back since `take` failed
        return turn

    def claim(self, turn: Turn) -> bool:
        """Stop waiting. True: a permit was granted, and is now the caller's."""
        if turn.set(False):
            self._remove(turn)
            return False
        return turn.result()

    def give_back(self) -> None:
        """Return a permit: to the next in line, if the limit has not been lowered meanwhile."""
        with self._lock:
            self.out -= 1
            if not self.waiting:
                return
        self._serve()

    def resize(self, limit: int) -> None:
        """Set the limit. Raised, it serves those who wait; lowered, what is out stays out until it comes back."""
        with self._lock:
            self.limit = limit
        self._serve()

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self.out >= self.limit or not self.waiting:
                    return
                turn = self._pop(max(self._lines), last=False)
                self.out += 1
            # Not under the lock, for it wakes the waiter. Lost against one who gives up: the next one is served.
            if not turn.set(True):
                with self._lock:
                    self.out -= 1

    def _last_below(self, priority: int) -> Turn | None:
        lowest = min(self._lines, default=priority)
        return self._pop(lowest, last=True) if lowest < priority else None

    def _pop(self, priority: int, *, last: bool) -> Turn:
        line = self._lines[priority]
        turn, _ = line.popitem(last=last)
        self.waiting -= 1
        if not line:
            del self._lines[priority]
        return turn

    def _remove(self, turn: Turn) -> None:
        with self._lock:
            for priority, line in self._lines.items():
                if turn in line:
                    del line[turn]
                    self.waiting -= 1
                    if not line:
                        del self._lines[priority]
                    return
