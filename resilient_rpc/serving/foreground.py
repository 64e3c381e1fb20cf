"""A server as the business of its process: signals drain it, and the process ends after that, whatever hangs in it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import signal
from collections.abc import Awaitable, Callable

from resilient_rpc.serving.core import Serving
from resilient_rpc.serving.draining import LAST_WORDS
from resilient_rpc.serving.lastresort import LastResort, leave_stuck

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SECOND_SIGNAL = 130
MARGIN = 3.0
"""Seconds beyond the time of grace and the last words, for closing what is left."""


class Foreground:
    """Runs in the main thread. Once at a time, and as often as wanted."""

    def __init__(self, begin: Callable[[], Serving], end: Callable[[], Awaitable[bool]], grace: float) -> None:
        self._begin, self._end, self._grace = begin, end, grace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._asked = False
        self._signals = 0
        self._resort = LastResort()
        self._stuck: list[str] = []

    def run(self) -> None:
        """Serve until a signal, or `drain`. A second signal ends the process at once.

        Raises SystemExit (`STUCK`) if threads are stuck after the time of grace.
        """
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._resort, self._signals = LastResort(), 0
        # What is there by now stays: a full collection would go through all of it again, and hold every call for 40 ms.
        gc.collect()
        gc.freeze()
        try:
            asyncio.run(self._serve())  # may hang at its end: it waits for tasks, and for threads of `to_thread`
        finally:
            self._resort.call_off()
            self._asked = False
            gc.unfreeze()
            for number, handler in before.items():
                if handler is not None:  # None: it was not set by Python, which cannot set it again
                    signal.signal(number, handler)
        if self._stuck:
            leave_stuck(self._stuck, self._grace)

    def drain(self) -> None:
        """Have it end as at a signal; from any thread, as often as one likes."""
        self._asked = True
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(stop.set)

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(SECOND_SIGNAL)
        self.drain()

    async def _serve(self) -> None:
        stop = self._stop = asyncio.Event()
        loop = self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        if self._asked:  # before it could run
            stop.set()
        serving = self._begin()
        try:
            await _until(stop, serving)
        finally:
            self._resort.arm(self._grace + 2 * LAST_WORDS + MARGIN)
            await self._end()
            self._stuck = serving.stuck()
            self._stop = self._loop = None


async def _until(stop: asyncio.Event, serving: Serving) -> None:
    """Until `stop`; raises what will never let it serve. A broker that is down is waited for."""
    stopped = asyncio.ensure_future(stop.wait())
    ready = asyncio.ensure_future(serving.ready(math.inf))
    try:
        await asyncio.wait((stopped, ready), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
        await stopped
    finally:
        ready.cancel()
        stopped.cancel()
