"""Turn: the one lock of a bus, and what is done once it is released."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Turn:
    """One change of a bus's state at a time; whom it concerns is told after it.

    Used as ``with turn:``. What was handed to `then` runs when the lock is free again, so no loop is ever woken, and no
    timer set, by a thread that holds it.
    """

    __slots__ = ("_depth", "_lock", "_then")

    def __init__(self) -> None:
        # Re-entrant, because the garbage collector may close something of a user's while this thread holds it.
        self._lock = threading.RLock()
        self._depth = 0
        self._then: list[Callable[[], None]] = []

    def then(self, action: Callable[[], None]) -> None:
        """Have `action` called after this turn. For whoever holds it."""
        self._then.append(action)

    def renew(self) -> None:
        """Forget who held it: after a fork, that thread is not there."""
        self._lock = threading.RLock()
        self._depth, self._then = 0, []

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth or not self._then:
            self._lock.release()
            return
        actions, self._then = self._then, []
        self._lock.release()
        for action in actions:
            action()
