"""How quickly a busy server gets on: calls a second, and how long those of each method usually take."""

from __future__ import annotations

from resilient_rpc.contract import Method

WINDOW = 0.5
"""Seconds of which a pace is measured, at least."""
ENOUGH = 10
"""Calls that must have ended before their pace is believed."""
STALE = 10.0
"""Seconds after which a pace is forgotten: the server may have changed meanwhile."""
STEP = 1.1
"""Factor by which one call moves what calls of its method usually take."""


class Pace:
    """Calls that end in a second, while all slots are taken.

    Measured and not added up from what single calls take: so it knows of threads that wait for each other, of methods
    with limits of their own and of a database that hangs. Time with free slots is left out: else a server that refuses
    too much would seem slow, and refuse more.
    """

    __slots__ = ("_done", "_last", "_seconds")

    def __init__(self) -> None:
        self._last: tuple[float, int, bool] | None = None
        """When the server was looked at, how many calls had ended by then, and whether all slots were taken."""
        self._seconds = self._done = 0.0

    def note(self, now: float, ended: int, full: bool) -> None:
        """So many calls have ended in the life of the server; `full`: there is no slot for another one."""
        last, self._last = self._last, (now, ended, full)
        if last is None or now - last[0] > STALE:
            self._seconds = self._done = 0.0
        elif full and last[2]:
            self._seconds += now - last[0]
            self._done += ended - last[1]
            if self._seconds > 2 * WINDOW and self._done > 2 * ENOUGH:
                self._seconds /= 2
                self._done /= 2

    def wait(self, calls: int) -> float | None:
        """Seconds until so many more have ended; None: nobody knows yet."""
        return calls * self._seconds / self._done if self._done >= ENOUGH else None


class Usual:
    """What calls of a method usually take, in seconds from their beginning to their end: a running median.

    The median, for one call that hangs says nothing about the others. Only calls that outlast a turn of the loop are
    noted: the others take nothing that matters here.
    """

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[Method, float] = {}

    def of(self, method: Method) -> float:
        """Seconds; 0 for a method of which nothing is known."""
        return self._seconds.get(method, 0.0)

    def longest(self) -> float:
        """Of the slowest method."""
        return max(self._seconds.values(), default=0.0)

    def note(self, method: Method, seconds: float, *, ended: bool) -> None:
        """A call has taken so long; not `ended`: and would have taken longer, had it not been stopped."""
        known = self._seconds.get(method)
        if not ended and known is not None and seconds < known:
            return
        if known is None:
            self._seconds[method] = seconds
        elif seconds > known:
            self._seconds[method] = min(known * STEP, seconds)
        else:
            self._seconds[method] = max(known / STEP, seconds)
