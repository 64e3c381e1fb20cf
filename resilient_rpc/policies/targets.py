"""The state that a policy keeps for each target: made when first used, bounded, found without a lock."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from resilient_rpc import forking

S = TypeVar("S")

MAX_TARGETS = 1_000
"""Names come from callers: without a bound, a typing error in a loop would be a leak."""
ASKED = 16
"""Of the oldest states, before one more key is accepted all the same."""


def never_busy(_: object) -> bool:
    """For states that may be forgotten at any time."""
    return False


class Targets(Generic[S]):
    """States by key, the least recently used forgotten first.

    Args:
        make: Makes the state of a new key; must not block, and runs under the lock.
        limit: Keys that are kept.
        busy: Whether a state must not be forgotten yet, for it holds permits. The oldest ones are asked; when all of
            these are busy, the table grows.
    """

    def __init__(
        self, make: Callable[[str], S], *, limit: int = MAX_TARGETS, busy: Callable[[S], bool] = never_busy
    ) -> None:
        self._make, self._limit, self._busy = make, limit, busy
        self._known: OrderedDict[str, S] = OrderedDict()
        self._lock = threading.Lock()
        forking.register(self)

    def after_fork(self) -> None:
        """The child begins with nothing: permits and flights were the parent's."""
        self._lock = threading.Lock()
        self._known = OrderedDict()

    def of(self, key: str) -> S:
        """The state of `key`. About 0.1 µs when it is known."""
        known = self._known
        try:
            state = known[key]
            known.move_to_end(key)
        except KeyError:  # new, or forgotten between these two lines
            return self._add(key)
        return state

    def snapshot(self) -> dict[str, S]:
        """All that is known, the least recently used first."""
        with self._lock:
            return dict(self._known)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._known.clear()

    def _add(self, key: str) -> S:
        with self._lock:
            state = self._known.get(key)
            if state is None:
                if len(self._known) >= self._limit:
                    self._forget_one()
                state = self._known[key] = self._make(key)
            return state

    def _forget_one(self) -> None:
        # popitem() is one step for other threads, which read without the lock; iterating is not.
        for _ in range(min(ASKED, len(self._known))):
            key, state = self._known.popitem(last=False)
            if not self._busy(state):
                return
            self._known[key] = state
