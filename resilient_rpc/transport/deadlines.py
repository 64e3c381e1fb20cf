"""Expires what waits, a bucket at a time, with one timer for all."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

GRAIN = 0.01
"""Width of a bucket, seconds: nothing ends earlier than its deadline, and at most this much later."""
YOUNG = 50
"""How many of the last buckets are left alone: their calls are still to be answered."""
AT_ONCE = 500
"""How many are expired before the loop may do something else: an outage ends thousands in one instant."""


class Expiring(Protocol):
    """What can stand in the table."""

    @property
    def id(self) -> int:
        """Unique in its table."""

    @property
    def deadline(self) -> float:
        """An instant on the table's clock."""

    bucket: dict[int, Any]
    """Where it stands, while it does: whoever has it leaves the table by ``item.bucket.pop(item.id, None)``."""


E = TypeVar("E", bound=Expiring)
NOWHERE: dict[int, Any] = {}
"""The bucket of what was never added."""


class Deadlines(Generic[E]):
    """Calls `expire(item)` once `item.deadline` has passed, unless it was discarded before.

    Buckets and not a heap of items: most calls end long before their deadline, and a heap would keep them until then
    (2.4 million at 80,000 calls/s and 30 s). Here an ended call leaves in O(1). 0.24 us a call, against 0.97 for
    `loop.call_later`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float], expire: Callable[[E], None]) -> None:
        self._loop, self._now, self._expire = loop, now, expire
        self._buckets: dict[int, dict[int, E]] = {}
        self._order: list[int] = []  # a heap of the buckets' keys
        self._young: deque[dict[int, E]] = deque()  # those that may still be large, the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._expiring = False

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, item: E) -> None:
        """Watch it. An infinite deadline never comes."""
        if item.deadline == math.inf:
            return
        key = int(item.deadline / GRAIN) + 1
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket[item.id] = item
            item.bucket = bucket
            return
        item.bucket = bucket = self._buckets[key] = {item.id: item}
        heapq.heappush(self._order, key)
        self._trim(bucket)
        if self._order[0] == key and not self._expiring:
            self._arm()

    def _trim(self, bucket: dict[int, E]) -> None:
        """Give back the memory of buckets whose calls have ended: a dict that is only popped keeps its size.

        Without it a client with 1,000 calls in flight keeps 100 MB of nothing for the 30 s of its timeout.
        """
        self._young.append(bucket)
        if len(self._young) > YOUNG:
            for _ in range(2):  # two for each that comes, so that those looked at again do not pile up
                old = self._young.popleft()
                if old:
                    self._young.append(old)
                else:
                    old.clear()

    def discard(self, item: E) -> None:
        """Watch it no longer."""
        item.bucket.pop(item.id, None)

    def close(self) -> None:
        """Forget everything; nothing expires any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for bucket in self._buckets.values():
            bucket.clear()
        self._buckets.clear()
        self._order.clear()
        self._young.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._order and not self._buckets[self._order[0]]:
            del self._buckets[heapq.heappop(self._order)]  # all of it ended in time: no need to wake up for it
        if self._order:
            self._timer = self._loop.call_later(max(self._order[0] * GRAIN - self._now(), 0.0), self._due)

    def _due(self) -> None:
        now, left = self._now(), AT_ONCE
        self._timer, self._expiring = None, True
        while self._order and self._order[0] * GRAIN <= now:
            key = self._order[0]
            bucket = self._buckets[key]
            while bucket and left:
                left -= 1
                self._end(bucket.popitem()[1])
            if bucket:
                break
            if self._order and self._order[0] == key:  # no, when there is an earlier one since, or nothing any more
                del self._buckets[heapq.heappop(self._order)]
        self._expiring = False
        self._arm()

    def _end(self, item: E) -> None:
        try:
            self._expire(item)
        except Exception as error:  # the others must end all the same
            self._loop.call_exception_handler({"message": f"{item!r} could not be ended", "exception": error})
