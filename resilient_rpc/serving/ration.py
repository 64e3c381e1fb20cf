"""What may be done so many times at once, and so many times a second after that."""

from __future__ import annotations

import time
from collections.abc import Callable


class Ration:
    """`burst` of it at first, and `rate` a second more, up to the burst. For one loop."""

    __slots__ = ("_as_of", "_burst", "_clock", "_left", "_rate")

    def __init__(self, burst: int, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._left, self._as_of = float(burst), clock()

    def take(self) -> bool:
        """Whether there is one left; then it is taken."""
        now = self._clock()
        self._left = min(self._left + (now - self._as_of) * self._rate, self._burst)
        self._as_of = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait(self) -> float:
        """Seconds until there is one, as of the last `take`."""
        return (1 - self._left) / self._rate
