"""A Redis of our own, from a local binary, on a private port, with its data in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.servers import binaries, tls
from tests.servers.guard import GUARD
from tests.servers.handle import Server, ServerError
from tests.servers.ports import HOST, free_port, speaks_redis
from tests.servers.process import Process

BOOT_SECONDS = 15.0


def find() -> Path | None:
    """`redis-server`, or its successor's name, or None."""
    if binaries.folder() is not None:
        return binaries.program("redis-server")
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin:/opt/homebrew/bin")
        if found:
            return Path(found)
    return None


class LocalRedis(Server):
    """One Redis, which writes to disk before it answers, so that `kill` loses nothing.

    A test that wants loss says `CONFIG SET appendonly no`. `options` are added to its own.
    """

    def __init__(
        self, binary: Path, options: Mapping[str, str] | None = None, certificates: tls.Certificates | None = None
    ) -> None:
        self.origin = str(binary)
        self._binary = binary
        self._more, self._certificates = dict(options or {}), certificates
        self._home = Path(tempfile.mkdtemp(prefix="rpc-test-redis-"))
        GUARD.remove(str(self._home))
        self._process: Process | None = None
        self._choose_port()

    def _choose_port(self) -> None:
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        if self._certificates is not None:
            self.tls_port = free_port()
            self._more |= tls.redis_options(str(self._certificates.folder), self.tls_port)

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
                self._choose_port()
            else:
                return

    def _boot(self) -> None:
        options = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self._home),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "enable-debug-command": "yes",
            **self._more,
        }
        command = [str(self._binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
        process = self._process = Process(command, port=self.port, env=os.environ, log=self._home / "console.log")
        process.wait_ready(lambda: speaks_redis(self.port), seconds=BOOT_SECONDS, what="redis-server")

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
            raise ServerError("this Redis does not run")
        return self._process
