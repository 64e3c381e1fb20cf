"""A session on which the broker refuses everything is given up for another.

A channel of RabbitMQ 3.10 that first publishes to a quorum queue while that has no leader gets a nack for everything,
also when there is one again. A new channel does not. A full queue that rejects looks alike, and is left alone longer
and longer.
"""

from __future__ import annotations

from collections.abc import Callable

PATIENCE, MOST = 1.0, 60.0
"""Seconds from the first refusal on, at first and at last."""


class Refusals:
    """`now`: seconds, monotonic. `renew` gives the session up."""

    def __init__(self, now: Callable[[], float], renew: Callable[[], object]) -> None:
        self._now, self._renew = now, renew
        self._patience = PATIENCE
        self._since: float | None = None
        self._count = 0

    def begin(self) -> None:
        """A session is there."""
        self._since, self._count = None, 0

    def refused(self, count: int, decided: int) -> None:
        """So many messages were refused, of `decided` that were published on the session and are not open."""
        self._count += count
        if self._count < decided:  # others were taken
            self._patience = PATIENCE
            return
        now = self._now()
        if self._since is None:
            self._since = now
        elif now - self._since >= self._patience:
            self._patience = min(2 * self._patience, MOST)
            self._renew()
