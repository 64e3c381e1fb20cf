"""Threads for handlers that block: daemons of our own, so that a stuck one cannot keep the process alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Threads:
    """Runs functions, each in one of at most `most` threads. A thread is made when all others are busy."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._alive = 0

    def run(self, work: Callable[[], None]) -> None:
        """Have it run; it must not raise. RuntimeError if the system has no thread for it."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._alive < self._most:
                threading.Thread(target=self._serve, name=f"{self._name}-{self._alive + 1}", daemon=True).start()
                self._alive += 1
        self._work.put(work)

    def close(self) -> None:
        """Let the threads end when they are done with what they have."""
        with self._lock:
            alive = self._alive
            self._most = 0
        for _ in range(alive):
            self._work.put(None)

    @property
    def alive(self) -> int:
        """Threads that exist."""
        return self._alive

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._idle += 1
        with self._lock:
            self._alive -= 1
