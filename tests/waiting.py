"""Waiting for what another thread, or the loop's next turns, bring about: where there is no event to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 10.0
"""Real seconds after which a test gives up."""


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Block until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.0005)


async def turns(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Let the loop run until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it is not known who brings it about
            await asyncio.sleep(0.0005)
