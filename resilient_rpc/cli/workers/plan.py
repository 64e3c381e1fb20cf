"""Which worker starts, drains or is killed, and when. Nothing here waits or knows a clock: it is told the time.

A place is what one worker after the other stands in: it remembers how often in a row they did not last.
"""

from __future__ import annotations

import logging
import math
import signal
from dataclasses import dataclass
from typing import Literal

from resilient_rpc.cli.fail import FAILED, USAGE
from resilient_rpc.serving.lastresort import STUCK

log = logging.getLogger(__name__)
Verb = Literal["start", "drain", "kill"]
Action = tuple[Verb, int]
"""What to do with the worker of which place."""
GRACE = 30.0
"""Seconds of grace of a worker that has not said how many it has."""
MARGIN = 15.0
"""Seconds that a worker may take beyond its grace. It ends by itself before, unless its interpreter hangs."""
SOUND = (0, -signal.SIGTERM, -signal.SIGINT)
"""How a worker ends that was told to: by a signal, before it could listen to one."""


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """When another worker takes the place of one that has ended by itself. Seconds."""

    most: int = 8
    """How many in a row may not last, in one place, before all is ended."""
    first: float = 0.5
    """The pause before the first restart; it doubles with each one that did not last."""
    longest: float = 30.0
    lasting: float = 60.0
    """A worker that has served for so long has lasted."""

    def pause(self, failures: int) -> float:
        """Seconds until the next one."""
        return float(min(self.first * 2 ** (failures - 1), self.longest))


@dataclass
class Place:
    """One worker at a time."""

    number: int
    state: Literal["empty", "starting", "serving", "draining", "broken"] = "empty"
    due: float = 0.0
    """When an empty one is filled; when a draining one is killed."""
    served_since: float = 0.0
    grace: float = GRACE
    failures: int = 0
    again: bool = False
    """Whether another worker follows the one that drains."""


