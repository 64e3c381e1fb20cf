"""Whether the plan fits into its time: first by what each turn is known to take, then by what they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from benchmarks.plan import Plan, Turn

ROUNDING = 1e-3
FEWEST, SHORTEST = 0.5, 0.1
"""The share of a run's seconds below which rather rounds are left out; the seconds below which rather turns are."""


class Pace:
    """The plan as the time allows it: `plan` has the seconds of a run, never more than were asked for."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan = self._asked = plan
        self._clock, self._begin = clock, clock()
        self._took, self._guessed = 0.0, 0.0
        """Seconds beside the runs themselves: of starts and of probes."""
        self._done: list[Turn] = []
        """What has run, and will again."""

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.plan.budget - (self._clock() - self._begin)

    def describe(self, todo: Sequence[Turn]) -> str:
        """The plan in a line."""
        again = [turn for turn in todo if not turn.once]
        each, once = self._seconds(again), self._seconds(turn for turn in todo if turn.once)
        count = self._asked.rounds
        return (
            f"plan: {len(again)} turns a round, about {each:,.0f} s"
            + (f", and {len(todo) - len(again)} more once, about {once:,.0f} s" if once else "")
            + f"; {count} round{'' if count == 1 else 's'} would take {each * count + once:,.0f} s"
            f" of the {self.plan.budget:,.0f} s there are"
        )

    def first(self, rest: Sequence[Turn]) -> Plan | None:
        """The plan for a turn of the first round, at the head of those that are left; None: there is no time for it."""
        slow = max(self._took / self._guessed, 0.5) if self._guessed else 1.0
        again, more = [turn for turn in rest if not turn.once], self._asked.rounds - 1
        round_, runs = slow * _beside(rest), self._asked.seconds * _timed(rest)
        all_ = round_ + more * (slow * _beside(again) + _beside(self._done))
        all_runs = runs + more * self._asked.seconds * (_timed(again) + _timed(self._done))
        share = max(_share(self.left - all_, all_runs), FEWEST)
        share = min(share, max(_share(self.left - round_, runs), min(SHORTEST / self._asked.seconds, 1.0)))
        self.plan = replace(self.plan, seconds=self._asked.seconds * share)
        needed = slow * _beside(rest[:1]) + (self.plan.seconds if rest[0].seconds else 0.0)
        return self.plan if needed <= self.left else None

    def fits(self, due: Sequence[Turn]) -> bool:
        """Whether there is time for another round of these."""
        return self._seconds(due) <= self.left + ROUNDING

    def took(self, turn: Turn, seconds: float) -> None:
        """A turn has ended."""
        run = self.plan.seconds if turn.seconds else 0.0
        self._took += seconds - run
        self._guessed += turn.guess - turn.seconds
        turn.guess, turn.seconds = seconds, run
        if not turn.once and turn not in self._done:
            self._done.append(turn)

    def notes(self, rounds: int) -> list[str]:
        """Where the time did not suffice for what was asked."""
        found = []
        if self.plan.seconds < self._asked.seconds:
            found.append(f"runs of {self.plan.seconds:.2g} s instead of {self._asked.seconds:g} s, for want of time")
        if rounds < self._asked.rounds:
            found.append(f"{rounds} of {self._asked.rounds} rounds, for want of time")
        return found

    def _seconds(self, turns: Iterable[Turn]) -> float:
        return sum(turn.guess for turn in turns)


def _beside(turns: Iterable[Turn]) -> float:
    return sum(turn.guess - turn.seconds for turn in turns)


def _timed(turns: Iterable[Turn]) -> int:
    return sum(turn.seconds > 0 for turn in turns)


def _share(left: float, runs: float) -> float:
    return min(max(left / runs, 0.0), 1.0) if runs else 1.0
