"""Calls that have arrived and not begun: in order, each until its time is up, and some until their method has room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from resilient_rpc.contract import Method
from resilient_rpc.serving.job import Job
from resilient_rpc.serving.line import Ranks

TICK = 0.1
"""Seconds between two looks for calls whose time is up: so much longer, at most, one of them stays here."""


class Gate:
    """The calls of a method of which only so many may run at once."""

    __slots__ = ("limit", "running", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit, self.running = limit, 0
        self.waiting = Ranks()
        """Those that had a slot, and would have been too many."""


class Backlog(Ranks):
    """See the module. What waits for its method alone stands aside, and is in nobody's way.

    Whoever took a call lets it `enter` its method if that has a limit, and has it `leave` at its end. For each one that
    ends, the next of its method comes back to the front.
    """

    __slots__ = ("_expire", "_gates", "_loop", "_timer", "aside")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Job], None]) -> None:
        super().__init__()
        self._loop, self._expire = loop, expire
        self._gates: dict[Method, Gate] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.aside = 0
        """Calls that wait for their method alone."""

    # -- methods with a limit

    def gate(self, method: Method) -> Gate:
        """The state of a method that has a limit."""
        found = self._gates.get(method)
        return found if found is not None else self._gates.setdefault(method, Gate(method.concurrency or 1))

    def enter(self, method: Method) -> bool:
        """Whether one more call of the method may run; then it counts."""
        gate = self.gate(method)
        if gate.running >= gate.limit:
            return False
        gate.running += 1
        return True

    def leave(self, method: Method) -> None:
        """A call that had entered has ended."""
        self.gate(method).running -= 1
        self.skip(method)

    def skip(self, method: Method) -> None:
        """A call of it does not take its turn: another one may."""
        if method.concurrency is None:
            return
        gate = self.gate(method)
        if gate.running < gate.limit:
            job = gate.waiting.take()
            if job is not None:
                self.aside -= 1
                self.put_back(job)

    def set_aside(self, job: Job) -> None:
        """It could not enter; it comes back when another call of its method ends."""
        self.gate(job.method).waiting.extend((job,))
        self.aside += 1
        self.watch()

    # -- those that wait too long

    def watch(self) -> None:
        """What is here has to wait: look now and then whose time is up."""
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        for job in self.drop_late(now):
            self._expire(job)
            self.skip(job.method)
        for gate in self._gates.values():
            late = gate.waiting.drop_late(now)
            self.aside -= len(late)
            for job in late:
                self._expire(job)
        if len(self) or self.aside:
            self.watch()

    def everything(self) -> list[Job]:
        """What is here, in no order."""
        return [*self, *(job for gate in self._gates.values() for job in gate.waiting)]

    def withdraw(self, job: Job) -> bool:
        """Take it out, wherever it stands; False: it is not here."""
        if self.remove(job):
            self.skip(job.method)
            return True
        gate = self._gates.get(job.method)
        if gate is None or not gate.waiting.remove(job):
            return False
        self.aside -= 1
        return True

    def give_up(self) -> list[Job]:
        """Everything that is here; nothing of it will begin."""
        jobs = self.clear()
        for gate in self._gates.values():
            jobs += gate.waiting.clear()
        self.aside = 0
        jobs.sort(key=lambda job: job.number)
        return jobs

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
