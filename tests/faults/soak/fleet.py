"""The server processes of a run: started, killed, frozen, drained and replaced."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.guard import GUARD

DRAINED_WITHIN = 15.0
"""Seconds; a server's grace is 5."""
STARTED_WITHIN = 5.0
"""Seconds until a new process has its handlers of signals."""


class Fleet:
    """So many processes of a module with its arguments. What they log goes to a file in `folder`."""

    def __init__(self, command: Sequence[str], folder: Path, *, size: int) -> None:
        self._command = [sys.executable, "-m", *command]
        self._folder = folder
        self.size = size
        self._lock = threading.Lock()
        self._born: dict[int, float] = {}
        self._running = [self._launch() for _ in range(size)]
        self.crashed: list[int] = []
        """Servers that have killed themselves, as they were told to."""
        self.unclean: list[str] = []
        """Servers that ended by themselves, or did not end as they were asked to."""

    def pick(self, draw: float) -> subprocess.Popen[bytes]:
        """One of them, for a `draw` from 0 to 1."""
        return self._running[min(int(draw * len(self._running)), len(self._running) - 1)]

    def kill(self, victim: subprocess.Popen[bytes]) -> None:
        """SIGKILL; it is gone when this returns."""
        victim.kill()
        victim.wait()

    def replace(self, old: subprocess.Popen[bytes]) -> None:
        """A new one in the place of one that has ended."""
        GUARD.forget(old.pid)
        self._running[self._running.index(old)] = self._launch()

    def revive(self) -> None:
        """Replace those that have killed themselves; anything else that ended is on record in `unclean`."""
        with self._lock:
            for old in self._running.copy():
                if old.poll() is not None:
                    if old.returncode == -signal.SIGKILL:
                        self.crashed.append(old.pid)
                    else:
                        self.unclean.append(f"server {old.pid} ended with {old.returncode}")
                    self.replace(old)

    @contextlib.contextmanager
    def revived(self) -> Iterator[None]:
        """Meanwhile there is somebody who does that: calls that crash their server are repeated in peace, too."""
        over = threading.Event()
        errors: list[BaseException] = []

        def watch() -> None:
            try:
                while not over.wait(0.05):
                    self.revive()
            except BaseException as error:  # a thread's end is nobody's otherwise
                errors.append(error)

        watching = threading.Thread(target=watch, name="soak-revive")
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()
        if errors:
            raise errors[0]

    def drain(self, victim: subprocess.Popen[bytes]) -> None:
        """SIGTERM, and wait for its end: it has to be an orderly one, and soon."""
        victim.send_signal(signal.SIGTERM)
        self._await_end(victim)

    def drain_all(self) -> None:
        """The end of the run: all at once."""
        with self._lock:
            for process in self._running:  # a second SIGTERM would end it at once
                process.send_signal(signal.SIGTERM)
            for process in self._running:
                self._await_end(process)

    def _await_end(self, victim: subprocess.Popen[bytes]) -> None:
        try:
            code = victim.wait(DRAINED_WITHIN)
        except subprocess.TimeoutExpired:
            self.unclean.append(f"server {victim.pid} had not ended {DRAINED_WITHIN} s after SIGTERM")
            self.kill(victim)
        else:
            early = code == -signal.SIGTERM and time.monotonic() < self._born[victim.pid] + STARTED_WITHIN
            if code == -signal.SIGKILL:  # a crash point came first
                self.crashed.append(victim.pid)
            elif code and not early:
                self.unclean.append(f"server {victim.pid} ended with {code} after SIGTERM")

    @property
    def pids(self) -> list[int]:
        """Of those that run."""
        return [process.pid for process in self._running if process.poll() is None]

    def last_words(self) -> str:
        """The end of what each of them has logged."""
        logs = sorted(self._folder.glob("server-*.log"))
        return "\n".join(log.read_text(errors="replace")[-500:] for log in logs)

    @property
    def lock(self) -> threading.Lock:
        """Held by whoever ends and replaces one, so that nobody else takes it for a crash."""
        return self._lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            GUARD.forget(process.pid)

    def _launch(self) -> subprocess.Popen[bytes]:
        with (self._folder / f"server-{time.monotonic_ns()}.log").open("ab") as log:
            process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        GUARD.watch(process.pid)
        self._born[process.pid] = time.monotonic()
        return process
