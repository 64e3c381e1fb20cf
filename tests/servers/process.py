"""One server process with everything it starts: a session of its own, ended as a group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from tests.servers.guard import GUARD
from tests.servers.handle import ServerError
from tests.servers.ports import is_free, wait_until


class Process:
    """A running command that listens on `port`; its output goes to a log file that is quoted when it fails."""

    def __init__(self, command: Sequence[str], *, port: int, env: Mapping[str, str], log: Path) -> None:
        self._port = port
        self._log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.group = self._popen.pid
        GUARD.watch(self.group)

    @property
    def alive(self) -> bool:
        """Whether the command runs."""
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, number)

    def stop(self, *, seconds: float = 30.0) -> None:
        """Ask it to end, and kill it when it does not."""
        if self.alive:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until every process of the group is gone, and its port with it."""
        self.signal(signal.SIGKILL)
        self._popen.wait(10)
        wait_until(lambda: not self._members(), seconds=10, what=f"end of process group {self.group}")
        # The first thread of a process is a zombie while others still hold its sockets open.
        wait_until(lambda: is_free(self._port), seconds=10, what=f"port {self._port} free")
        GUARD.forget(self.group)

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait for the predicate; an early end of the process is reported with the end of its log."""
        wait_until(lambda: not self.alive or ready(), seconds=seconds, what=f"{what} ready")
        if not self.alive:
            raise ServerError(f"{what} ended with {self._popen.returncode}:\n{self.tail()}")

    def tail(self, characters: int = 3000) -> str:
        """The end of the log."""
        return self._log.read_text(errors="replace")[-characters:]

    def _members(self) -> list[int]:
        # The children of a killed shell are zombies until init reads them, and some containers have no init that does.
        members = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getpgid(process.pid) == self.group and process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process.pid)
        return members
