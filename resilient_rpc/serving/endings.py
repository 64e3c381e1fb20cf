"""What a caller is told of a call that did not end by itself."""

from __future__ import annotations

import asyncio

from resilient_rpc.errors import InProgress, Interrupted
from resilient_rpc.serving.job import Job
from resilient_rpc.wire.faults import text_of


def contained(job: Job, raised: BaseException) -> Exception:
    """What escaped from a handler, as an error that can be answered; it cannot end the loop."""
    if isinstance(raised, Exception):
        return raised
    return Interrupted(f"{job.method.name} raised {type(raised).__name__}: {text_of(raised):.200}")


def why_cancelled(job: Job, cancelled: asyncio.CancelledError) -> Exception:
    """What it means that the task of a handler was cancelled."""
    if job.timed_out:
        return interrupted(job)
    if job.context.cancelled:
        return given_up(job)
    error = Interrupted(f"{job.method.name} was cancelled")
    error.__cause__ = cancelled
    return error


def in_progress(job: Job, retry_after: float | None) -> InProgress:
    """Nobody waits for it any more, and it runs to its end."""
    return InProgress(f"{job.method.name} did not end in this call's time, and goes on", retry_after=retry_after)


def interrupted(job: Job) -> Interrupted:
    """Its time was up while it ran."""
    return Interrupted(f"{job.method.name} was begun and did not end in its time; its outcome is unknown")


def given_up(job: Job) -> Interrupted:
    """Its caller has cancelled it. This is for events: nobody is told."""
    return Interrupted(f"{job.method.name} was given up by its caller")
