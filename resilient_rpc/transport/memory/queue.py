"""Queue: order, turns, expiry and limits of one queue. No locks, no loops, no clock: the bus brings them."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from resilient_rpc.transport.memory.message import Message
from resilient_rpc.transport.memory.settings import Settings

Bury = Callable[[Message, str], None]


class Taker(Protocol):
    """A consumer, as its queue sees it."""

    def take(self, message: Message) -> bool:
        """Receive a message that is its own from now on; False: it wants no other until it says `Queue.resume`."""


class Level:
    """The messages of one priority: those that came back lie before those that were never out."""

    __slots__ = ("fresh", "returned")

    def __init__(self) -> None:
        self.fresh: deque[Message] = deque()
        self.returned: list[tuple[int, Message]] = []

    def __bool__(self) -> bool:
        return bool(self.fresh or self.returned)

    def __iter__(self) -> Iterator[Message]:
        for _, message in sorted(self.returned, key=_order):
            yield message
        yield from self.fresh

    def head(self) -> Message:
        """The message that leaves next."""
        return self.returned[0][1] if self.returned else self.fresh[0]

    def pop(self) -> Message:
        """Take it out."""
        return heapq.heappop(self.returned)[1] if self.returned else self.fresh.popleft()


class Queue:
    """One queue. Between two calls of its methods no message is ready while a consumer wants one."""

    def __init__(self, name: str, settings: Settings, bury: Bury) -> None:
        self.name = name
        self.settings = settings
        self.depth = 0
        self.bytes = 0
        self.takers: list[Taker] = []
        self.unused_since: float | None = None
        """When the last of them left, as far as the bus has noticed."""
        self._bury = bury
        self._idle: deque[Taker] = deque()
        self._levels = [Level() for _ in range(settings.priorities + 1)]
        self._last = 0
        self._ttl = settings.ttl
        self._max_length = settings.max_length
        self._max_bytes = settings.max_bytes
        self._rejects = settings.overflow != "drop-head"
        self._limit = settings.delivery_limit

    def __iter__(self) -> Iterator[Message]:
        for level in reversed(self._levels):
            yield from level

    def publish(self, message: Message, now: float) -> bool:
        """Take responsibility for a new message; False: the queue is full and refuses it."""
        self._last = message.order = self._last + 1
        if self._ttl is not None:
            due = now + self._ttl
            message.expires = due if message.expires is None else min(due, message.expires)
        if self._idle and not self.depth:
            self._hand(message)
            return True
        self.expire(now)
        if self._rejects and self._over(1, len(message.body)):
            return False
        self._level(message).fresh.append(message)
        self._count(message, 1)
        self._settle(now)
        return True

    def requeue(self, messages: list[Message], now: float) -> None:
        """Take messages back to where they were."""
        for message in messages:
            message.redelivered = True
            message.returns += 1
            if self._limit is not None and message.returns > self._limit:
                self._bury(message, "delivery_limit")
            else:
                heapq.heappush(self._level(message).returned, (message.order, message))
                self._count(message, 1)
        self._settle(now)

    def attach(self, taker: Taker, now: float) -> None:
        """Begin to deliver to `taker`."""
        self.takers.append(taker)
        self.unused_since = None
        self.resume(taker, now)

    def resume(self, taker: Taker, now: float) -> None:
        """`taker` wants messages again; it stands behind the others who do."""
        self._idle.append(taker)
        if self.depth:
            self._settle(now)

    def detach(self, taker: Taker) -> None:
        """Deliver no more to `taker`."""
        if taker in self.takers:
            self.takers.remove(taker)
        if taker in self._idle:
            self._idle.remove(taker)

    def expire(self, now: float) -> None:
        """Bury what is due at the head. What is due behind a message that is not has to wait, as in RabbitMQ."""
        while self.depth:
            due = self._top().head().expires
            if due is None or due > now:
                return
            self._bury(self._pop(), "expired")

    def next_expiry(self) -> float | None:
        """When the head expires; None: never, or there is none."""
        return self._top().head().expires if self.depth else None

    def clear(self) -> int:
        """Drop all that is ready; returns how many."""
        count = self.depth
        for level in self._levels:
            level.fresh.clear()
            level.returned.clear()
        self.depth = self.bytes = 0
        return count

    def _settle(self, now: float) -> None:
        self.expire(now)
        while self.depth:
            if self._idle:
                self._hand(self._pop())
            elif self._over(0, 0) and not self._rejects:
                self._bury(self._pop(), "maxlen")
            else:
                return
            self.expire(now)

    def _hand(self, message: Message) -> None:
        idle = self._idle
        taker = idle.popleft()
        if taker.take(message):
            idle.append(taker)

    def _over(self, messages: int, size: int) -> bool:
        length, room = self._max_length, self._max_bytes
        return (length is not None and self.depth + messages > length) or (
            room is not None and self.bytes + size > room
        )

    def _level(self, message: Message) -> Level:
        return self._levels[min(message.priority, len(self._levels) - 1)]

    def _top(self) -> Level:
        levels = self._levels
        return levels[0] if len(levels) == 1 else next(level for level in reversed(levels) if level)

    def _pop(self) -> Message:
        message = self._top().pop()
        self._count(message, -1)
        return message

    def _count(self, message: Message, sign: int) -> None:
        self.depth += sign
        self.bytes += sign * len(message.body)


def _order(entry: tuple[int, Message]) -> int:
    return entry[0]
