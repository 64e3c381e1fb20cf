"""The demo's servers: in this process on memory://, in processes of their own on a broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

from resilient_rpc.cli import demo_service
from resilient_rpc.cli.announce import READY
from resilient_rpc.cli.fail import one_line
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.server import Server
from resilient_rpc.transport.base import Transport
from resilient_rpc.transport.open import open_transport
from resilient_rpc.transport.urls import AmqpUrl, parse_url

READY_WITHIN = 30.0
"""Seconds that a server process may take to begin."""
END_WITHIN = 10.0
KNOCK_TIMEOUT = 5.0
TAIL = 4096
"""Bytes of a log that are read for its last line."""


class DemoError(Exception):
    """The demo cannot run; the text says why, in one line."""


@contextmanager
def servers_here(url: str, service: str, count: int) -> Iterator[Sequence[ServerProcess]]:
    """Servers in threads of this process, so none to be killed."""
    with ExitStack() as running:
        for number in range(1, count + 1):
            server = demo_service.build(url, service, name=f"server-{number}")
            server.start()
            running.callback(server.stop)
        yield ()


class ServerProcess:
    """``resilient-rpc serve`` in a process of its own. Its log is kept, to say why it ended."""

    def __init__(
        self,
        url: str,
        service: str,
        *,
        module: str = demo_service.__name__,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start it: ``server`` of `module`, with more `environment`."""
        given = {demo_service.URL_VARIABLE: url, demo_service.SERVICE_VARIABLE: service, **environment}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._heard = threading.Event()
        self._ready = False
        self.killed = False
        self._process = subprocess.Popen(  # noqa: S603 - this very package
            [sys.executable, "-m", "resilient_rpc.cli", "serve", f"{module}:server"],
            env={**os.environ, **given},
            stdin=subprocess.PIPE,  # its end tells the server that this process has ended
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Returns when it takes calls. Raises `DemoError` if it does not in time, or has ended."""
        self._heard.wait(READY_WITHIN)
        if not self._ready:
            raise DemoError(f"a server process did not begin: {self.last_words() or 'it said nothing'}")

    def kill(self) -> None:
        """SIGKILL: it cannot finish, answer or say goodbye."""
        self.killed = True
        self._process.kill()

    def end(self) -> None:
        """`kill`, and wait until it is gone."""
        self.kill()
        self.stop()

    def stop(self) -> None:
        """Let it finish what it has begun, and wait for its end."""
        self._process.terminate()
        try:
            self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()

    def crashed(self) -> str | None:
        """Why it ended, if it did and nobody asked it to."""
        code = self._process.poll()
        if code is None or self.killed:
            return None
        return f"server process {self.pid} ended with {code}: {self.last_words()}"

    def last_words(self) -> str:
        """The last line of its log."""
        log = self._log.fileno()  # its position is the process's, too: it must not move
        lines = os.pread(log, TAIL, max(os.fstat(log).st_size - TAIL, 0)).decode(errors="replace").splitlines()
        return one_line(lines[-1]) if lines else ""

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in self._process.stdout:
            if line.startswith(READY):
                self._ready = True
                self._heard.set()
        self._heard.set()  # it has ended: nobody shall wait for it


@contextmanager
def servers_apart(url: str, service: str, count: int) -> Iterator[Sequence[ServerProcess]]:
    """Servers in processes of their own, all ready."""
    with ExitStack() as running:
        processes = []
        for _ in range(count):
            process = ServerProcess(url, service)
            running.callback(process.stop)
            processes.append(process)
        for process in processes:
            process.wait_ready()
        yield processes


class SupplyHere:
    """One server in a thread of this process after the other: on memory://."""

    def __init__(self, url: str, service: str) -> None:
        self._url, self._service = url, service
        self._server: Server | None = None

    def start(self) -> None:
        """Start one, and wait until it serves."""
        self._server = demo_service.build(self._url, self._service)
        self._server.start()

    def kill(self) -> None:
        """Stop it: a thread cannot be killed."""
        if self._server is not None:
            self._server.stop()
            self._server = None


class SupplyApart:
    """One server process after the other: on a broker."""

    def __init__(self, url: str, service: str) -> None:
        self._url, self._service = url, service
        self._process: ServerProcess | None = None

    def start(self) -> None:
        """Start one, and wait until it serves."""
        self._process = ServerProcess(self._url, self._service)
        self._process.wait_ready()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.end()
            self._process = None


def knock(url: str) -> None:
    """Connect once from here, which says better than three server processes what is wrong with the broker."""
    parsed = parse_url(url)
    attempts = len(parsed.hosts) if isinstance(parsed, AmqpUrl) else 1  # an attempt tries one host
    transport = open_transport(url, name="resilient-rpc demo")
    for left in reversed(range(attempts)):
        try:
            asyncio.run(_connect(transport))
        except ConfigurationError:
            raise
        except Exception as error:
            if not left:
                raise DemoError(f"no connection to {parsed.redacted}: {str(error) or type(error).__name__}") from error
        else:
            return


async def _connect(transport: Transport) -> None:
    publisher = await transport.publisher(_Deaf(), replies=False, timeout=KNOCK_TIMEOUT)
    with contextlib.suppress(OSError):
        await publisher.close()


class _Deaf:
    """Takes a publisher's reports, and does nothing with them."""

    def delivered(self, _delivery: Any) -> None:
        """No replies were asked for."""

    def confirmed(self, _tag: int, _multiple: bool, _ok: bool) -> None:
        """Nothing was published."""

    def returned(self, _correlation_id: str, _code: int, _text: str) -> None:
        """Nothing was published."""

    def blocked(self, _reason: str | None) -> None:
        """Nothing shall be published."""

    def writable(self) -> None:
        """Nothing shall be published."""

    def lost(self, _error: BaseException) -> None:
        """It is about to be closed anyhow."""
