"""A server of the tests that is a process of ours, in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import tempfile
from abc import abstractmethod
from pathlib import Path

from tests.servers.guard import GUARD
from tests.servers.handle import Server, ServerError
from tests.servers.process import Process


class LocalServer(Server):
    """It keeps its ports and its data over `stop`, `kill` and `start`, as a machine would. `name`: what it is."""

    def __init__(self, origin: Path, name: str) -> None:
        self.origin, self._name = str(origin), name
        self._home = Path(tempfile.mkdtemp(prefix=f"rpc-test-{name.lower()}-"))
        GUARD.remove(str(self._home))
        self._process: Process | None = None

    @abstractmethod
    def _choose_ports(self) -> None:
        """Take free ones, and know the URL."""

    @abstractmethod
    def _boot(self) -> None:
        """Start the process and wait until it answers; `ServerError` if it does not."""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> None:
        if self.alive:
            return
        moves = 2 if self._process is None else 0  # only a first start may take other ports: later the URL is known
        while True:
            try:
                self._boot()
            except ServerError:
                self.kill()
                if not moves:
                    raise
                moves -= 1
                self._choose_ports()
            else:
                return

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def freeze(self) -> None:
        self._running().signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().signal(signal.SIGCONT)

    def dispose(self) -> None:
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def _running(self) -> Process:
        if self._process is None or not self._process.alive:
            raise ServerError(f"this {self._name} does not run")
        return self._process
