"""A server on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from contextlib import AbstractAsyncContextManager
from typing import Any

log = logging.getLogger(__name__)


class Background:
    """Enters a server in its thread, and leaves it when it is told to stop."""

    def __init__(self, server: AbstractAsyncContextManager[Any], name: str) -> None:
        self._server = server
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Returns when it serves."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Drain, and wait for the end."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            serving = loop.create_task(self._serve())
            while not serving.done():
                try:
                    loop.run_until_complete(serving)
                except BaseException:  # an exit in somebody's callback must not end a server that nobody watches
                    log.exception("work on the loop of %s tried to end it", self._thread.name)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._server:
                self._ready.set()
                await self._stop.wait()
        except Exception as error:
            self._error = error
        finally:
            self._ready.set()
