"""A coroutine's way in two parts: to where it waits for the first time, and what is left from there."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextvars import Context as Variables
from typing import Any

from resilient_rpc.context import enter_context
from resilient_rpc.serving.around import Around
from resilient_rpc.serving.job import Job

BLOCKED = 0.1
"""Seconds for which one step of a call may hold the loop before that is reported."""


class Waiting:
    """The rest of a handler that waits for something, in its own context variables; counts its time on the loop."""

    __slots__ = ("_awaited", "_blocked", "_job", "_variables")

    def __init__(self, awaited: Any, variables: Variables, blocked: Callable[[Job, float], None], job: Job) -> None:
        """`blocked` is told of steps that take more than `BLOCKED`, and of how many seconds."""
        self._awaited, self._variables, self._blocked, self._job = awaited, variables, blocked, job

    def __await__(self) -> Generator[Any, Any, Any]:
        job, run, awaited, blocked = self._job, self._variables.run, self._awaited, self._blocked
        coroutine: Any = job.coroutine
        while True:
            try:
                argument = yield awaited
                step = coroutine.send
            except BaseException as error:  # cancelled, or what was awaited failed: the handler's affair
                step, argument = coroutine.throw, error
            begin = time.perf_counter()
            try:
                awaited = run(step, argument)
            except StopIteration as stop:
                return stop.value
            finally:
                seconds = time.perf_counter() - begin
                job.busy += seconds
                if seconds > BLOCKED:
                    blocked(job, seconds)


def first_step(job: Job) -> Any:
    """Call a coroutine function and run it to where it waits for the first time: what it waits for."""
    enter_context(job.context)
    coroutine = job.coroutine = job.method.function(*job.args, **job.kwargs)
    return coroutine.send(None)


def first_step_in(around: Around) -> Callable[[Job], Any]:
    """As `first_step`, inside the policies of the server."""

    def policed(job: Job) -> Any:
        enter_context(job.context)
        coroutine: Any = around.run(job)
        job.coroutine = coroutine
        return coroutine.send(None)

    return policed
