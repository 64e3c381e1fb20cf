"""Calls that wait for an outcome, such as the store's, without a task of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from resilient_rpc.parking import Outcome
from resilient_rpc.serving.job import Job

TOGETHER = 32
"""Calls whose questions are sent together at most: while these are answered, the next calls begin."""


class Parked:
    """Lives on the server's loop. `resumable`: those that can go on, in the order in which they were answered."""

    __slots__ = ("_hurry", "_start", "asking", "resumable")

    def __init__(self, start: Callable[[], None]) -> None:
        """`start` has somebody go on with what is resumable."""
        self._start = start
        self._hurry: Callable[[], None] | None = None
        self.asking = 0
        """Calls parked since what they ask for was sent."""
        self.resumable: deque[Job] = deque()

    def park(self, job: Job, outcome: Outcome) -> None:
        """Have the call go on when there is an outcome."""
        job.parked = outcome
        outcome.waker, outcome.waiter = self._woken, job
        if self._hurry is not outcome.hurry:
            self.ask()
            self._hurry = outcome.hurry
        self.asking += 1
        if self.asking >= TOGETHER:
            self.ask()

    def ask(self) -> None:
        """Send what the calls that are parked now have asked for: it need not wait for the end of the turn."""
        hurry, self._hurry, self.asking = self._hurry, None, 0
        if hurry is not None:
            hurry()

    def _woken(self, job: Job) -> None:
        self.resumable.append(job)
        self._start()
