"""A Redis of our own, from a local binary, on a private port, with its data in a temporary folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.servers import binaries, tls
from tests.servers.local import LocalServer
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


class LocalRedis(LocalServer):
    """One Redis, which writes to disk before it answers, so that `kill` loses nothing.

    A test that wants loss says `CONFIG SET appendonly no`. `options` are added to its own.
    """

    def __init__(
        self, binary: Path, options: Mapping[str, str] | None = None, certificates: tls.Certificates | None = None
    ) -> None:
        super().__init__(binary, "Redis")
        self._binary = binary
        self._more, self._certificates = dict(options or {}), certificates
        self._choose_ports()

    def _choose_ports(self) -> None:
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        if self._certificates is not None:
            self.tls_port = free_port()
            self._more |= tls.redis_options(str(self._certificates.folder), self.tls_port)

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