class Plan:
    """For `wanted` workers. Tell it what happens, then do what `step` says."""

    def __init__(self, wanted: int, rules: Restarts | None = None, *, patient: bool = False) -> None:
        """`patient`: what cannot be built, or does not last, is left until it is changed (`renew`)."""
        self._rules, self._patient = rules or Restarts(), patient
        self.places: dict[int, Place] = {}
        self.wanted = 0
        self._over = False
        self._code = 0
        self._to_drain: list[int] = []
        self._stale: list[int] = []
        """Those that are to be relieved, one after the other."""
        self._relief: int | None = None
        """Who is about to take the place of the first of them."""
        self.want(wanted, 0.0)

    # -- what is wanted

    def want(self, count: int, now: float) -> None:
        """So many workers, from now on."""
        if self._over:
            return
        self.wanted = count
        staying = [
            number
            for number, place in self.places.items()
            if (place.state != "draining" or place.again) and number != self._relief
        ]
        for number in sorted(staying, key=self._worth)[count:]:
            self._retire(number, now)
        for _ in range(count - len(staying)):
            self._add(now)

    def renew(self, now: float) -> None:
        """Another worker in each place: what they run has changed."""
        for place in self.places.values():
            place.failures = 0
            if place.state in {"starting", "serving"}:
                self._let_drain(place, now, again=True)
            elif place.state != "draining":
                place.state, place.due = "empty", now

    def relieve(self, now: float) -> None:
        """Another worker instead of each, one after the other: each goes when the next one serves.

        If one of the new ones cannot, the old ones that are left stay.
        """
        if not self._over:
            self._stale = sorted(self.places, key=lambda number: number == self._relief)  # that one began before this
            self._send_relief(now)

    def drain(self, now: float, code: int = 0) -> None:
        """No workers any more. Once all have ended, the code is this one, unless one of them ended with trouble."""
        if self._over:
            return
        self._over, self._code, self._relief = True, code, None
        for number in list(self.places):
            self._retire(number, now)

    # -- what happened

    def serving(self, number: int, grace: float, now: float) -> None:
        """It takes calls."""
        place = self.places[number]
        place.grace = grace
        if place.state == "starting":
            place.state, place.served_since = "serving", now
            if number == self._relief:
                self._relief = None
                if self._stale:
                    self._retire(self._stale.pop(0), now)
                self.want(self.wanted, now)
                self._send_relief(now)

    def ended(self, number: int, code: int, now: float) -> None:
        """It is gone. Below 0: the signal that ended it."""
        place = self.places[number]
        if number in self._to_drain:
            self._to_drain.remove(number)
        if place.state == "draining":
            self._drained(number, place, code, now)
            return
        if number == self._relief:
            self._remove(number)
            self._relief = None
            self._stale.clear()
            log.critical("a new worker ended before it served, %s: those that are left stay as they are", said(code))
            return
        lasted = place.state == "serving" and now - place.served_since >= self._rules.lasting
        served, place.state = place.state == "serving", "empty"
        place.failures = 1 if lasted else place.failures + 1
        place.due = now + self._rules.pause(place.failures)
        if not served and code == USAGE:
            self._give_up(place, now, USAGE, f"worker {number} cannot be built")
        elif place.failures > self._rules.most:
            self._give_up(place, now, FAILED, f"worker {number} ended {place.failures} times in a row, {said(code)}")
        else:
            pause = place.due - now
            log.error("worker %d ended by itself, %s: another one starts in %g s", number, said(code), pause)

    # -- what to do

    def step(self, now: float) -> list[Action]:
        """What to do now; it counts as done."""
        found: list[Action] = [("drain", number) for number in self._to_drain]
        self._to_drain.clear()
        for number, place in self.places.items():
            if place.state == "empty" and place.due <= now:
                place.state, place.grace = "starting", GRACE
                found.append(("start", number))
            elif place.state == "draining" and place.due <= now:
                place.due = math.inf
                self._code = self._code or STUCK
                log.critical("worker %d does not end: it is killed", number)
                found.append(("kill", number))
        return found

    def due(self) -> float | None:
        """When `step` has something to do, if nothing happens; None: never."""
        if self._to_drain:
            return 0.0
        times = [place.due for place in self.places.values() if place.state in {"empty", "draining"}]
        return min((time for time in times if time < math.inf), default=None)

    @property
    def code(self) -> int | None:
        """The exit code, once all is over."""
        return self._code if self._over and not self.places else None

    def count(self, state: str) -> int:
        """How many workers are in it."""
        return sum(place.state == state for place in self.places.values())

    # -- inside

    def _add(self, now: float) -> int:
        """One more place."""
        free = next(number for number in range(1, len(self.places) + 2) if number not in self.places)
        self.places[free] = Place(free, due=now)
        return free

    def _remove(self, number: int) -> None:
        del self.places[number]
        if number in self._stale:
            self._stale.remove(number)

    def _send_relief(self, now: float) -> None:
        if self._relief is None and self._stale:
            self._relief = self._add(now)

    def _worth(self, number: int) -> tuple[bool, int]:
        """Who serves stays before who does not, and who came first before who came later."""
        return self.places[number].state != "serving", number

    def _retire(self, number: int, now: float) -> None:
        place = self.places.get(number)
        if place is None:
            return
        if place.state in {"empty", "broken"}:
            self._remove(number)
        elif place.state == "draining":
            place.again = False
        else:
            self._let_drain(place, now, again=False)

    def _let_drain(self, place: Place, now: float, *, again: bool) -> None:
        place.state, place.again, place.due = "draining", again, now + place.grace + MARGIN
        self._to_drain.append(place.number)

    def _drained(self, number: int, place: Place, code: int, now: float) -> None:
        if code not in SOUND:
            log.warning("worker %d was told to end, and did so %s", number, said(code))
        if self._over and code not in SOUND:
            self._code = self._code or (STUCK if code in {STUCK, -signal.SIGKILL} else FAILED)
        if place.again and not self._over:
            place.state, place.again, place.due = "empty", False, now
        else:
            self._remove(number)

    def _give_up(self, place: Place, now: float, code: int, why: str) -> None:
        if self._patient:
            log.error("%s: waiting for a change", why)
            place.state = "broken"
        else:
            log.critical("%s: ending the others, too, with code %d", why, code)
            self.drain(now, code)


def said(code: int) -> str:
    """An exit code, for people."""
    if code >= 0:
        return f"with code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
