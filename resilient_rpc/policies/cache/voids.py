"""Invalidations: a number for each, so that what is older can be told from what is younger."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from resilient_rpc import forking
from resilient_rpc.policies.cache.keys import EVERYTHING

MAX_NAMES = 10_000


class Voids:
    """Which names were invalidated, and when, in the order of invalidations.

    A value remembers the number of the last invalidation before its call was sent (`last`). So an invalidation reaches
    what is still on its way, too, costs the same whatever the size of the cache, and a look at a value costs nothing
    more as long as there is no newer one. The oldest names are forgotten; all that is older than they are is void.
    """

    def __init__(self, limit: int = MAX_NAMES) -> None:
        self.last = 0
        self._limit = limit
        self._floor = 0
        self._marks: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        forking.register(self)

    def after_fork(self) -> None:
        """Keep the marks, with a lock that nobody holds."""
        self._lock = threading.Lock()

    def mark(self, name: str) -> None:
        """Invalidate what has this name, as of now."""
        with self._lock:
            self.last += 1
            if name == EVERYTHING:
                self._marks.clear()
                self._floor = self.last
                return
            self._marks[name] = self.last
            self._marks.move_to_end(name)
            if len(self._marks) > self._limit:
                _, self._floor = self._marks.popitem(last=False)

    def cover(self, names: Iterable[str], born: int) -> bool:
        """Whether any of the names was invalidated after `born`."""
        with self._lock:
            return born < self._floor or any(self._marks.get(name, 0) > born for name in names)
