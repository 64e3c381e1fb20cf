"""Child processes that speak JSON by the line, and the processor time and memory that they take."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 90.0
"""Seconds without a line, after which a party is taken for stuck."""
ROOT = Path(__file__).resolve().parent.parent


def shards(service: str, count: int) -> list[str]:
    """The services of so many queues."""
    return [service] if count == 1 else [f"{service}{number}" for number in range(count)]


class Party:
    """One of `benchmarks.party`, or by another interpreter: `how`."""

    def __init__(self, arguments: Sequence[str], how: str | None = None) -> None:
        self._arguments = list(arguments)
        self._seconds = float(arguments[arguments.index("--seconds") + 1]) if "--seconds" in arguments else 0.0
        command = [how or sys.executable, "-W", "ignore", "-m", "benchmarks.party", *arguments]
        self._said = tempfile.TemporaryFile("w+") if how else None  # noqa: SIM115 - closed with the process
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=self._said, text=True)
        self._inside = psutil.Process(self._process.pid)

    def go(self) -> None:
        """Let one that was started with ``--hold`` begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def hear(self, event: str) -> dict[str, Any]:
        """Its next line, which must be of that event."""
        found = self.next()
        if found["event"] != event:
            raise RuntimeError(f"{self._arguments[0]} said {found}, not {event!r}")
        return found

    def next(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        watch = threading.Timer(PATIENCE + self._seconds, self._process.kill)  # nothing hangs for ever
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise RuntimeError(f"{self._arguments[0]} ended with {self._process.wait()}{self._last_words()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _last_words(self) -> str:
        """What a peer said last of what went wrong; ours says it on our own stderr."""
        if self._said is None:
            return ""
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return f": {lines[-1]}" if lines else ""

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
        if self._said is not None:
            self._said.close()


@contextlib.contextmanager
def party(*arguments: str, how: str | None = None) -> Iterator[Party]:
    """A child process, ended on the way out."""
    started = Party(arguments, how)
    try:
        yield started
    finally:
        started.end()


@contextlib.contextmanager
def servers(count: int, *arguments: str, how: str | None = None) -> Iterator[list[Party]]:
    """Servers that are ready."""
    with starting(count, *arguments, how=how) as started:
        for server in started:
            server.hear("ready")
        yield started


@contextlib.contextmanager
def starting(count: int, *arguments: str, how: str | None = None) -> Iterator[list[Party]]:
    """Servers that will say when they are ready."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(party(*arguments, how=how)) for _ in range(count)]
