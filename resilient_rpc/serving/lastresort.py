"""Ends a process that cannot end by itself, because something in it hangs."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger(__name__)
STUCK = 75
"""The exit code then: EX_TEMPFAIL of sysexits.h, for something was left undone that another process can do."""

LINGER = 5.0
"""Seconds that a process may take to end when its server has: threads that are no daemons keep it."""


class LastResort:
    """A daemon thread that waits, and then ends the process with `STUCK`, unless it is called off."""

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        self._leave = leave
        self._called_off = threading.Event()

    def arm(self, seconds: float) -> None:
        """Begin to wait."""
        threading.Thread(target=self._wait, args=(seconds,), name="rpc-last-resort", daemon=True).start()

    def call_off(self) -> None:
        """It has ended in time."""
        self._called_off.set()

    def _wait(self, seconds: float) -> None:
        if not self._called_off.wait(seconds):
            mine = threading.current_thread()
            others = sorted(thread.name for thread in threading.enumerate() if thread is not mine)
            log.critical("the process does not end: leaving it as it is, with its threads %s", ", ".join(others))
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            self._leave(STUCK)


def leave_stuck(what: list[str], grace: float) -> NoReturn:
    """End the process though calls of these methods go on in threads, which cannot be stopped."""
    log.critical("%s did not end in the %g s of grace: leaving it undone, with code %d", ", ".join(what), grace, STUCK)
    LastResort().arm(1.0)  # what an interpreter does at its end may wait, too
    raise SystemExit(STUCK)
