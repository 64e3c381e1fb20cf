"""Looks after workers: does what the plan says, and tells it what happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from resilient_rpc.cli.fail import FAILED
from resilient_rpc.cli.workers.channel import Report
from resilient_rpc.cli.workers.count import Count
from resilient_rpc.cli.workers.plan import Plan, Restarts
from resilient_rpc.cli.workers.process import Orders, Worker
from resilient_rpc.cli.workers.scaling import Load, Mood, Scaling
from resilient_rpc.cli.workers.watch import changes
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.serving.foreground import SECOND_SIGNAL, SIGNALS

log = logging.getLogger(__name__)
LOOK = 1.0
"""Seconds between two looks at the backlog."""
LEAST_TIMEOUT = 2.0
"""Seconds."""
NAMED = 5
"""Changed files that are named in the log."""


class Supervisor:
    """Runs in the main thread of a process that does nothing else."""

    def __init__(
        self,
        orders: Orders,
        count: Count,
        *,
        rules: Restarts | None = None,
        scaling: Scaling | None = None,
        timeout: float | None = None,
        watched: Sequence[Path] = (),
        ready: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`watched`: folders whose changes start all workers anew. `ready` is told the service when all take calls.

        `timeout`: seconds after which a worker is replaced whose event loop does not turn; None: it is left alone.
        """
        if timeout is not None and not timeout >= LEAST_TIMEOUT:
            raise ConfigurationError(
                f"--worker-timeout {timeout:g}: give at least {LEAST_TIMEOUT:g} seconds, for there is a sign of life "
                "every second, or 0 for none"
            )
        self._timeout = timeout
        self._orders, self._count, self._watched, self._ready = orders, count, watched, ready
        self._scaling, self._mood = scaling or Scaling(count=count), Mood()
        self._plan = Plan(count.least, rules, patient=bool(watched))
        self._workers: dict[int, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._announced = False
        self._signals = 0

    @property
    def workers(self) -> int:
        """Processes that there are."""
        return len(self._workers)

    def run(self) -> int:
        """Until all have ended; the exit code."""
        return asyncio.run(self._run())

    async def _run(self) -> int:
        self._changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        if not os.isatty(0):  # else it is the terminal that was closed
            loop.add_signal_handler(signal.SIGHUP, self._relieve)
        if self._count.varies:
            self._begin(self._follow_the_backlog())
        if self._timeout is not None:
            self._begin(self._replace_the_hung(self._timeout))
        if self._watched:
            self._begin(self._follow_the_files())
        try:
            return await self._look_after_them()
        finally:
            for worker in self._workers.values():
                worker.kill()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_after_them(self) -> int:
        plan = self._plan
        while plan.code is None:
            for verb, number in plan.step(time.monotonic()):
                if verb == "start":
                    self._begin(self._tend(number))
                elif number in self._workers:
                    getattr(self._workers[number], verb)()
            due = plan.due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(due - time.monotonic(), 0.0) if due is not None else None):
                    await self._changed.wait()
            self._changed.clear()
        return plan.code

    async def _tend(self, number: int) -> None:
        code = os.EX_OSERR
        try:
            worker = await Worker.start(self._orders)
        except OSError as error:
            log.error("worker %d cannot be started: %s", number, error)  # noqa: TRY400
        else:
            log.info("worker %d is process %d", number, worker.pid)
            self._workers[number] = worker
            if self._plan.places[number].state == "draining":  # told so meanwhile
                worker.drain()
            code = await worker.tend(lambda report: self._serves(number, report))
            del self._workers[number]
        self._plan.ended(number, code, time.monotonic())
        self._changed.set()

    def _serves(self, number: int, report: Report) -> None:
        plan = self._plan
        plan.serving(number, report.grace, time.monotonic())
        self._changed.set()
        if not self._announced and plan.count("serving") >= plan.wanted:
            self._announced = True
            self._ready(report.ready)

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals > 1:
            for worker in self._workers.values():
                worker.kill()
            os._exit(SECOND_SIGNAL)
        log.info("draining %d workers", len(self._workers))
        self._plan.drain(time.monotonic())
        self._changed.set()

    def _relieve(self) -> None:
        log.info("starting new workers, one after the other")
        self._plan.relieve(time.monotonic())
        self._changed.set()

    async def _follow_the_backlog(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            plan, load = self._plan, self._load()
            count, self._mood = self._scaling.decide(load, plan.wanted, self._mood, time.monotonic())
            if count != plan.wanted:
                log.info("%s messages wait, and %d of %d slots are in use", load.backlog, load.busy, load.slots)
                log.info("from %d workers to %d", plan.wanted, count)
                plan.want(count, time.monotonic())
                self._changed.set()

    def _load(self) -> Load:
        """What those report that serve."""
        places = self._plan.places
        reports = [
            worker.load
            for number, worker in self._workers.items()
            if worker.load is not None and places[number].state == "serving"
        ]
        return Load(
            backlog=max((each.backlog for each in reports if each.backlog is not None), default=None),
            busy=sum(each.busy for each in reports),
            slots=sum(each.slots for each in reports),
            workers=len(reports),
        )

    async def _replace_the_hung(self, timeout: float) -> None:
        """A worker that drains has a time of its own, after which it is killed."""
        suspects: list[Worker] = []
        while True:
            await asyncio.sleep(LOOK)
            silent = {number: worker for number, worker in self._workers.items() if worker.silent() >= timeout}
            for number, worker in silent.items():
                # At the second look: if it was this process that stood still, it has read by now what was said.
                if worker in suspects and self._plan.places[number].state != "draining":
                    what = f"worker {number} (process {worker.pid}): its event loop has not turned for {timeout:g} s"
                    log.critical("%s: where it hangs is on stderr, and another one takes its place", what)
                    worker.abort()
            suspects = list(silent.values())

    async def _follow_the_files(self) -> None:
        async for names in changes(self._watched):
            log.info("changed: %s", ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else ""))
            self._plan.renew(time.monotonic())
            self._changed.set()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """One of ours ended; not by an error, if all is well."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("cannot look after the workers any more: %s", error, exc_info=error)
            self._plan.drain(time.monotonic(), FAILED)
            self._changed.set()
