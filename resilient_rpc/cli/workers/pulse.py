"""The sign of life of a worker: that the event loop of its server turns, whatever its threads do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

OFTEN = 1.0
"""Seconds between two signs."""


class Pulse:
    """Calls `beat` from the loop on which it was begun, as long as that turns."""

    def __init__(self, beat: Callable[[], object], often: float = OFTEN) -> None:
        self._beat, self._often = beat, often
        self._begun = False

    def begin(self, _: object = None) -> None:
        """On the loop; once, however often it is called."""
        if not self._begun:
            self._begun = True
            self._again(asyncio.get_running_loop())

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beat()
        loop.call_later(self._often, self._again, loop)
