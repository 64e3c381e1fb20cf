"""Child processes that speak JSON by the line, and the processor time and memory that they take."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent


class Party:
    """One of `benchmarks.party`."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        command = [sys.executable, "-m", "benchmarks.party", *arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._inside = psutil.Process(self._process.pid)

    def hear(self, event: str) -> dict[str, Any]:
        """Its next line, which must be of that event."""
        found = self.next()
        if found["event"] != event:
            raise RuntimeError(f"{self._arguments[0]} said {found}, not {event!r}")
        return found

    def next(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._arguments)} ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def cpu(self) -> float:
        """Seconds of processor time that it has taken."""
        times = self._inside.cpu_times()
        return times.user + times.system

    def rss(self) -> int:
        """Bytes that it holds in memory."""
        return self._inside.memory_info().rss

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def party(*arguments: str) -> Iterator[Party]:
    """A child process, ended on the way out."""
    started = Party(arguments)
    try:
        yield started
    finally:
        started.end()


@contextlib.contextmanager
def servers(count: int, *arguments: str) -> Iterator[list[Party]]:
    """Servers that are ready."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(party(*arguments)) for _ in range(count)]
        for server in started:
            server.hear("ready")
        yield started
