"""Liveness: which calls a server has said that it has, and until when it may be silent about them."""

from __future__ import annotations

from dataclasses import dataclass

from resilient_rpc.transport.entry import Entry

LATE = 0.5
"""Seconds: who looks so much later than it meant to was away itself, and has not read yet what came meanwhile."""


@dataclass(slots=True)
class Heard:
    """The last beat of a call."""

    entry: Entry
    at: float
    control: str
    """The control queue of the server that has it; empty if it has none."""
    server: str


class Liveness:
    """For the calls of one link. It knows no clock.

    A call without a beat is not in here: only its deadline ends it, for nobody knows whether a server has it.
    """

    __slots__ = ("_heard", "_held", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._heard: dict[int, Heard] = {}  # in the order of their last beats
        self._held = False

    def __len__(self) -> int:
        return len(self._heard)

    def beat(self, entry: Entry, control: str, server: str, now: float) -> None:
        """A server has it."""
        self._heard.pop(entry.id, None)
        self._heard[entry.id] = Heard(entry, now, control, server)

    def take(self, entry: Entry) -> Heard | None:
        """Its last beat, if there was one; it is over."""
        return self._heard.pop(entry.id, None)

    def next(self) -> float | None:
        """When to look again; None: there is nothing to look for."""
        for heard in self._heard.values():
            return None if self._held else heard.at + self._seconds
        return None

    def due(self, now: float) -> list[Heard]:
        """Those of which nothing was heard for too long; they are not in here any more."""
        expected = self.next()
        if expected is not None and now - expected > LATE:
            self._put_off(now - self._seconds / 2)
        found: list[Heard] = []
        while (at := self.next()) is not None and at <= now:
            heard = self._heard.pop(next(iter(self._heard)))
            if not heard.entry.done():
                found.append(heard)
        return found

    def hold(self) -> None:
        """No beat can come for now: the broker takes nothing."""
        self._held = True

    def resume(self, now: float) -> None:
        """It goes on."""
        self._held = False
        self._put_off(now)

    def clear(self) -> None:
        """The session has ended, and with it all calls."""
        self._heard.clear()
        self._held = False

    def _put_off(self, at: float) -> None:
        """Take all for heard of at a later time than they were."""
        for heard in self._heard.values():
            heard.at = max(heard.at, at)
