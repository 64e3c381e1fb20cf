"""Which call begins next, and how many run at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from resilient_rpc.errors import Expired, Overloaded, RpcError
from resilient_rpc.serving.backlog import Backlog
from resilient_rpc.serving.job import Job
from resilient_rpc.serving.pace import Usual

SEARCHED = 100
"""Calls that nobody waits for that are passed over, to find one that can be refused."""


class Scheduler:
    """Slots, and the backlog of calls that want one.

    A call has its slot from `take` to `leave`. In between it may give it away and wait without one (`step_out`,
    `step_in`). Nothing here runs anything: `pump` is called when there may be something to take.
    """

    __slots__ = (
        "_added", "_dropped", "_loop", "_places", "_pump", "_ready", "_refuse", "_returning",
        "backlog", "most", "outside", "running", "slots", "usual",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slots: int,
        places: int,
        *,
        pump: Callable[[], None],
        refuse: Callable[[Job, RpcError], None],
    ) -> None:
        """`places`: calls that may wait for something else than a slot. `refuse` ends a call that is not begun."""
        self._loop, self.slots, self._places, self._pump, self._refuse = loop, slots, places, pump, refuse
        self.backlog = Backlog(loop, self._expire)
        self._ready = self.backlog.ready
        self._returning: dict[asyncio.Future[None], Job] = {}
        """Calls that have given their slot away and want one again."""
        self.running = 0
        """Calls in a slot."""
        self.outside = 0
        """Calls that have begun and wait without a slot."""
        self.usual = Usual()
        """What calls of each method take."""
        self.most: int | None = None
        """Calls that may wait for a slot; None: no limit."""
        self._added = self._dropped = 0

    def add(self, jobs: Sequence[Job]) -> None:
        """Queue the calls of a message, and start what there are slots for."""
        self._added += len(jobs)
        self.backlog.extend(jobs)
        if self.most is not None:
            self._shed(self.most)
        self._pump()

    def take(self) -> Job | None:
        """The next call, with a slot; None: there is no call, or no slot."""
        if self._returning:
            self._readmit()
        ready, backlog = self._ready, self.backlog
        while self.running < self.slots:
            job = ready.popleft() if ready and not backlog.mixed else backlog.take()
            if job is None:
                return None
            now, method = time.monotonic(), job.method
            if job.deadline <= now:
                self._expire(job)
                backlog.skip(method)
                continue
            if method.concurrency is not None and not self._enter(job):
                continue
            self.running += 1
            job.started = now
            job.letter.started += 1
            if method.timeout is not None:
                job.deadline = min(job.deadline, now + method.timeout)
            return job
        return None

    def leave(self, job: Job) -> None:
        """It has ended: give the slot back, if it has one."""
        course = job.course
        if course is not None and course.outside:
            self.outside -= 1
            return
        self.running -= 1
        if job.method.concurrency is not None:
            self.backlog.leave(job.method)

    def startable(self) -> int:
        """How many calls could begin now, as far as slots go."""
        if self._returning:
            self._readmit()
        backlog, free = self.backlog, self.slots - self.running
        waiting = len(backlog) if backlog.mixed else len(self._ready)
        if waiting <= free:
            return waiting
        backlog.watch()
        return free

    def withdraw(self, job: Job) -> None:
        """It need not begin any more. Nothing, if it is not here."""
        self._dropped += self.backlog.withdraw(job)

    def give_up(self) -> list[Job]:
        """All that has not begun."""
        jobs = self.backlog.give_up()
        self._dropped += len(jobs)
        return jobs

    # -- numbers

    @property
    def room(self) -> int:
        """Slots that are free for more."""
        free = self.slots - self.running
        if free <= 0:
            return 0
        backlog = self.backlog
        free -= len(self._returning) + (len(backlog) if backlog.mixed else len(self._ready))
        return free if free > 0 else 0  # noqa: FURB136 - max() takes twice as long, for every reply

    @property
    def free(self) -> int:
        """Slots that nobody is in, though they may be wanted."""
        return self.slots - self.running

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return len(self.backlog) + self.backlog.aside

    @property
    def ended(self) -> int:
        """How many have been run to their end so far."""
        return self._added - self._dropped - self.running - self.outside - self.waiting

    @property
    def places(self) -> int:
        """How many calls may wait outside, besides those that wait for their method."""
        return max(self._places - self.backlog.aside, 0)

    # -- waiting without a slot

    def step_out(self, job: Job) -> None:
        """Give its slot to another call, and wait without one."""
        self.leave(job)
        self.outside += 1
        self._pump()

    async def step_in(self, job: Job) -> None:
        """Wait for a slot again: before those that have not begun, and as long as the call has time."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._returning[turn] = job
        self._readmit()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it was given a slot in the same moment
                self.running -= 1
                if job.method.concurrency is not None:
                    self.backlog.leave(job.method)
                self._pump()
            raise
        finally:
            self._returning.pop(turn, None)
        self.outside -= 1

    def _readmit(self) -> None:
        if self.running >= self.slots:
            return
        for turn, job in list(self._returning.items()):
            if self.running >= self.slots:
                return
            if not turn.done() and (job.method.concurrency is None or self.backlog.enter(job.method)):
                del self._returning[turn]
                self.running += 1
                turn.set_result(None)

    # -- inside

    def _enter(self, job: Job) -> bool:
        """Whether its method has room for it; else it waits aside, if there is a place, or is refused."""
        backlog, method = self.backlog, job.method
        if backlog.enter(method):
            return True
        if backlog.aside < self._places - self.outside or job.unasked:
            backlog.set_aside(job)
        else:
            self._dropped += 1
            waiting = len(backlog.gate(method).waiting)
            error = Overloaded(
                f"{method.name}: {method.concurrency} calls of it run here, {waiting} wait, and there is no more place",
                retry_after=(waiting + 1) * self.usual.of(method) / (method.concurrency or 1),
            )
            self._refuse(job, error)
        return False

    def _shed(self, most: int) -> None:
        """Refuse what is over the limit, the lowest priority first."""
        passed: list[Job] = []
        while self.waiting + len(passed) - self.free > most and len(passed) < SEARCHED:
            job = self.backlog.drop_last()
            if job is None:
                break
            if job.unasked or job.context.redelivered:  # see `Admission`
                passed.append(job)
                continue
            self._dropped += 1
            error = Overloaded(
                f"{job.method.name}: {most} calls that came before it or have a higher priority wait here already",
                retry_after=self.usual.of(job.method) * self.waiting / self.slots,
            )
            self._refuse(job, error)
        for job in reversed(passed):
            self.backlog.extend((job,))

    def _expire(self, job: Job) -> None:
        self._dropped += 1
        self._refuse(job, Expired(f"{job.method.name}: its time was up before it began"))
