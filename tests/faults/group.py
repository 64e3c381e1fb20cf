"""Servers of one service in this process: what the rows of the fault matrix (`README.md`) share."""

from __future__ import annotations

import threading
import time
from typing import Any, Self

from resilient_rpc import Server
from resilient_rpc.events import Event
from resilient_rpc.policies import AttemptTimeout, Retry, RetryBudget

PATIENT: list[Any] = [Retry(attempts=40, cap=0.2, budget=RetryBudget.unlimited()), AttemptTimeout(limit=1.0)]
"""Policies of a client that repeats what may be repeated until the end of the trouble."""
MACHINE = 1.0
"""Seconds that a busy machine may add to a bound."""


class Group:
    """Servers that are stopped in the end. Handlers called `hold` say that they have begun, and wait for `go`."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.servers: list[Server] = []
        self.events: list[Event] = []
        self.book = threading.Lock()

    def start(self, server: Server) -> Server:
        """One more."""
        server.on(Event, self.events.append)
        self.servers.append(server)
        server.start()
        return server

    def held(self) -> None:
        """What a `hold` does."""
        self.begun.release()
        self.go.wait(60.0)

    def name(self, method: str) -> str:
        """As clients call it."""
        return f"{self.service}.{method}"

    def has_begun(self, count: int = 1) -> None:
        """Wait for so many executions of `hold`."""
        for _ in range(count):
            assert self.begun.acquire(timeout=10.0), "a call did not begin"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        for server in self.servers:
            server.stop()


class Watch:
    """How long something takes."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._begin
