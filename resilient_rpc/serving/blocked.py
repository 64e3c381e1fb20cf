"""A handler that held the server's loop: nothing else was done there meanwhile, not even heartbeats."""

from __future__ import annotations

import logging
from collections.abc import Callable

from resilient_rpc.events import LoopBlocked
from resilient_rpc.hub import Events
from resilient_rpc.serving.job import Job
from resilient_rpc.watchdog import trail

log = logging.getLogger(__name__)


def reporter(hub: Events, service: str) -> Callable[[Job, float], None]:
    """What logs and announces it: told the call, and the seconds for which it held the loop."""

    def blocked(job: Job, seconds: float) -> None:
        where = trail(job.coroutine)
        what = f"{service}.{job.method.name}" + (f": {where}" if where else "")
        log.warning("the loop was held for %.0f ms by %s; a plain function would run in a thread", seconds * 1e3, what)
        if hub.wants(LoopBlocked):
            hub.emit(LoopBlocked(seconds=seconds, what=what))

    return blocked
